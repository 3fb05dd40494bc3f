//! What MAAS is told on a machine, as values: for each action the files and commands of its packaging, in their order.
//!
//! A deb's files are the ticket's, and its commands do one thing each. A snap is installed by the join and held there; its
//! settings are written by the join too, since `maas migrate` refuses a snap that does not know what it is, and
//! `maas init`, which would tell it, starts a region before there is a shared secret. `maas init` comes last and keeps what
//! it does not set itself (MAAS's `maascli/snap.py`, `configfile.py`). Does nothing: `maas` and `rack` do.

use std::path::PathBuf;
use std::time::Duration;

use super::maas::database_uri;
use super::secret;
use crate::join::tables::{DatabaseTable, Maas, Tables};
use crate::join::world::{Action, Trouble};
use crate::sys::Program;
use crate::ticket::{Administrator, Secret, Ticket};

/// MAAS's commands load all of MAAS before they do anything.
const COMMAND: Duration = Duration::from_secs(180);

/// A snap of hundreds of megabytes comes over the network.
const INSTALL: Duration = Duration::from_secs(30 * 60);

/// One thing to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// A file of MAAS's is written.
    Write(PathBuf, Secret),
    /// A command is run.
    Run(Command),
}

/// A command of the image's, filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// What it reads from standard input.
    pub input: Secret,
    /// How long it may take.
    pub limit: Duration,
}

impl Command {
    /// The command, ready to be run.
    ///
    /// # Errors
    /// When the image has none.
    pub fn program(&self) -> Result<Program, Trouble> {
        let absent = || Trouble("this image has no such command of MAAS's".to_owned());
        let (program, arguments) = self.words.split_first().ok_or_else(absent)?;
        Ok(Program::new(program, arguments).input(self.input.0.clone()).limit(self.limit))
    }
}

/// What an action comes to: the last deed is what it is about, those before make that possible. None where the packaging
/// has nothing to do for it.
///
/// # Errors
/// When the ticket lacks a secret, or the image a table.
pub fn deeds(action: &Action, ticket: &Ticket, tables: &Tables) -> Result<Vec<Deed>, Trouble> {
    let maas = tables.maas.as_ref().ok_or_else(|| Trouble("this image has no MAAS".to_owned()))?;
    let database = || tables.database.as_ref().ok_or_else(|| Trouble("this image has no database".to_owned()));
    let trimmed = |name: &str| secret(ticket, name).map(|secret| secret.0.trim());
    let commands = &maas.commands;
    let run = |words: &[String], input: String| Deed::Run(command(ticket, words, input));
    let hold = || is_snap(maas).then(|| run(&commands.hold, String::new()));
    let settings = || match is_snap(maas) {
        true => Ok(Some(Deed::Write(maas.paths.regiond.clone(), Secret(region_settings(ticket, maas, database()?)?)))),
        false => Ok(None),
    };
    let mut deeds = Vec::new();
    match action {
        Action::InstallMaas => {
            let install = command(ticket, &commands.install, String::new());
            deeds.push(Deed::Run(Command { limit: INSTALL, ..install }));
            deeds.extend(hold());
        }
        Action::Migrate => {
            deeds.extend(settings()?);
            deeds.extend(maas.paths.mode.clone().map(|mode| Deed::Write(mode, Secret("region".to_owned()))));
            deeds.push(run(&commands.migrate, String::new()));
        }
        Action::PlaceSecret if maas.keeps_secret_in_file() => {
            deeds.push(Deed::Write(maas.paths.secret.clone(), Secret(trimmed("maas_secret")?.to_owned())));
        }
        Action::InitialiseMaas if !commands.initialise.is_empty() => {
            // Held again: whoever was cut off between installing and holding.
            deeds.extend(hold());
            deeds.extend(settings()?);
            let asks = if is_snap(maas) { database_uri(ticket, database()?)? + "\n" } else { String::new() };
            deeds.push(run(&commands.initialise, asks));
        }
        Action::CreateAdministrator => {
            // Twice the password, and no ssh keys.
            let password = trimmed("admin_password")?;
            deeds.push(run(&commands.create_admin, format!("{password}\n{password}\n\n")));
        }
        Action::Register => {
            deeds.extend(hold());
            deeds.push(run(&commands.register, format!("{}\n", trimmed("maas_secret")?)));
        }
        Action::ReloadSecrets if tables.database.is_some() => deeds.extend(settings()?),
        _ => {}
    }
    Ok(deeds)
}

/// A command of the image's: `{vip}`, `{admin}` and `{email}` are the ticket's.
pub fn command(ticket: &Ticket, words: &[String], input: String) -> Command {
    let vip = ticket.cluster.vip.to_string();
    let Administrator { name, email } = &ticket.administrator;
    let fill = |word: &String| word.replace("{vip}", &vip).replace("{admin}", name).replace("{email}", email);
    Command { words: words.iter().map(fill).collect(), input: Secret(input), limit: COMMAND }
}

/// A region's settings, as the ticket brings them to a deb. JSON's strings are YAML's.
fn region_settings(ticket: &Ticket, maas: &Maas, database: &DatabaseTable) -> Result<String, Trouble> {
    let password = secret(ticket, "database_password")?;
    let own = ticket.own().ok_or_else(|| Trouble("the ticket is for no machine".to_owned()))?;
    let mut text = format!(
        "maas_url: http://{}/MAAS\ndatabase_host: 127.0.0.1\ndatabase_port: 5433\ndatabase_name: {}\ndatabase_user: {}\n\
         database_pass: {}\ndatabase_keepalive: true\ndatabase_keepalive_idle: 15\ndatabase_keepalive_interval: 15\n\
         database_keepalive_count: 2\n",
        ticket.cluster.vip,
        database.database,
        database.role,
        serde_json::Value::from(password.0.as_str())
    );
    // Since 3.5, and left out it would be the virtual address on its holder.
    if maas.version != "3.4" {
        text += &format!("broadcast_address: {}\n", own.address);
    }
    Ok(text)
}

/// Whether MAAS is a snap here.
pub(super) fn is_snap(maas: &Maas) -> bool {
    maas.packaging == "snap"
}

#[cfg(test)]
mod tests;
