//! The machine as it is: the [`World`] of files, programs, peers and MAAS.
//!
//! Owns everything that the join touches outside its own process. Decides nothing: what is asked and what is done is
//! the state machine's choice. What reads an answer is a function of its text alone, so that it can be tested with
//! hostile ones. No secret leaves in an argument, an environment or a message: [`Machine`] takes the ticket's secrets
//! out of every text that it fails with.

mod api;
mod certificate;
mod database;
mod dhcp;
mod etcd;
mod http;
mod laying;
mod local;
mod maas;
mod patroni;
mod peers;
mod rack;
mod region;
mod schema;
mod settings;
mod sql;
mod units;

use std::path::Path;

use self::http::Http;
use self::local::Neighbours;
pub use self::settings::Settings;
use self::peers::{Profile, Voice};
use super::world::{Action, Facts, Local, Member, Question, Record, Trouble, World};
use crate::report::{Diagnostic, Kind};
use crate::sys::files;
use crate::ticket::{Node, Secret, Ticket};

/// Where the record is kept, on state.
pub const RECORD: &str = "/var/lib/rolecast/record.json";

/// This machine, with what its ticket says.
#[derive(Debug)]
pub struct Machine {
    ticket: Ticket,
    own: Node,
    settings: Settings,
    plain: Http,
    /// None until certificate and key are laid.
    mutual: Option<Http>,
    voice: Option<Voice>,
    record: Record,
    neighbours: Neighbours,
}

impl Machine {
    /// The machine that `ticket` is for.
    ///
    /// # Errors
    /// When it runs no image of rolecast, or a broken one.
    pub fn new(ticket: Ticket) -> Result<Self, Diagnostic> {
        let own = ticket.own().cloned();
        let own = own.ok_or_else(|| {
            Diagnostic::error(
                Kind::Input,
                format!("the ticket is for `{}`, which is none of its machines", ticket.node),
            )
        })?;
        Ok(Self {
            own,
            settings: Settings::read()?,
            plain: Http::plain(),
            mutual: None,
            voice: None,
            record: Self::record().map_err(|Trouble(why)| Diagnostic::error(Kind::World, why))?.etcd,
            neighbours: Neighbours::default(),
            ticket,
        })
    }

    /// The record as it was kept last; a new one where there is none.
    ///
    /// # Errors
    /// When it is there and cannot be understood: a machine that forgot what it did must not do it again.
    pub fn record() -> Result<Record, Trouble> {
        let path = Path::new(RECORD);
        if !path.exists() {
            return Ok(Record { format: 1, ..Record::default() });
        }
        let text = files::read(path).map_err(|error| Trouble(error.to_string()))?;
        read_record(&text)
    }

