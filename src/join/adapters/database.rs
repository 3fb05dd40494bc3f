//! The database of this machine: its data directory, its place in Patroni's cluster, and the roles in it.
//!
//! Never starts, stops, promotes or deletes a database: Patroni alone does.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::http::Http;
use super::patroni::{self, Api, Cluster};
use super::{etcd, sql, units};
use crate::join::tables::DatabaseTable;
use crate::join::world::{Data, Database, Trouble};
use crate::ticket::{Node, Ticket};

/// HAProxy's socket for questions (HAProxy management guide, 9.3).
const PROXY: &str = "/run/haproxy/admin.sock";

/// The part of HAProxy that leads to the writable database.
const ENDPOINT: &str = "database";

/// Roles and the secrets that are their passwords. MAAS's own comes from the settings.
const ROLES: &[(&str, &str)] =
    &[("postgres", "superuser_password"), ("replicator", "replication_password"), ("rewind", "rewind_password")];

/// The role of pg_rewind, with the four functions that it needs (PostgreSQL manual, pg_rewind).
const REWIND: &str = "SELECT 'CREATE ROLE rewind LOGIN' \
    WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'rewind') \\gexec\n\
    GRANT EXECUTE ON FUNCTION pg_ls_dir(text, boolean, boolean), pg_stat_file(text, boolean), \
    pg_read_binary_file(text), pg_read_binary_file(text, bigint, bigint, boolean) TO rewind;\n";

/// [`crate::join::world::Question::Database`].
///
/// # Errors
/// When etcd has no quorum, or systemd does not answer.
pub fn look(http: &Http, ticket: &Ticket, settings: &DatabaseTable, own: &Node) -> Result<Database, Trouble> {
    let cluster = cluster(http, ticket)?;
    let state = Api::at(http, own.address, None).member().ok().map(|member| member.state);
    Ok(Database {
        data: data(&settings.data, &settings.version),
        members: cluster.members.into_iter().map(|(name, member)| (name, member.state)).collect(),
        initialised: cluster.initialised,
        leader: cluster.leader,
        running: !units::running(&[patroni::UNIT.to_owned()])?.is_empty(),
        state: state.filter(|state| !state.is_empty()),
        paused: cluster.paused,
        writable: endpoint().is_some_and(|shown| leads_somewhere(&shown, ENDPOINT)),
    })
}

/// Patroni's cluster, as a quorum of etcd has it.
///
/// # Errors
/// When there is no quorum.
pub fn cluster(http: &Http, ticket: &Ticket) -> Result<Cluster, Trouble> {
    let prefix = patroni::prefix(&ticket.cluster.name);
    let keys = etcd::any_quorum(http, ticket, |endpoint| endpoint.keys(&prefix))?;
    Ok(Cluster::of(&keys, &prefix))
}

