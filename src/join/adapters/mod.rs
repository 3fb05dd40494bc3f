//! The machine as it is: the [`World`] of files, programs, peers and MAAS.
//!
//! Owns everything that the join touches outside its own process. Decides nothing: what is asked and what is done is
//! the state machine's choice. What reads an answer is a function of its text alone, so that it can be tested with
//! hostile ones. No secret leaves in an argument, an environment or a message: [`Machine`] takes the ticket's secrets
//! out of every text that it fails with.

mod api;
mod certificate;
pub(super) mod database;
mod dhcp;
pub(super) mod etcd;
pub(super) mod health;
pub mod heard;
pub(super) mod http;
pub(super) mod local;
pub(super) mod maas;
mod packaging;
pub(super) mod patroni;
pub(super) mod peers;
mod rack;
mod region;
mod schema;
mod slot;
mod sql;
pub(super) mod units;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use self::http::Http;
use self::local::Neighbours;
use self::peers::{Profile, Voice};
use super::tables::{DatabaseTable, Maas, Tables};
use super::world::{Action, Facts, Local, Member, Question, Record, Trouble, World};
use super::{lay, record};
use crate::report::{Diagnostic, Kind};
use crate::ticket::{Node, Secret, Ticket};

/// Where everything is.
const ROOT: &str = "/";

/// This machine, with what its ticket says.
#[derive(Debug)]
pub struct Machine {
    ticket: Ticket,
    own: Node,
    tables: Tables,
    plain: Http,
    /// None until certificate and key are laid.
    mutual: Option<Http>,
    voice: Option<Voice>,
    record: Record,
    neighbours: Neighbours,
    /// Racks as MAAS listed them last.
    racks: BTreeMap<String, Vec<Ipv4Addr>>,
}

/// A secret that the ticket brings.
fn secret<'a>(ticket: &'a Ticket, name: &str) -> Result<&'a Secret, Trouble> {
    ticket.secrets.get(name).ok_or_else(|| Trouble(format!("the ticket has no secret `{name}`")))
}

impl Machine {
    /// The machine that `ticket` is for.
    ///
    /// # Errors
    /// When the ticket is for nobody, or the record is damaged.
    pub fn new(ticket: &Ticket, tables: &Tables) -> Result<Self, Diagnostic> {
        let nobody = || Diagnostic::error(Kind::Input, format!("the ticket is for no machine: `{}`", ticket.node));
        Ok(Self {
            own: ticket.own().cloned().ok_or_else(nobody)?,
            ticket: ticket.clone(),
            tables: tables.clone(),
            plain: Http::plain(),
            mutual: None,
            voice: None,
            record: record::read(Path::new(ROOT))?,
            neighbours: Neighbours::default(),
            racks: BTreeMap::new(),
        })
    }

    /// Mutual TLS, once the files for it lie.
    fn mutual(&mut self) -> Result<Http, Trouble> {
        let http = match self.mutual.take() {
            Some(http) => http,
            None => Http::mutual()?,
        };
        // A copy shares connections.
        self.mutual = Some(http.clone());
        Ok(http)
    }

    /// This machine speaks as soon as it can prove who it is.
    fn speak(&mut self) {
        if self.voice.is_some() {
            return;
        }
        let profile = Profile {
            address: self.own.address,
            generation: self.ticket.generation,
            version: self.tables.image.version.clone(),
            database: self.tables.database.as_ref().map(|table| table.data.clone()),
        };
        // Certificate or address may not be there yet; the next look tries again.
        self.voice = Voice::raise(profile, self.record.clone()).ok();
        if let Some(voice) = &self.voice {
            voice.knows(&self.racks);
        }
    }

    fn secret(&self, name: &str) -> Result<&Secret, Trouble> {
        secret(&self.ticket, name)
    }

    fn database(&self) -> Result<&DatabaseTable, Trouble> {
        self.tables.database.as_ref().ok_or_else(|| Trouble("this image has no database".to_owned()))
    }

    fn maas(&self) -> Result<&Maas, Trouble> {
        self.tables.maas.as_ref().ok_or_else(|| Trouble("this image has no MAAS".to_owned()))
    }