    /// What the image says of itself.
    pub fn settings(&self) -> &Settings {
        &self.settings
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
            version: self.version.clone(),
            database: self.settings.database.as_ref().map(|settings| settings.data.clone()),
        };
        // Certificate or address may not be there yet; the next look tries again.
        self.voice = Voice::raise(profile, self.record.clone()).ok();
    }

    fn secret(&self, name: &str) -> Result<&Secret, Trouble> {
        self.ticket.secrets.get(name).ok_or_else(|| Trouble(format!("the ticket has no secret `{name}`")))
    }

    fn database(&self) -> Result<&settings::Database, Trouble> {
        self.settings.database.as_ref().ok_or_else(|| Trouble("this image has no database".to_owned()))
    }

    fn local(&mut self) -> Result<Local, Trouble> {
        let (address_present, address_taken_by) = self.neighbours.look(self.own.address)?;
        let now = local::now();
        Ok(Local {
            files_laid: laying::are_laid(&self.ticket.files)?,
            host_name: local::host_name(),
            address_present,
            address_taken_by,
            now,
            synchronised: local::synchronised(),
            state_in_memory: local::state_in_memory(),
            state_trouble: local::state_trouble(),
            certificate_days: local::certificate_days(now),
            running: units::running(&self.units())?,
        })
    }

    /// All units that the join starts on this machine.
    fn units(&self) -> Vec<String> {
        let maas = &self.settings.maas.units;
        let mut units = Vec::new();
        if self.own.voter {
            units.push(etcd::UNIT.to_owned());
        }
        if self.settings.database.is_some() {
            units.extend([patroni::UNIT, "haproxy.service", "keepalived.service"].map(str::to_owned));
            units.extend(maas.region.iter().cloned());
        } else {
            units.extend(maas.rack.iter().cloned());
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
            Question::Etcd => facts.etcd = Some(etcd::look(self.mutual().ok().as_ref(), &self.own)?),
            Question::Peers => facts.peers = Some(peers::look(&self.mutual()?, &self.plain, &self.ticket)),
            Question::Database => {
                let http = self.mutual()?;
                facts.database = Some(database::look(&http, &self.ticket, self.database()?, &self.own)?);
            }
            Question::Schema => facts.schema = Some(self.schema()?),
            Question::Region => {
                let unit = settings::Maas::controller(&self.settings.maas.units.region, "regiond");
                // The API is asked only where the key is at hand: not knowing is no merge.
                let controllers = self.kept_key().and_then(|key| self.api_with(key).read("regioncontrollers/").ok());
                facts.region = Some(region::look(&self.plain, &self.ticket, unit, controllers.as_ref()));
            }
            Question::Rack => facts.rack = Some(rack::look(&self.plain, &self.ticket, &self.settings.maas)?),
            Question::Dhcp => facts.dhcp = Some(dhcp::look(&self.api()?, &self.ticket)?),
        }
        Ok(())
    }

    fn perform(&mut self, action: &Action) -> Result<(), Trouble> {
        match action {
            Action::LayFiles => {
                laying::lay(&self.ticket.files)?;
                // Certificates may be new.
                self.mutual = None;
                self.voice = None;
                self.speak();
                Ok(())
            }
            Action::SetHostName => local::set_host_name(&self.own.name),
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
            Action::Start { units } => units::start(units),
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
            Action::Migrate => schema::migrate(self.database()?, self.command(&self.settings.maas.commands.migrate)?),
            Action::PlaceSecret => self.place_secret(),
            Action::InitialiseMaas => self.initialise_maas(),
            Action::CreateAdministrator => self.create_administrator(),
            Action::Register => {
                let command = self.command(&self.settings.maas.commands.register)?;
                rack::register(&self.settings.maas, &self.ticket, command)
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
        // A value of plain fields always serializes.
        let text = serde_json::to_string_pretty(record).unwrap_or_default() + "\n";
        laying::put(Path::new(RECORD), text.as_bytes(), (0, 0), "0600")?;
        self.record.clone_from(record);
        if let Some(voice) = &self.voice {
            voice.say(record);
        }
        Ok(())
    }
}

fn read_record(text: &[u8]) -> Result<Record, Trouble> {
    let damaged = |why: &dyn std::fmt::Display| Trouble(format!("`{RECORD}` is damaged: {why}"));
    let record: Record = serde_json::from_slice(text).map_err(|error| damaged(&error))?;
    match record.format {
        1 => Ok(record),
        other => Err(damaged(&format!("it has format {other}, and this program knows 1"))),
    }
}

fn without_secrets<'a>(text: String, secrets: impl Iterator<Item = &'a str>) -> String {
    // A very short one would eat words; none is that short.
    let long = secrets.map(str::trim).filter(|secret| secret.len() >= 8);
    long.fold(text, |text, secret| text.replace(secret, "(secret)"))
}

#[cfg(test)]
mod testing {
    //! A ticket to test with.

    use std::net::Ipv4Addr;

    use crate::ticket::{Administrator, Cluster, FORMAT, Kind, Node, Ticket};

    /// The ticket of `region-1` in a cluster of two regions and a rack.
    pub fn ticket() -> Ticket {
        let node = |name: &str, kind, last| Node {
            name: name.to_owned(),
            kind,
            address: Ipv4Addr::new(10, 77, 0, last),
            voter: true,
        };
        Ticket {
            format: FORMAT,
            image: "lab".into(),
            role: "region-primary".into(),
            node: "region-1".into(),
            generation: 1,
            issued: 0,
            cluster: Cluster {
                name: "lab".into(),
                vip: Ipv4Addr::new(10, 77, 0, 10),
                prefix: 24,
                nodes: vec![
                    node("region-1", Kind::Region, 11),
                    node("region-2", Kind::Region, 12),
                    node("rack-1", Kind::Rack, 21),
                ],
                dhcp: vec![],
            },
            administrator: Administrator { name: "admin".into(), email: "admin@example.com".into() },
            memory_state: false,
            files: vec![],
            secrets: std::collections::BTreeMap::new(),
            withheld: vec![],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_and_a_damaged_one_does_not() {
        let record = Record { format: 1, etcd: EtcdRecord::Adding, database_begun: true, ..Record::default() };
        assert_eq!(read_record(serde_json::to_string(&record).unwrap().as_bytes()), Ok(record));
        for damaged in [&b""[..], b"{}", b"{\"format\":2}", b"{\"format\":1,\"etcd\":\"perhaps\"}"] {
            assert!(read_record(damaged).is_err(), "{damaged:?}");
        }
    }

    #[test]
    fn no_secret_is_in_a_message() {
        let told = without_secrets("ERROR near 'hunter2hunter2'".to_owned(), ["hunter2hunter2", "x", ""].into_iter());
        assert_eq!(told, "ERROR near '(secret)'");
    }
}
