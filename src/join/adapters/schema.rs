//! MAAS's schema in the database: how it stands to the image's, and the one migration.
//!
//! Read over the local socket, on leader and replica alike. Only the leader migrates, under an advisory lock that lasts
//! as long as the session that holds it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{database, sql};
use crate::join::release::is_older;
use crate::join::tables::{DatabaseTable, SchemaSource};
use crate::join::world::{Schema, SchemaVersion, Trouble};
use crate::sys::Program;

/// The lock of whoever migrates: `rolecast` in ASCII.
const LOCK: i64 = 0x726f_6c65_6361_7374;

/// MAAS's migrations take minutes, on slow machines many.
const MIGRATION: Duration = Duration::from_secs(60 * 60);

/// How often it is made sure that the lock is still held by a leader.
const BEAT: Duration = Duration::from_secs(2);

/// Where MAAS 3.3 and later keep the shared secret: the path in table `maasserver_secret`.
const SECRET_PATH: &str = "global/rpc-shared";

/// What is asked for beside the version.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The shared secret as the ticket has it; none where it is not in the database.
    pub secret: Option<&'a str>,
    /// The administrator's name.
    pub administrator: &'a str,
    /// The version of the image that asks.
    pub version: &'a str,
}

/// [`crate::join::world::Question::Schema`].
///
/// # Errors
/// When PostgreSQL does not run here, or a migration is running now.
pub fn look(settings: &DatabaseTable, source: &SchemaSource, wanted: Wanted<'_>) -> Result<Schema, Trouble> {
    let exists = sql::run(settings, "postgres", &existence(settings)?, Duration::from_secs(10))?;
    let mut schema = Schema {
        database_exists: exists.trim() == "t",
        secrets_generation: None,
        version: SchemaVersion::Absent,
        secret_right: wanted.secret.is_none(),
        administrator: false,
    };
    if !schema.database_exists {
        return Ok(schema);
    }
    let brought = brought(source)?;
    let mut locked = false;
    let said = sql::run(settings, &settings.database, &question(source, wanted)?, Duration::from_secs(10))?;
    let mut installed = BTreeSet::new();
    let mut former = false;
    let mut migration = String::new();
    for (name, value) in said.lines().filter_map(|line| line.split_once('\t')) {
        match name {
            "generation" => schema.secrets_generation = value.parse().ok(),
            "migration" => value.clone_into(&mut migration),
            "locked" => locked = value == "t",
            "step" => drop(installed.insert(value.to_owned())),
            "secret" => schema.secret_right = wanted.secret.is_none_or(|secret| secret == value),
            "former" => former = value == "t",
            "administrator" => schema.administrator = value == "t",
            _ => {}
        }
    }
    let (word, version) = migration_of(&migration);
    schema.version = match word {
        // Before the lock: what is older has nothing to wait for.
        "begun" | "failed" if is_older(wanted.version, version) => SchemaVersion::Newer(format!("of image {version}")),
        _ if locked => return Err(Trouble("MAAS's schema is being migrated".to_owned())),
        "failed" => SchemaVersion::Half,
        "begun" => SchemaVersion::CutOff,
        // What came before this way of counting is not nothing.
        _ if installed.is_empty() && former => SchemaVersion::Older("an earlier MAAS".to_owned()),
        _ => compare(installed.last(), &brought),
    };
    Ok(schema)
}

/// What is remembered of the last migration: `begun VERSION`, `failed VERSION: why` or `ended VERSION`, the version being
/// that of the image that migrated.
fn migration_of(remembered: &str) -> (&str, &str) {
    let (said, _) = remembered.split_once(':').unwrap_or((remembered, ""));
    said.split_once(' ').unwrap_or((said, ""))
}

/// How the newest step that is installed stands to the newest that the image brings: they are numbered.
fn compare(installed: Option<&String>, brought: &str) -> SchemaVersion {
    match installed {
        None => SchemaVersion::Absent,
        Some(step) if step == brought => SchemaVersion::Same,
        Some(step) if step.as_str() > brought => SchemaVersion::Newer(step.clone()),
        Some(step) => SchemaVersion::Older(step.clone()),
    }
}

