//! Whole joins of one machine for each packaging of MAAS: what is run and written, in its exact order. The tables are the
//! image's own template; the machine that answers is a model that takes every action for done.

use super::*;
use crate::join::drive::{End, Round, Seat, describe};
use crate::join::testing::{self, Bench};
use crate::join::world::{Data, Etcd, Facts, Question, Rack, Record, SchemaVersion, World};

const TEMPLATE: &str = include_str!("../../../../overlays/maas/usr/lib/rolecast/maas.toml.tera");

fn tables(node: &str, packaging: &str, version: &str) -> Tables {
    let kind = if node.starts_with("region") { "region" } else { "rack" };
    let facts = serde_json::json!({
        "option": { "maas": { "packaging": packaging, "version": version }, "cluster": { "patience": "1" } },
        "role": { "kind": kind },
    });
    let context = tera::Context::from_serialize(&facts).unwrap();
    let text = tera::Tera::one_off(TEMPLATE, &context, false).unwrap();
    Tables { maas: Some(toml::from_str(&text).unwrap()), ..testing::tables(node) }
}

fn ticket(node: &str) -> Ticket {
    let mut ticket = testing::ticket(node);
    for name in ["maas_secret", "database_password", "admin_password"] {
        ticket.secrets.insert(name.into(), Secret(format!("({name})")));
    }
    ticket
}

/// A machine on its first boot, in a cluster of which the rest answers; it will lead.
struct Alone {
    ticket: Ticket,
    tables: Tables,
    facts: Facts,
    done: Vec<String>,
}

impl Alone {
    fn new(node: &str, packaging: &str, version: &str) -> Self {
        let mut facts = Bench::fresh(node).facts;
        let local = facts.local.as_mut().unwrap();
        (local.files_laid, local.maas_installed) = (false, packaging != "snap");
        local.running.clear();
        let bare = Bench::joined(node)
            .database(|database| {
                database.data = Data::Empty;
                (database.initialised, database.leader, database.state) = (None, None, None);
                (database.running, database.writable) = (false, false);
            })
            .schema(|schema| {
                (schema.database_exists, schema.secrets_generation) = (false, None);
                schema.version = SchemaVersion::Absent;
                (schema.secret_right, schema.administrator) = (false, false);
            });
        (facts.database, facts.schema) = (bare.facts.database, bare.facts.schema);
        facts.region.as_mut().unwrap().healthy = false;
        facts.rack = Some(Rack { region_answers: true, ..Rack::default() });
        Self { ticket: ticket(node), tables: tables(node, packaging, version), facts, done: vec![] }
    }

    /// Joins; gives what was run and written.
    fn join(mut self) -> Vec<String> {
        let (ticket, tables) = (self.ticket.clone(), self.tables.clone());
        let seat = Seat { ticket: &ticket, own: ticket.own().unwrap(), tables: &tables, upgrade: false };
        let mut record = Record { format: 1, ..Record::default() };
        for _ in 0..20 {
            let mut round = Round::default();
            let end = loop {
                let next = round.next(&seat, &record);
                if let Some(end) = round.advance(&next, &mut record, &mut self) {
                    break end;
                }
            };
            match end {
                End::Joined => return self.done,
                End::Waiting(_) => {}
                End::Stopped { why, .. } => panic!("stopped: {why}; {:#?}", self.done),
            }
        }
        panic!("never joined: {:#?}", self.done)
    }

    /// MAAS runs, as a region or a rack.
    fn runs(&mut self) {
        self.facts.region.as_mut().unwrap().healthy = true;
        let rack = self.facts.rack.as_mut().unwrap();
        (rack.has_identity, rack.registered) = (rack.configured, rack.configured);
    }
}

impl World for Alone {
    fn look(&mut self, _: Question, facts: &mut Facts) -> Result<(), Trouble> {
        facts.clone_from(&self.facts);
        Ok(())
    }