    fn local(&mut self) -> Result<Local, Trouble> {
        let (address_present, address_taken_by) = self.neighbours.look(self.own.address)?;
        let now = local::now();
        Ok(Local {
            files_laid: lay::laid(Path::new(ROOT), &self.ticket).map_err(plainly)?,
            host_name: local::host_name(),
            address_present,
            address_taken_by,
            now,
            synchronised: local::synchronised(),
            state_in_memory: local::state_in_memory(),
            state_trouble: local::state_trouble(),
            certificate_days: local::certificate_days(now),
            running: units::running(&self.units())?,
            maas_installed: self.maas_installed(),
        })
    }

    /// All units that the join starts on this machine.
    fn units(&self) -> Vec<String> {
        let maas = self.tables.maas.as_ref().map(|maas| maas.units.clone()).unwrap_or_default();
        let mut units = Vec::new();
        if self.own.voter {
            units.push(etcd::UNIT.to_owned());
        }
        if self.tables.database.is_some() {
            units.extend([patroni::UNIT, "haproxy.service", "keepalived.service"].map(str::to_owned));
            units.extend(maas.region);
        } else {
            units.extend(maas.rack);
        }
        units
    }

    /// The members as the quorum lists them, from whichever voter answers.
    fn members(&mut self) -> Result<Vec<Member>, Trouble> {
        let http = self.mutual()?;
        etcd::any_quorum(&http, &self.ticket, |endpoint| endpoint.members())
    }

    fn answer(&mut self, question: Question, facts: &mut Facts) -> Result<(), Trouble> {
        match question {
            Question::Local => {
                self.speak();
                facts.local = Some(self.local()?);
            }
            Question::Name => facts.namesake = Some(peers::namesake(&self.mutual()?, &self.ticket)),
            Question::Etcd => facts.etcd = Some(etcd::look(self.mutual().ok().as_ref(), &self.own)?),
            Question::Peers => facts.peers = Some(peers::look(&self.mutual()?, &self.plain, &self.ticket)),
            Question::Database => {
                let http = self.mutual()?;
                facts.database = Some(database::look(&http, &self.ticket, self.database()?, &self.own)?);
            }
            Question::Schema => facts.schema = Some(self.schema()?),
            Question::Region => {
                let unit = maas::controller(&self.maas()?.units.region, "regiond");
                // The API is asked only where the key is at hand: not knowing is no merge.
                let list = |kind: &str| self.kept_key().and_then(|key| self.api_with(key).read(kind).ok());
                let controllers = list("regioncontrollers/");
                facts.region = Some(region::look(&self.plain, &self.ticket, unit, controllers.as_ref()));
                if let Some(racks) = list("rackcontrollers/") {
                    self.racks = region::addresses(&racks);
                }
                if let Some(voice) = &self.voice {
                    voice.knows(&self.racks);
                }
            }
            Question::Rack => facts.rack = Some(rack::look(&self.plain, &self.ticket, self.maas()?)?),
            Question::Dhcp => facts.dhcp = Some(dhcp::look(&self.api()?, &self.ticket)?),
        }
        Ok(())
    }