/// The newest step that the image brings.
fn brought(source: &SchemaSource) -> Result<String, Trouble> {
    if let Some(expected) = &source.expected {
        return Ok(expected.clone());
    }
    let directory = source.directories.iter().find_map(|pattern| first_match(pattern));
    let directory =
        directory.ok_or_else(|| Trouble(format!("the image holds none of `{}`", source.directories.join("`, `"))))?;
    let entries =
        fs::read_dir(&directory).map_err(|error| Trouble(format!("cannot read `{}`: {error}", directory.display())))?;
    let steps = entries.filter_map(|entry| step(entry.ok()?.file_name().to_str()?, source.ends.as_deref()));
    steps.max().ok_or_else(|| Trouble(format!("`{}` holds no step of a schema", directory.display())))
}

/// The name of the step in a file: `0012` of `0012_title.py`. Files that begin with no digit are no steps.
fn step(file: &str, ends: Option<&str>) -> Option<String> {
    let stem = Path::new(file).file_stem()?.to_str()?;
    let name = ends.and_then(|ends| stem.split(ends).next()).unwrap_or(stem);
    name.starts_with(|first: char| first.is_ascii_digit()).then(|| name.to_owned())
}

/// The directory that a pattern means; a `*` in a name stands for anything.
fn first_match(pattern: &str) -> Option<PathBuf> {
    let mut found = vec![PathBuf::from("/")];
    for part in Path::new(pattern).iter().filter_map(|part| part.to_str()).filter(|part| *part != "/") {
        found = match part.split_once('*') {
            None => found.into_iter().map(|place| place.join(part)).filter(|place| place.exists()).collect(),
            Some((before, after)) => {
                let entries =
                    found.iter().filter_map(|place| fs::read_dir(place).ok()).flatten().filter_map(Result::ok);
                let fits = |name: &str| {
                    name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after)
                };
                entries
                    .map(|entry| entry.path())
                    .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(fits))
                    .collect()
            }
        };
    }
    found.into_iter().max()
}

fn existence(settings: &DatabaseTable) -> Result<String, Trouble> {
    let (role, database) = (sql::literal(&settings.role)?, sql::literal(&settings.database)?);
    Ok(format!(
        "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = {role}) \
         AND EXISTS (SELECT FROM pg_database WHERE datname = {database});\n"
    ))
}

/// Asks for everything at once; what has no table yet is left out.
fn question(source: &SchemaSource, wanted: Wanted<'_>) -> Result<String, Trouble> {
    let exists = |table: &str| Ok::<_, Trouble>(format!("to_regclass({}) IS NOT NULL", sql::literal(table)?));
    let high_half = LOCK >> 32;
    let low_half = LOCK & 0xffff_ffff;
    Ok(format!(
        "SELECT {} AS state, {} AS steps, {} AS secrets, {} AS users \\gset\n\
         SELECT 'former', {};\n\
         SELECT 'locked', EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = {high_half} \
         AND objid = {low_half} AND granted);\n\
         \\if :state\nSELECT name, value FROM rolecast.state;\n\\endif\n\
         \\if :steps\nSELECT 'step', step FROM ({}) AS steps (step);\n\\endif\n\
         \\if :secrets\nSELECT 'secret', value->>'secret' FROM maasserver_secret WHERE path = '{SECRET_PATH}';\n\\endif\n\
         \\if :users\nSELECT 'administrator', EXISTS (SELECT FROM auth_user WHERE username = {});\n\\endif\n",
        exists("rolecast.state")?,
        exists(&source.table)?,
        exists("public.maasserver_secret")?,
        exists("public.auth_user")?,
        exists("public.django_migrations")?,
        source.query.trim_end_matches(';'),
        sql::literal(wanted.administrator)?,
    ))
}

/// Runs the migration under the lock. A migration that fails is remembered, and is a person's to look at; one that is cut
/// off is begun again, as MAAS's own steps each happen whole or not at all.
///
/// # Errors
/// When this machine's database is not writable, someone else migrates, or the migration fails.
pub fn migrate(settings: &DatabaseTable, command: Program, version: &str) -> Result<(), Trouble> {
    let lost = |error: std::io::Error| Trouble(format!("the database went away: {error}"));
    let patience = Duration::from_secs(10);
    let mut session = sql::session(settings, &settings.database)?;
    let taken = session.ask(&format!("SELECT pg_try_advisory_lock({LOCK}) AND NOT pg_is_in_recovery();"), patience);
    if taken.map_err(lost)? != "t" {
        return Err(Trouble(
            "MAAS's schema is being migrated by someone else, or this machine leads no longer".to_owned(),
        ));
    }
    let remember = |value: &str| {
        let script = database::remember("migration", value)?;
        sql::run(settings, &settings.database, &script, patience)
    };
    remember(&format!("begun {version}"))?;
    let mut last = Instant::now();
    let said = command.limit(MIGRATION).ask_while(|| {
        if last.elapsed() < BEAT {
            return true;
        }
        last = Instant::now();
        session.ask("SELECT NOT pg_is_in_recovery();", patience).is_ok_and(|leads| leads == "t")
    });
    let said = said.map_err(|error| Trouble(format!("the migration was cut off: {error}")))?;
    if said.status.success() {
        return remember(&format!("ended {version}")).map(drop);
    }
    // The database that goes away while it is migrated is no failure of the migration's.
    let leads = session.ask("SELECT NOT pg_is_in_recovery();", patience).is_ok_and(|leads| leads == "t");
    let why = said.reason();
    if leads && said.status.code().is_some() && !is_connection(&why) {
        remember(&format!("failed {version}: {why}"))?;
    }
    Err(Trouble(format!("the migration of MAAS's schema failed: {why}")))
}