    fn act(&mut self, action: &Action) -> Result<(), Trouble> {
        let deeds = deeds(action, &self.ticket, &self.tables)?;
        self.done.extend(deeds.iter().map(line));
        let snap = is_snap(self.tables.maas.as_ref().unwrap());
        let shown = match action {
            Action::Start { .. } | Action::StartPatroni | Action::PrepareDatabase | Action::KeepVersion => true,
            Action::PlaceSecret => deeds.is_empty(),
            _ => false,
        };
        self.done.extend(shown.then(|| describe(action)));
        let facts = &mut self.facts;
        let local = facts.local.as_mut().unwrap();
        let (database, schema) = (facts.database.as_mut().unwrap(), facts.schema.as_mut().unwrap());
        match action {
            Action::LayFiles => local.files_laid = true,
            Action::BootstrapEtcd => {
                facts.etcd = Some(Etcd { has_data: true, running: true, healthy: true, leads: false });
            }
            Action::StartPatroni => {
                let own = self.ticket.node.clone();
                (database.data, database.initialised) = (Data::Cluster("7001".into()), Some("7001".into()));
                (database.leader, database.state) = (Some(own), Some("running".into()));
                (database.running, database.writable) = (true, true);
            }
            Action::PrepareDatabase => (schema.database_exists, schema.secrets_generation) = (true, Some(1)),
            Action::Migrate => schema.version = SchemaVersion::Same,
            Action::PlaceSecret => schema.secret_right = true,
            Action::CreateAdministrator => schema.administrator = true,
            Action::InstallMaas => {
                local.maas_installed = true;
                local.running.push("snap.maas.pebble.service".into());
            }
            Action::InitialiseMaas if snap => self.runs(),
            Action::Register => {
                facts.rack.as_mut().unwrap().configured = true;
                if snap {
                    self.runs();
                }
            }
            Action::Start { units } => {
                local.running.extend(units.iter().cloned());
                let maas = self.tables.maas.as_ref().unwrap();
                if units == &maas.units.region || units == &maas.units.rack {
                    self.runs();
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn keep(&mut self, _: &Record) -> Result<(), Trouble> {
        Ok(())
    }
}

/// A deed as one line: what a program reads comes after `<`, its lines between bars.
fn line(deed: &Deed) -> String {
    match deed {
        Deed::Write(path, _) => format!("write {}", path.display()),
        Deed::Run(Command { words, input, .. }) if input.0.is_empty() => words.join(" "),
        Deed::Run(Command { words, input, .. }) => format!("{} < {}", words.join(" "), input.0.replace('\n', "|")),
    }
}

/// What a region does before MAAS has a part in it.
const DATABASE: [&str; 3] =
    ["start haproxy.service", "start Patroni", "make MAAS's database and roles, with the ticket's passwords"];

#[test]
fn a_deb_region_migrates_has_its_secret_and_only_then_starts() {
    let later = "start named.service, maas-syslog.service, maas-http.service, maas-regiond.service, maas-apiserver.service, \
                 maas-temporal.service, maas-temporal-worker.service, maas-proxy.service";
    let first = "start named.service, maas-syslog.service, maas-http.service, maas-regiond.service, maas-proxy.service";
    for (version, start) in [("3.4", first), ("3.5", later), ("3.6", later), ("3.7", later)] {
        let expected = [
            &DATABASE[..],
            &[
                "make this version the only one that can be booted",
                "maas-region dbupgrade",
                "place MAAS's shared secret",
                "maas-common setup-dns",
                start,
                "maas-region createadmin --username admin --email admin@example.com < \
                 (admin_password)|(admin_password)||",
                "start keepalived.service",
            ],
        ]
        .concat();
        assert_eq!(Alone::new("region-1", "deb", version).join(), expected, "{version}");
    }
}

#[test]
fn a_region_of_2_4_has_its_secret_as_a_file_before_it_starts() {
    let expected = [
        &DATABASE[..],
        &[
            "make this version the only one that can be booted",
            "maas-region dbupgrade",
            "write /var/lib/maas/secret",
            "maas-region set_up_dns",
            "start named.service, maas-regiond.service, maas-proxy.service",
            "maas-region createadmin --username admin --email admin@example.com < (admin_password)|(admin_password)||",
            "start keepalived.service",
        ],
    ]
    .concat();
    assert_eq!(Alone::new("region-1", "deb", "2.4").join(), expected);
}

#[test]
fn a_snap_is_held_before_anything_and_starts_as_a_region_when_schema_and_secret_are_there() {
    for version in ["3.4", "3.7"] {
        let install = format!("snap install maas --channel={version}/stable");
        let expected = [
            &DATABASE[..],
            &[
                install.as_str(),
                "snap refresh --hold maas",
                "make this version the only one that can be booted",
                "write /var/snap/maas/current/regiond.conf",
                "write /var/snap/maas/common/snap_mode",
                "maas migrate",
                "place MAAS's shared secret",
                "snap refresh --hold maas",
                "write /var/snap/maas/current/regiond.conf",
                "maas init region --maas-url http://10.77.0.10/MAAS --force < \
                 postgres://maas:(database_password)@127.0.0.1:5433/maasdb|",
                "maas createadmin --username admin --email admin@example.com < (admin_password)|(admin_password)||",
                "start keepalived.service",
            ],
        ]
        .concat();
        assert_eq!(Alone::new("region-1", "snap", version).join(), expected, "{version}");
    }
}

#[test]
fn the_stub_is_handled_as_a_deb() {
    let expected = [
        &DATABASE[..],
        &[
            "make this version the only one that can be booted",
            "maas-region dbupgrade",
            "place MAAS's shared secret",
            "maas-common setup-dns",
            "start named.service, maas-regiond.service",
            "maas-region createadmin --username admin --email admin@example.com < (admin_password)|(admin_password)||",
            "start keepalived.service",
        ],
    ]
    .concat();
    assert_eq!(Alone::new("region-1", "stub", "3.7").join(), expected);
}

#[test]
fn a_rack_registers_by_a_secret_that_no_argument_shows_and_then_starts() {
    let register = "maas-rack register --url http://10.77.0.10/MAAS < (maas_secret)|";
    for (version, units) in [
        ("2.4", "maas-rackd.service"),
        ("3.4", "named.service, maas-syslog.service, maas-http.service, maas-rackd.service, maas-proxy.service"),
        (
            "3.6",
            "named.service, maas-syslog.service, maas-http.service, maas-rackd.service, maas-agent.service, \
             maas-proxy.service",
        ),
        // Its agent answers for names.
        ("3.7", "maas-syslog.service, maas-http.service, maas-rackd.service, maas-agent.service, maas-proxy.service"),
    ] {
        let done = Alone::new("rack-2", "deb", version).join();
        assert_eq!(done, [register.to_owned(), format!("start {units}")], "{version}");
    }
    let snap = [
        "snap install maas --channel=3.7/stable",
        "snap refresh --hold maas",
        "snap refresh --hold maas",
        "maas init rack --maas-url http://10.77.0.10/MAAS --force < (maas_secret)|",
    ];
    assert_eq!(Alone::new("rack-2", "snap", "3.7").join(), snap);
}

#[test]
fn a_snaps_settings_are_those_that_a_debs_ticket_brings() {
    let written = |version: &str| {
        let (ticket, tables) = (ticket("region-1"), tables("region-1", "snap", version));
        match deeds(&Action::ReloadSecrets, &ticket, &tables).unwrap().as_slice() {
            [Deed::Write(path, content)] if path.ends_with("current/regiond.conf") => content.0.clone(),
            other => panic!("{other:?}"),
        }
    };
    let settings = written("3.7");
    for part in [
        "maas_url: http://10.77.0.10/MAAS\n",
        "database_host: 127.0.0.1\ndatabase_port: 5433\n",
        "database_pass: \"(database_password)\"\n",
        "broadcast_address: 10.77.0.11\n",
    ] {
        assert!(settings.contains(part), "{part} in\n{settings}");
    }
    assert!(!written("3.4").contains("broadcast_address"), "3.4 has no such key");
    assert!(deeds(&Action::ReloadSecrets, &ticket("region-1"), &tables("region-1", "deb", "3.7")).unwrap().is_empty());
}

#[test]
fn no_secret_is_in_an_argument_or_in_what_is_shown_of_a_deed() {
    for (node, packaging, version) in
        [("region-1", "deb", "3.7"), ("region-1", "deb", "2.4"), ("region-1", "snap", "3.7"), ("rack-1", "snap", "3.7")]
    {
        let (ticket, tables) = (ticket(node), tables(node, packaging, version));
        let actions = [
            Action::Migrate,
            Action::PlaceSecret,
            Action::InitialiseMaas,
            Action::CreateAdministrator,
            Action::Register,
        ];
        for action in actions {
            // What a machine of another kind would do has no tables here.
            let Ok(deeds) = deeds(&action, &ticket, &tables) else { continue };
            let shown = format!("{deeds:?}");
            assert!(ticket.secrets.values().all(|secret| !shown.contains(&secret.0)), "{node} {action:?}: {shown}");
        }
    }
}