    fn perform(&mut self, action: &Action) -> Result<(), Trouble> {
        match action {
            Action::LayFiles => {
                lay::files(Path::new(ROOT), &self.ticket).map_err(plainly)?;
                // Certificates may be new.
                self.mutual = None;
                self.voice = None;
                self.speak();
                Ok(())
            }
            Action::SetHostName => lay::host_name(&self.ticket).map_err(plainly),
            Action::ReloadNetwork => units::reload_network(),
            Action::BootstrapEtcd => etcd::bootstrap(&self.own),
            Action::RemoveMember { id } => {
                let http = self.mutual()?;
                etcd::any_quorum(&http, &self.ticket, |endpoint| endpoint.remove(id))
            }
            Action::AddMember => {
                let url = etcd::peer_url(&self.own);
                if self.members()?.iter().any(|member| member.peer_url == url) {
                    return Ok(());
                }
                let http = self.mutual()?;
                etcd::any_quorum(&http, &self.ticket, |endpoint| endpoint.add(&url))
            }
            Action::StartEtcd => {
                // With data of its own etcd knows its members, and there may be no quorum to ask before it runs.
                let members = if etcd::has_data() { Vec::new() } else { self.members()? };
                etcd::start(&self.own, &members)
            }
            Action::PromoteMember => {
                let url = etcd::peer_url(&self.own);
                let members = self.members()?;
                let own = members.iter().find(|member| member.peer_url == url);
                let own =
                    own.ok_or_else(|| Trouble("the quorum has no member with this machine's address".to_owned()))?;
                if !own.learner {
                    return Ok(());
                }
                let http = self.mutual()?;
                etcd::any_quorum(&http, &self.ticket, |endpoint| endpoint.promote(&own.id))
            }
            Action::YieldEtcdLead => etcd::yield_lead(&self.mutual()?, &self.ticket, &self.own),
            Action::Start { units } => units::start(units),
            Action::Stop { units } => units::stop(units),
            Action::StartPatroni => units::start(&[patroni::UNIT.to_owned()]),
            Action::SetAsideBootstrap => {
                let http = self.mutual()?;
                database::set_aside(&http, &self.ticket, self.database()?)
            }
            Action::CloneAgain => {
                let (http, password) = (self.mutual()?, self.secret("patroni_rest_password")?);
                patroni::Api::at(&http, self.own.address, Some(password)).reinitialise()
            }
            Action::Resume => database::pause(&self.mutual()?, &self.ticket, false),
            Action::Pause => database::pause(&self.mutual()?, &self.ticket, true),
            Action::PrepareDatabase => database::prepare(self.database()?, &self.ticket),
            Action::ReloadSecrets => self.reload_secrets(),
            Action::SetDhcp { subnet } => dhcp::set(&self.api()?, &self.ticket, subnet),
            Action::Migrate => {
                let command = self.prepare(action)?;
                schema::migrate(self.database()?, command, &self.tables.image.version)
            }
            Action::KeepVersion => slot::keep(&self.tables.image),
            Action::PlaceSecret => self.place_secret(),
            Action::InstallMaas | Action::InitialiseMaas => self.carry_out(action),
            Action::CreateAdministrator => self.create_administrator(),
            Action::Register => {
                let command = self.prepare(action)?;
                rack::register(self.maas()?, &self.ticket, command)
            }
        }
    }

    /// A failure without any of the ticket's secrets: a program may repeat what it was told.
    fn discreet(&self, Trouble(text): Trouble) -> Trouble {
        Trouble(without_secrets(text, self.ticket.secrets.values().map(|Secret(secret)| secret.as_str())))
    }
}

impl World for Machine {
    fn look(&mut self, question: Question, facts: &mut Facts) -> Result<(), Trouble> {
        self.answer(question, facts).map_err(|trouble| self.discreet(trouble))
    }

    fn act(&mut self, action: &Action) -> Result<(), Trouble> {
        self.perform(action).map_err(|trouble| self.discreet(trouble))
    }

    fn keep(&mut self, record: &Record) -> Result<(), Trouble> {
        record::keep(Path::new(ROOT), record).map_err(|error| Trouble(error.to_string()))?;
        self.record.clone_from(record);
        if let Some(voice) = &self.voice {
            voice.say(record);
        }
        Ok(())
    }
}

/// A diagnostic as one line.
fn plainly(diagnostic: Diagnostic) -> Trouble {
    Trouble(diagnostic.message)
}

fn without_secrets<'a>(text: String, secrets: impl Iterator<Item = &'a str>) -> String {
    // A very short one would eat words; none is that short.
    let long = secrets.map(str::trim).filter(|secret| secret.len() >= 8);
    long.fold(text, |text, secret| text.replace(secret, "(secret)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_in_a_message() {
        let told = without_secrets("ERROR near 'hunter2hunter2'".to_owned(), ["hunter2hunter2", "x", ""].into_iter());
        assert_eq!(told, "ERROR near '(secret)'");
    }
}