/// Whether a directory is missing or holds nothing.
///
/// # Errors
/// When it cannot be read.
pub fn is_empty(directory: &Path) -> std::io::Result<bool> {
    match fs::read_dir(directory) {
        // A file system of its own has this one at its top.
        Ok(mut entries) => Ok(entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == "lost+found"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// What a data directory holds. The control file begins with the system identifier, in the machine's byte order
/// (PostgreSQL's `pg_control.h`, since 8.0), and a base backup writes it last.
pub fn data(directory: &Path, version: &str) -> Data {
    match is_empty(directory) {
        Ok(true) => return Data::Empty,
        Ok(false) => {}
        Err(error) => return Data::Broken(format!("`{}` cannot be read: {error}", directory.display())),
    }
    let major = fs::read_to_string(directory.join("PG_VERSION")).unwrap_or_default();
    let control = fs::read(directory.join("global/pg_control")).unwrap_or_default();
    match control.first_chunk::<8>().map(|bytes| u64::from_ne_bytes(*bytes)) {
        None | Some(0) => Data::Broken(
            "it has no control file: a cluster that was being made or copied when it was cut off".to_owned(),
        ),
        Some(_) if major.trim() != version => {
            Data::Broken(format!("it is PostgreSQL {}'s, and this image brings {version}", major.trim()))
        }
        Some(identifier) => Data::Cluster(identifier.to_string()),
    }
}

/// What HAProxy says of its servers, CSV.
fn endpoint() -> Option<String> {
    let mut socket = UnixStream::connect(PROXY).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    socket.set_write_timeout(Some(Duration::from_secs(2))).ok()?;
    socket.write_all(format!("show stat {ENDPOINT} 4 -1\n").as_bytes()).ok()?;
    let mut shown = String::new();
    socket.take(1 << 20).read_to_string(&mut shown).ok()?;
    Some(shown)
}

/// Whether one of the proxy's servers is up: its check is Patroni's `/primary`, which only the holder of the leader lock
/// answers with 200. Columns by name, from the line that begins with `#`.
fn leads_somewhere(shown: &str, proxy: &str) -> bool {
    let mut lines = shown.lines().filter(|line| !line.is_empty());
    let heads: Vec<&str> = lines.next().unwrap_or_default().trim_start_matches("# ").split(',').collect();
    let column = |name: &str| heads.iter().position(|head| *head == name);
    let (Some(name), Some(status)) = (column("pxname"), column("status")) else { return false };
    lines.any(|line| {
        let fields: Vec<&str> = line.split(',').collect();
        fields.get(name) == Some(&proxy) && fields.get(status).is_some_and(|status| status.starts_with("UP"))
    })
}

/// Moves aside what this machine's own cut-off bootstrap left, and takes its empty claim back. Deletes nothing.
///
/// # Errors
/// When Patroni runs, the directory holds a whole cluster, or the claim is no longer empty.
pub fn set_aside(http: &Http, ticket: &Ticket, settings: &DatabaseTable) -> Result<(), Trouble> {
    if !units::running(&[patroni::UNIT.to_owned()])?.is_empty() {
        return Err(Trouble("Patroni runs: what it is making is not moved".to_owned()));
    }
    match data(&settings.data, &settings.version) {
        Data::Cluster(identifier) => {
            return Err(Trouble(format!("the data directory holds a whole database ({identifier}): it is not moved")));
        }
        Data::Empty => {}
        Data::Broken(_) => {
            let aside = settings.data.with_file_name(format!("cut-off-{}", super::local::now()));
            fs::rename(&settings.data, &aside).map_err(|error| {
                Trouble(format!("cannot move the data directory to `{}`: {error}", aside.display()))
            })?;
        }
    }
    let key = format!("{}initialize", patroni::prefix(&ticket.cluster.name));
    etcd::any_quorum(http, ticket, |endpoint| endpoint.delete_empty(&key))
}

/// Makes MAAS's role and database where they are missing, gives all roles the ticket's passwords, and records the
/// generation of secrets that they are from. On the leader.
///
/// # Errors
/// When the database is not writable here.
pub fn prepare(settings: &DatabaseTable, ticket: &Ticket) -> Result<(), Trouble> {
    let script = preparation(settings, ticket)?;
    sql::run(settings, "postgres", &script, Duration::from_secs(60)).map(drop)
}

fn preparation(settings: &DatabaseTable, ticket: &Ticket) -> Result<String, Trouble> {
    let secret = |name: &str| super::secret(ticket, name).map(|secret| secret.0.as_str());
    let role = sql::literal(&settings.role)?;
    let database = sql::literal(&settings.database)?;
    // A bootstrap that was cut off may have left Patroni's own roles out (Patroni, "Replication modes", pg_rewind).
    let mut script = REWIND.to_owned();
    for (name, rights) in [("replicator", "LOGIN REPLICATION"), (settings.role.as_str(), "LOGIN")] {
        let name = sql::literal(name)?;
        script += &format!(
            "SELECT format('CREATE ROLE %I {rights}', {name}) \
             WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {name}) \\gexec\n"
        );
    }
    let roles = ROLES.iter().copied().chain([(settings.role.as_str(), "database_password")]);
    for (name, password) in roles {
        let (name, password) = (sql::literal(name)?, sql::literal(secret(password)?)?);
        script += &format!(
            "SELECT format('ALTER ROLE %I PASSWORD %L', {name}, {password}) \
             WHERE EXISTS (SELECT FROM pg_roles WHERE rolname = {name}) \\gexec\n"
        );
    }
    // Since 3.5 MAAS's role has to own its database.
    script += &format!(
        "SELECT format('CREATE DATABASE %I OWNER %I', {database}, {role}) \
         WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = {database}) \\gexec\n\
         SELECT format('ALTER DATABASE %I OWNER TO %I', {database}, {role}) \\gexec\n\
         \\connect {}\n\
         CREATE SCHEMA IF NOT EXISTS rolecast;\n\
         CREATE TABLE IF NOT EXISTS rolecast.state (name text PRIMARY KEY, value text NOT NULL, \
         changed timestamptz NOT NULL DEFAULT now());\n",
        settings.database
    );
    // Last: whoever was cut off before does it all again.
    script += &remember("generation", &ticket.generation.to_string())?;
    Ok(script)
}

/// SQL that remembers something of the join's in the database.
///
/// # Errors
/// When `value` is no text of PostgreSQL.
pub fn remember(name: &str, value: &str) -> Result<String, Trouble> {
    let (name, value) = (sql::literal(name)?, sql::literal(value)?);
    Ok(format!(
        "INSERT INTO rolecast.state (name, value) VALUES ({name}, {value}) \
         ON CONFLICT (name) DO UPDATE SET value = excluded.value, changed = now();\n"
    ))
}

/// Whether this machine's Patroni clones from the others when its directory is empty: pauses or lifts the pause.
///
/// # Errors
/// When no region's Patroni takes it.
pub fn pause(http: &Http, ticket: &Ticket, paused: bool) -> Result<(), Trouble> {
    // A key that is null is taken out of the configuration.
    let change = serde_json::json!({ "pause": paused.then_some(true) });
    any_api(http, ticket, |api| api.configure(&change))
}

/// Whether Patroni keeps the slots of members that are away for its half hour, or lets go of them at once
/// (`member_slots_ttl`; where that is not known, it never keeps any).
///
/// # Errors
/// When no region's Patroni takes it.
pub fn keep_slots(http: &Http, ticket: &Ticket, keep: bool) -> Result<(), Trouble> {
    let change = serde_json::json!({ "member_slots_ttl": (!keep).then_some(0) });
    any_api(http, ticket, |api| api.configure(&change))
}

/// The first region, this one first, whose Patroni does what is asked.
///
/// # Errors
/// When none does; what the last one said.
pub fn any_api<T>(http: &Http, ticket: &Ticket, wish: impl Fn(&Api<'_>) -> Result<T, Trouble>) -> Result<T, Trouble> {
    let password = ticket.secrets.get("patroni_rest_password");
    let mut regions: Vec<&Node> = ticket.cluster.regions().collect();
    regions.sort_by_key(|node| node.name != ticket.node);
    let mut last = Trouble("no region is known".to_owned());
    for node in regions {
        match wish(&Api::at(http, node.address, password)) {
            Ok(answer) => return Ok(answer),
            Err(trouble) => last = trouble,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::join::testing::{tables, ticket};
    use crate::ticket::Secret;

    #[test]
    fn a_data_directory_is_known_for_what_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        assert_eq!(data(&path.join("missing"), "17"), Data::Empty);
        fs::create_dir(path.join("lost+found")).unwrap();
        assert_eq!(data(path, "17"), Data::Empty);
        fs::write(path.join("PG_VERSION"), "17\n").unwrap();
        fs::create_dir(path.join("global")).unwrap();
        assert!(matches!(data(path, "17"), Data::Broken(_)));
        fs::write(path.join("global/pg_control"), [0; 8192]).unwrap();
        assert!(matches!(data(path, "17"), Data::Broken(_)));
        fs::write(path.join("global/pg_control"), 7_533_104_925_573_165_001_u64.to_ne_bytes()).unwrap();
        assert_eq!(data(path, "17"), Data::Cluster("7533104925573165001".to_owned()));
        assert!(matches!(data(path, "18"), Data::Broken(why) if why.contains("17")));
    }

    #[test]
    fn the_endpoint_leads_where_a_server_is_up() {
        let shown = |status: &str| {
            format!(
                "# pxname,svname,qcur,status,weight,\ndatabase,a,0,{status},1,\ndatabase,b,0,DOWN,1,\nregions,a,0,UP,1,\n\n"
            )
        };
        for (status, expected) in [("UP", true), ("UP 1/3", true), ("DOWN 1/2", false), ("MAINT", false)] {
            assert_eq!(leads_somewhere(&shown(status), "database"), expected, "{status}");
        }
        assert!(!leads_somewhere("", "database"));
        assert!(!leads_somewhere("# pxname\ndatabase\n", "database"));
    }

    #[test]
    fn roles_come_before_the_mark_that_they_are_there() {
        let mut ticket = ticket("region-1");
        let settings = tables("region-1").database.unwrap();
        assert!(preparation(&settings, &ticket).unwrap_err().0.contains("superuser_password"));
        for name in ["superuser_password", "replication_password", "rewind_password", "database_password"] {
            ticket.secrets.insert(name.to_owned(), Secret(format!("{name}'; DROP DATABASE maasdb; --")));
        }
        let script = preparation(&settings, &ticket).unwrap();
        assert!(script.contains("'rewind_password''; DROP DATABASE maasdb; --'"));
        let (mark, created) = (script.find("'generation'").unwrap(), script.find("CREATE DATABASE").unwrap());
        assert!(created < mark && script.trim_end().ends_with("changed = now();"));
    }

    #[test]
    fn a_password_cannot_leave_its_literal() {
        let value = remember("generation", "1'); DROP SCHEMA rolecast; --").unwrap();
        assert!(value.contains("'1''); DROP SCHEMA rolecast; --'"));
    }
}
