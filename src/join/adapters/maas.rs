//! What MAAS is told to do on this machine, by its own commands.
//!
//! The commands are the image's (`maas.toml`). A password goes to their prompts: run without a terminal, they read it from
//! standard input.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde_json::Value;

use super::api::{Api, Key};
use super::http::Http;
use super::packaging::{Deed, command, deeds};
use super::schema::Wanted;
use super::{Machine, dhcp, patroni, schema, secret, units};
use crate::join::durable::{self, Belongs};
use crate::join::tables::{DatabaseTable, Maas, Tables};
use crate::join::world::{Action, Schema, Trouble};
use crate::sys::Program;
use crate::ticket::{Kind, Node, Ticket};

/// Where the administrator's API key is kept.
const API_KEY: &str = "/var/lib/rolecast/api-key";

impl Machine {
    /// Whether MAAS is on this machine.
    pub(super) fn maas_installed(&self) -> bool {
        let place = self.tables.maas.as_ref().and_then(|maas| maas.paths.installed.as_ref());
        place.is_none_or(|place| place.exists())
    }

    /// Does what an action comes to.
    pub(super) fn carry_out(&self, action: &Action) -> Result<(), Trouble> {
        deeds(action, &self.ticket, &self.tables)?.iter().try_for_each(do_one)
    }

    /// Does what comes before the command that an action is about, and gives that command.
    pub(super) fn prepare(&self, action: &Action) -> Result<Program, Trouble> {
        let mut deeds = deeds(action, &self.ticket, &self.tables)?;
        let Some(Deed::Run(command)) = deeds.pop() else {
            return Err(Trouble("this image has no such command of MAAS's".to_owned()));
        };
        deeds.iter().try_for_each(do_one)?;
        command.program()
    }

    pub(super) fn schema(&self) -> Result<Schema, Trouble> {
        let maas = self.maas()?;
        let source = maas.schema.as_ref().ok_or_else(|| Trouble("this image has no schema of MAAS's".to_owned()))?;
        let secret = self.secret("maas_secret")?.0.trim();
        let wanted = Wanted {
            secret: (!maas.keeps_secret_in_file()).then_some(secret),
            administrator: &self.ticket.administrator.name,
            version: &self.tables.image.version,
        };
        let mut answer = schema::look(self.database()?, source, wanted)?;
        if maas.keeps_secret_in_file() {
            answer.secret_right = fs::read_to_string(&maas.paths.secret).is_ok_and(|text| text.trim() == secret);
        }
        Ok(answer)
    }

    pub(super) fn place_secret(&self) -> Result<(), Trouble> {
        if self.maas()?.keeps_secret_in_file() {
            return self.carry_out(&Action::PlaceSecret);
        }
        schema::place_secret(self.database()?, self.secret("maas_secret")?.0.trim())
    }

    pub(super) fn create_administrator(&self) -> Result<(), Trouble> {
        let said = self.prepare(&Action::CreateAdministrator)?.ask();
        let said = said.map_err(|error| Trouble(error.to_string()))?;
        // One that is there already was made by a run that was cut off.
        if !said.status.success() && !said.errors.contains("already exists") {
            return Err(Trouble(format!("the administrator cannot be created: {}", said.reason())));
        }
        self.fetch_key().map(drop)
    }

    /// MAAS's API on this machine.
    pub(super) fn api(&self) -> Result<Api<'_>, Trouble> {
        let key = match self.kept_key() {
            Some(key) => key,
            None => self.fetch_key()?,
        };
        Ok(self.api_with(key))
    }

    pub(super) fn api_with(&self, key: Key) -> Api<'_> {
        Api::at(&self.plain, Ipv4Addr::LOCALHOST, key)
    }

    /// The key as it was fetched before.
    pub(super) fn kept_key(&self) -> Option<Key> {
        kept_key()
    }

    /// Asks MAAS for the administrator's key and keeps it, root's alone.
    fn fetch_key(&self) -> Result<Key, Trouble> {
        fetch_key(&self.ticket, self.maas()?)
    }

    /// What reads a secret only when it starts is restarted, the rest reads it again. etcd reads certificates at every
    /// handshake.
    pub(super) fn reload_secrets(&self) -> Result<(), Trouble> {
        let Some(maas) = &self.tables.maas else { return Ok(()) };
        if self.maas_installed() {
            self.carry_out(&Action::ReloadSecrets)?;
        }
        if self.tables.database.is_some() {
            units::reload(&[patroni::UNIT, "haproxy.service"])?;
            return units::restart(&maas.units.region);
        }
        units::restart(&maas.units.rack)
    }
}

/// Does one deed.
fn do_one(deed: &Deed) -> Result<(), Trouble> {
    match deed {
        Deed::Write(path, content) => put(path, content.0.as_bytes()),
        Deed::Run(command) => command.program()?.run().map(drop).map_err(|error| Trouble(error.to_string())),
    }
}

/// Where MAAS finds its database, with the password in it.
pub(super) fn database_uri(ticket: &Ticket, database: &DatabaseTable) -> Result<String, Trouble> {
    let password = &secret(ticket, "database_password")?.0;
    Ok(format!("postgres://{}:{password}@127.0.0.1:5433/{}", database.role, database.database))
}

fn kept_key() -> Option<Key> {
    fs::read_to_string(API_KEY).ok().and_then(|text| Key::parse(&text))
}

