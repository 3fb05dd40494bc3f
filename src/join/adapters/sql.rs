//! PostgreSQL through its own psql, as user postgres over the local socket (peer authentication).
//!
//! SQL goes to standard input: what is secret in it is in no argument and, told so first, in no log.

use std::time::Duration;

use crate::join::tables::DatabaseTable;
use crate::join::world::Trouble;
use crate::sys::Program;
use crate::sys::program::Session;

/// Where the local socket is.
const SOCKET: &str = "/run/postgresql";

/// Said first: no statement of ours is logged, whether it succeeds, fails or is slow.
const QUIET: &str = "SET log_statement = 'none'; SET log_min_error_statement = 'panic'; \
                     SET log_min_duration_statement = -1; SET log_min_duration_sample = -1;\n";

/// Runs `script` in `database` and returns its rows, fields between tabs.
///
/// # Errors
/// When PostgreSQL does not run here, or at the first statement that fails.
pub fn run(settings: &DatabaseTable, database: &str, script: &str, limit: Duration) -> Result<String, Trouble> {
    psql(settings, database)
        .input(format!("{QUIET}{script}"))
        .limit(limit)
        .run()
        .map_err(|error| Trouble(error.to_string()))
}

/// A session that stays open until it is dropped, for a lock that lasts as long.
///
/// # Errors
/// When PostgreSQL does not run here.
pub fn session(settings: &DatabaseTable, database: &str) -> Result<Session, Trouble> {
    psql(settings, database).session().map_err(|error| Trouble(error.to_string()))
}

fn psql(settings: &DatabaseTable, database: &str) -> Program {
    // setpriv(1) changes the user and nothing else: no session is opened, none is logged.
    let user = ["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"].map(str::to_owned);
    let program = settings.binaries.join("psql").display().to_string();
    let arguments = [
        "--no-psqlrc",
        "--quiet",
        "--no-align",
        "--tuples-only",
        "--field-separator=\t",
        "--set=ON_ERROR_STOP=1",
        "--username=postgres",
        "--no-password",
    ];
    let place = [format!("--host={SOCKET}"), format!("--dbname={database}")];
    let arguments = user.into_iter().chain([program]).chain(arguments.map(str::to_owned)).chain(place);
    Program::new("setpriv", arguments).variable("PGCONNECT_TIMEOUT", "5")
}

/// A text as a literal (PostgreSQL manual, 4.1.2.1; `standard_conforming_strings` is on since 9.1).
///
/// # Errors
/// When it holds a zero byte, which no text of PostgreSQL can.
pub fn literal(text: &str) -> Result<String, Trouble> {
    match text.contains('\0') {
        true => Err(Trouble("a text for the database holds a zero byte".to_owned())),
        false => Ok(format!("'{}'", text.replace('\'', "''"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_cannot_be_left() {
        assert_eq!(literal("it's").unwrap(), "'it''s'");
        assert_eq!(literal("a\\'; DROP ROLE x; --").unwrap(), "'a\\''; DROP ROLE x; --'");
        assert!(literal("a\0b").is_err());
    }
}
