//! Steps of a rack: it registers with the regions, once.
//!
//! Owns the order before and after that. Registering drops the identity that a region gave, so it is done only where there
//! is none or where URL or secret have changed; a rack that has both just starts, also while no region answers.

use super::machine::{Decision, Turn, View, list, wait};
use super::world::{Action, Namesake, Rack};
use crate::ticket::Kind;

/// Before a rack has a part in anything: no other machine lives that the regions know by its name. MAAS would take the two
/// for one, and hand what it knows of the first to the second.
pub(super) fn own_name(view: &View<'_>) -> Turn {
    if view.own.kind != Kind::Rack || view.record.joined {
        return Ok(());
    }
    match view.namesake()? {
        Namesake(None) => Ok(()),
        Namesake(Some(address)) => Err(wait(format!(
            "a host name of its own: the regions know `{}` as {address}, and that machine lives; switch it off, or name one of \
             the two otherwise in the image file",
            view.own.name
        ))),
    }
}

/// A rack that has yet to register reaches a region and all that it advertises.
pub(super) fn regions(view: &View<'_>) -> Turn {
    let rack = view.rack()?;
    if settled(rack) {
        return Ok(());
    }
    if !rack.region_answers {
        return Err(wait("a region of MAAS that answers"));
    }
    match rack.unreachable.is_empty() {
        true => Ok(()),
        false => Err(wait(format!(
            "a way to {}, which regions advertise",
            list(rack.unreachable.iter().map(String::as_str))
        ))),
    }
}

fn settled(rack: &Rack) -> bool {
    rack.has_identity && rack.configured
}

/// It is configured with the ticket's URL and secret, and has an identity or will get one.
pub(super) fn register(view: &View<'_>) -> Turn {
    let rack = view.rack()?;
    // What was registered in this round gets its identity when it runs.
    if settled(rack) || (rack.configured && view.done.contains(&Action::Register)) {
        return Ok(());
    }
    // Once configured and running, it gets its identity from a region by itself.
    let units = &view.maas()?.units.rack;
    let local = view.local()?;
    let runs = units.iter().all(|unit| local.running.contains(unit));
    if rack.configured && runs { Ok(()) } else { Err(Decision::Do(Action::Register)) }
}

/// MAAS's units run.
pub(super) fn start(view: &View<'_>) -> Turn {
    view.running(&view.maas()?.units.rack)
}

/// A region has accepted it.
pub(super) fn registered(view: &View<'_>) -> Turn {
    let rack = view.rack()?;
    if rack.refused {
        return Err(wait(format!(
            "a shared secret that the regions accept: they refuse this rack's; run `rolecast apply {}`",
            view.own.name
        )));
    }
    match (rack.registered, rack.region_answers) {
        (true, _) => Ok(()),
        (false, true) => Err(wait("a region to accept this rack")),
        (false, false) => Err(wait("a region of MAAS that answers")),
    }
}

/// What a person should know of the rack.
pub(super) fn warnings(view: &View<'_>) -> Vec<String> {
    match &view.facts.rack {
        Some(rack) if !rack.unreachable.is_empty() => {
            vec![format!("cannot reach {}", list(rack.unreachable.iter().map(String::as_str)))]
        }
        _ => vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bench;

    use super::*;

    fn bench(change: impl FnOnce(&mut Rack, &mut Vec<String>)) -> Bench {
        let mut bench = Bench::joined("rack-2");
        let facts = &mut bench.facts;
        change(facts.rack.as_mut().unwrap(), &mut facts.local.as_mut().unwrap().running);
        bench
    }

    #[test]
    fn a_new_rack_waits_for_regions_registers_and_starts() {
        let new = |answers: bool, unreachable: &[&str]| {
            bench(|rack, running| {
                running.clear();
                let unreachable = unreachable.iter().map(ToString::to_string).collect();
                *rack = Rack { region_answers: answers, unreachable, ..Rack::default() };
            })
        };
        assert_eq!(new(false, &[]).waits().1, "a region of MAAS that answers");
        assert!(new(true, &["10.77.0.12:5250"]).waits().1.contains("10.77.0.12:5250"));
        assert_eq!(new(true, &[]).action(), Action::Register);
    }

    #[test]
    fn a_rack_whose_name_another_machine_has_takes_no_part_in_anything() {
        let named = |node: &str, joined: bool| {
            let mut bench = Bench::fresh(node).record(|record| record.joined = joined);
            bench.facts.namesake = Some(Namesake(Some([10, 77, 0, 99].into())));
            bench
        };
        for rack in ["rack-1", "rack-2"] {
            let (step, what) = named(rack, false).waits();
            assert_eq!(step, "own-name");
            assert!(what.contains(&format!("know `{rack}` as 10.77.0.99")), "{what}");
            assert_ne!(named(rack, true).next().step, "own-name", "a member is not put out by a newcomer");
        }
        assert_ne!(named("region-1", false).next().step, "own-name");
    }

    #[test]
    fn a_rack_that_was_registered_just_starts_also_without_regions() {
        let alone = |runs: bool| {
            bench(|rack, running| {
                (rack.region_answers, rack.registered) = (false, false);
                if !runs {
                    running.clear();
                }
            })
        };
        assert_eq!(alone(false).action(), Action::Start { units: vec!["maas-rackd.service".into()] });
        assert_eq!(alone(true).waits().1, "a region of MAAS that answers");
        assert_eq!(bench(|_, _| {}).next().step, "joined");
    }

    #[test]
    fn a_refused_secret_is_one_clear_reason_and_a_new_one_registers_again() {
        let refused = bench(|rack, _| (rack.refused, rack.registered) = (true, false));
        assert!(refused.waits().1.contains("run `rolecast apply rack-2`"));
        assert_eq!(bench(|rack, _| rack.configured = false).action(), Action::Register);
    }
}