/// Asks MAAS for the administrator's key and keeps it, root's alone.
fn fetch_key(ticket: &Ticket, maas: &Maas) -> Result<Key, Trouble> {
    let said = command(ticket, &maas.commands.api_key, String::new())
        .program()?
        .run()
        .map_err(|error| Trouble(error.to_string()))?;
    let key = said.lines().find_map(|line| Some((line, Key::parse(line)?)));
    let (line, key) = key.ok_or_else(|| Trouble("MAAS has no API key for the administrator".to_owned()))?;
    let line = format!("{}\n", line.trim());
    durable::write(Path::new("/"), Path::new(API_KEY), line.as_bytes(), Belongs::mine())
        .map_err(|error| Trouble(error.to_string()))?;
    Ok(key)
}

/// A machine as a controller of MAAS's, and the key with which it can be deleted.
#[derive(Debug)]
pub struct Controller {
    key: Key,
    place: String,
    through: Vec<Ipv4Addr>,
}

/// Looks a machine up, while MAAS still runs here. Only a region has the key.
///
/// # Errors
/// When this is no region, no region other than that machine answers, or MAAS does not know it.
pub fn find(ticket: &Ticket, tables: &Tables, http: &Http, node: &Node) -> Result<Controller, Trouble> {
    let no_region = || {
        Trouble(format!("only a region has the key to its API; run `rolecast-join leave --node {}` on one", node.name))
    };
    let own = ticket.own().filter(|own| own.kind == Kind::Region).ok_or_else(no_region)?;
    let maas = tables.maas.as_ref().ok_or_else(|| Trouble("this image has no MAAS".to_owned()))?;
    let key = kept_key().map_or_else(|| fetch_key(ticket, maas), Ok)?;
    // This region first, where it is another one that goes.
    let (here, others): (Vec<&Node>, Vec<&Node>) =
        ticket.cluster.regions().filter(|region| region.name != node.name).partition(|region| region.name == own.name);
    let through: Vec<Ipv4Addr> = here.iter().chain(&others).map(|region| region.address).collect();
    let kind = if node.kind == Kind::Region { "regioncontrollers" } else { "rackcontrollers" };
    let ask = |address: &Ipv4Addr| Api::at(http, *address, key.clone()).read(&format!("{kind}/")).ok();
    let list = through.iter().find_map(ask).ok_or_else(|| Trouble("no other region answers".to_owned()))?;
    let place = place(&list, kind, &node.name).ok_or_else(|| Trouble("MAAS does not list it".to_owned()))?;
    Ok(Controller { place, key, through })
}

/// Where the API has the controller of this name.
fn place(list: &Value, kind: &str, name: &str) -> Option<String> {
    let id = dhcp::rack(list, name)?["system_id"].as_str()?;
    let plain = !id.is_empty() && id.chars().all(|one| one.is_ascii_alphanumeric());
    plain.then(|| format!("{kind}/{id}/"))
}

impl Controller {
    /// Deletes it through another region; MAAS refuses while it runs.
    ///
    /// # Errors
    /// When no other region does it.
    pub fn delete(&self, http: &Http) -> Result<String, Trouble> {
        let mut last = Trouble("no other region answers".to_owned());
        for address in &self.through {
            match Api::at(http, *address, self.key.clone()).delete(&self.place) {
                Ok(()) => return Ok("deleted from MAAS".to_owned()),
                Err(trouble) => last = trouble,
            }
        }
        Err(last)
    }
}

/// The unit among MAAS's whose journal is the controller's: the one with `kind` in its name, or the last.
pub(super) fn controller<'a>(units: &'a [String], kind: &str) -> Option<&'a str> {
    units.iter().find(|unit| unit.contains(kind)).or(units.last()).map(String::as_str)
}

/// Writes a file of MAAS's: it belongs to whom its directory belongs to, and nobody else reads it.
pub(super) fn put(path: &Path, content: &[u8]) -> Result<(), Trouble> {
    let directory = path.parent().unwrap_or(path);
    let about = fs::metadata(directory).map_err(|error| Trouble(format!("`{}`: {error}", directory.display())))?;
    let belongs = Belongs { user: about.uid(), group: about.gid(), mode: 0o640 };
    durable::write(Path::new("/"), path, content, belongs).map_err(|error| Trouble(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_maas_belong_to_whom_their_directory_belongs_to_and_nobody_else_reads_them() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        put(&path, b"hunter2").unwrap();
        let (file, place) = (fs::metadata(&path).unwrap(), fs::metadata(directory.path()).unwrap());
        assert_eq!((file.uid(), file.gid()), (place.uid(), place.gid()));
        assert_eq!(file.permissions().mode() & 0o7777, 0o640);
    }

    #[test]
    fn the_journal_to_read_is_the_controllers() {
        let units = ["named.service", "maas-regiond.service", "maas-proxy.service"].map(str::to_owned);
        assert_eq!(controller(&units, "region"), Some("maas-regiond.service"));
        assert_eq!(controller(&units, "rackd"), Some("maas-proxy.service"));
        assert_eq!(controller(&[], "rackd"), None);
    }

    #[test]
    fn a_controller_is_deleted_by_the_id_that_maas_gave_it() {
        let list = serde_json::json!([{ "hostname": "rack-1", "system_id": "aB3" }, { "hostname": "rack-2", "system_id": "../x" }]);
        assert_eq!(place(&list, "rackcontrollers", "rack-1").as_deref(), Some("rackcontrollers/aB3/"));
        assert_eq!(place(&list, "rackcontrollers", "rack-2"), None);
        assert_eq!(place(&list, "rackcontrollers", "rack-3"), None);
    }
}