/// Whether a migration failed because it lost or did not reach the database.
fn is_connection(why: &str) -> bool {
    let why = why.to_lowercase();
    ["connection", "could not connect", "server closed", "read-only transaction", "shutting down", "starting up"]
        .iter()
        .any(|word| why.contains(word))
}

/// Puts the shared secret into the database, between migration and first region.
///
/// # Errors
/// When this machine's database is not writable, or there is no schema.
pub fn place_secret(settings: &DatabaseTable, secret: &str) -> Result<(), Trouble> {
    let value = sql::literal(&serde_json::json!({ "secret": secret }).to_string())?;
    let script = format!(
        "INSERT INTO maasserver_secret (path, value, created, updated) \
         VALUES ('{SECRET_PATH}', {value}::jsonb, now(), now()) \
         ON CONFLICT (path) DO UPDATE SET value = excluded.value, updated = now();\n"
    );
    sql::run(settings, &settings.database, &script, Duration::from_secs(10)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared() {
        use SchemaVersion::{Absent, Newer, Older, Same};
        for (installed, brought, expected) in [
            (None, "0002", Absent),
            (Some("0002"), "0002", Same),
            (Some("0001"), "0002", Older("0001".into())),
            (Some("0010"), "0002", Newer("0010".into())),
            (Some("0002_b"), "0002_b", Same),
        ] {
            let installed = installed.map(str::to_owned);
            assert_eq!(compare(installed.as_ref(), brought), expected, "{installed:?} {brought}");
        }
    }

    #[test]
    fn a_migration_is_remembered_with_its_version() {
        assert_eq!(migration_of("begun 2026.12.1"), ("begun", "2026.12.1"));
        assert_eq!(migration_of("failed 2026.12.1: a column: is missing"), ("failed", "2026.12.1"));
        assert_eq!(migration_of(""), ("", ""));
        assert!(!is_older("2026.11.1", migration_of("begun").1), "an image of before this way of counting");
    }

    #[test]
    fn steps_are_named_by_their_files() {
        assert_eq!(step("0012_add_table.py", Some("_")).as_deref(), Some("0012"));
        assert_eq!(step("0298_current.py", None).as_deref(), Some("0298_current"));
        assert_eq!(step("0012.sql", Some("_")).as_deref(), Some("0012"));
        assert_eq!(step("__init__.py", None), None);
        assert_eq!(step("__pycache__", Some("_")), None);
    }

    #[test]
    fn a_directory_is_found_whatever_version_is_in_its_name() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("python3.12/versions")).unwrap();
        let pattern = directory.path().join("python3*/versions").display().to_string();
        assert_eq!(first_match(&pattern), Some(directory.path().join("python3.12/versions")));
        assert_eq!(first_match(&pattern.replace("python3*", "perl*")), None);
    }

    #[test]
    fn a_lost_connection_is_no_failed_migration() {
        assert!(is_connection("psycopg2.OperationalError: server closed the connection unexpectedly"));
        assert!(!is_connection("ProgrammingError: relation \"x\" already exists"));
    }

    #[test]
    fn a_name_cannot_leave_the_question() {
        let source = SchemaSource {
            table: "public.a".into(),
            query: "SELECT 1;".into(),
            directories: vec![],
            expected: None,
            ends: None,
        };
        let wanted = |administrator| Wanted { secret: None, administrator, version: "1" };
        let asked = question(&source, wanted("o'neil")).unwrap();
        assert!(asked.contains("username = 'o''neil'"));
        assert!(question(&source, wanted("\0")).is_err());
    }
}
