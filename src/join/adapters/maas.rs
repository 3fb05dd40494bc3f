//! What MAAS is told to do on this machine, by its own commands.
//!
//! The commands are the image's (`maas.toml`). A password goes to their prompts: run without a terminal, they read it from
//! standard input.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::api::{Api, Key};
use super::schema::Wanted;
use super::{Machine, laying, patroni, schema, units};
use crate::join::world::{Schema, Trouble};
use crate::sys::Program;

/// Where the administrator's API key is kept.
const API_KEY: &str = "/var/lib/rolecast/api-key";

/// MAAS's commands load all of MAAS before they do anything.
const COMMAND: Duration = Duration::from_secs(180);

impl Machine {
    /// A command of the image's, filled in.
    pub(super) fn command(&self, words: &[String]) -> Result<Program, Trouble> {
        let vip = self.ticket.cluster.vip.to_string();
        let administrator = &self.ticket.administrator;
        let fill = |word: &String| {
            word.replace("{vip}", &vip).replace("{admin}", &administrator.name).replace("{email}", &administrator.email)
        };
        match words.split_first() {
            Some((name, rest)) => Ok(Program::new(name, rest.iter().map(fill)).limit(COMMAND)),
            None => Err(Trouble("this image has no such command of MAAS's".to_owned())),
        }
    }

    pub(super) fn schema(&self) -> Result<Schema, Trouble> {
        let maas = &self.settings.maas;
        let source = maas.schema.as_ref().ok_or_else(|| Trouble("this image has no schema of MAAS's".to_owned()))?;
        let secret = self.secret("maas_secret")?.0.trim();
        let wanted = Wanted {
            secret: (!maas.secret_in_file()).then_some(secret),
            administrator: &self.ticket.administrator.name,
        };
        let mut answer = schema::look(self.database()?, source, wanted)?;
        if maas.secret_in_file() {
            answer.secret_right = fs::read_to_string(&maas.paths.secret).is_ok_and(|text| text.trim() == secret);
        }
        Ok(answer)
    }

    pub(super) fn place_secret(&self) -> Result<(), Trouble> {
        let secret = self.secret("maas_secret")?.0.trim();
        if self.settings.maas.secret_in_file() {
            let owner = laying::Names::read()?.of("maas", "maas")?;
            return laying::put(&self.settings.maas.paths.secret, secret.as_bytes(), owner, "0640");
        }
        schema::place_secret(self.database()?, secret)
    }

    /// Once, before MAAS's units start. A snap is held first, so that it never refreshes itself, and asks for what is
    /// secret.
    pub(super) fn initialise_maas(&self) -> Result<(), Trouble> {
        let maas = &self.settings.maas;
        let run = |program: Program| program.run().map(drop).map_err(|error| Trouble(error.to_string()));
        if maas.packaging == "snap" {
            run(Program::new("snap", ["refresh", "--hold", "maas"]).limit(COMMAND))?;
        }
        if maas.commands.initialise.is_empty() {
            return Ok(());
        }
        let command = self.command(&maas.commands.initialise)?;
        if maas.packaging != "snap" {
            return run(command);
        }
        let database = self.database()?;
        let password = &self.secret("database_password")?.0;
        run(command.input(format!("postgres://{}:{password}@127.0.0.1:5433/{}\n", database.role, database.database)))
    }

    pub(super) fn create_administrator(&self) -> Result<(), Trouble> {
        let password = &self.secret("admin_password")?.0;
        // Twice the password, and no ssh keys.
        let command = self.command(&self.settings.maas.commands.create_admin)?;
        let said = command.input(format!("{password}\n{password}\n\n")).ask();
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
        Api::new(&self.plain, key)
    }

    /// The key as it was fetched before.
    pub(super) fn kept_key(&self) -> Option<Key> {
        fs::read_to_string(API_KEY).ok().and_then(|text| Key::parse(&text))
    }

    /// Asks MAAS for the administrator's key and keeps it, root's alone.
    fn fetch_key(&self) -> Result<Key, Trouble> {
        let said = self.command(&self.settings.maas.commands.api_key)?.run();
        let said = said.map_err(|error| Trouble(error.to_string()))?;
        let (line, key) = said
            .lines()
            .find_map(|line| Some((line, Key::parse(line)?)))
            .ok_or_else(|| Trouble("MAAS has no API key for the administrator".to_owned()))?;
        laying::put(Path::new(API_KEY), format!("{}\n", line.trim()).as_bytes(), (0, 0), "0600")?;
        Ok(key)
    }

    /// What reads a secret only when it starts is restarted, the rest reads it again. etcd reads certificates at every
    /// handshake.
    pub(super) fn reload_secrets(&self) -> Result<(), Trouble> {
        if self.settings.database.is_some() {
            units::reload(&[patroni::UNIT, "haproxy.service"])?;
            return units::restart(&self.settings.maas.units.region);
        }
        units::restart(&self.settings.maas.units.rack)
    }
}
