//! Which version of the image a machine may run.
//!
//! Until a version begins to change MAAS's schema, the one before it is a way back. From then on it is not: its MAAS
//! would work on a database that it does not know. The machine that migrates writes into its record, before it begins,
//! which version it was, makes that version the only one that can be booted, and an older one that is booted all the
//! same starts nothing. Owns that rule and the order of versions (UAPI Version Format Specification); the regions that
//! do not migrate learn of it from the database.

use std::cmp::Ordering;

use super::machine::{Decision, Turn, View, stop};
use super::tables::Image;
use super::world::{Action, Record};

/// Whether `image` is the version that has begun the schema, so that there is no way back.
pub fn keeps(record: &Record, image: &Image) -> bool {
    record.schema_begun.as_ref() == Some(&image.version)
}

/// Whether `one` is older than `other`.
pub fn is_older(one: &str, other: &str) -> bool {
    uapi_version::strverscmp(one, other) == Ordering::Less
}

/// This version is not older than the one that has begun the schema.
pub(super) fn not_refused(view: &View<'_>) -> Turn {
    let own = &view.image().version;
    match &view.record.schema_begun {
        Some(begun) if is_older(own, begun) => Err(stop(
            format!("version {begun} has begun to migrate MAAS's schema here, and this is {own}: nothing is started"),
            format!("boot version {begun} or a newer one: `bootctl list`, then `bootctl set-oneshot ENTRY` and reboot"),
        )),
        _ => Ok(()),
    }
}

/// There is no way back from here: known to the record first, then to the boot loader.
pub(super) fn no_way_back(view: &View<'_>) -> Turn {
    view.remember(|record| record.schema_begun = Some(view.image().version.clone()))?;
    if view.done.contains(&Action::KeepVersion) { Ok(()) } else { Err(Decision::Do(Action::KeepVersion)) }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bench;
    use super::super::world::SchemaVersion;
    use super::*;

    #[test]
    fn versions_are_ordered_as_the_boot_loader_and_the_updater_order_them() {
        for (older, newer) in
            [("2026.9.1", "2026.11.1"), ("2026.11.1", "2026.11.1.1"), ("1-rc2", "1-rc10"), ("9", "10")]
        {
            assert!(is_older(older, newer) && !is_older(newer, older), "{older} {newer}");
        }
        assert!(!is_older("2026.11.1", "2026.11.1"));
    }

    #[test]
    fn the_way_back_is_closed_before_the_schema_is_touched() {
        let absent = || {
            Bench::joined("region-1")
                .record(|record| record.schema_begun = None)
                .schema(|schema| schema.version = SchemaVersion::Absent)
                .peer("region-2", |peer| peer.serves = false)
        };
        assert_eq!(absent().keeps().schema_begun.as_deref(), Some("2026.11.1"));
        let remembered = || absent().record(|record| record.schema_begun = Some("2026.11.1".into()));
        assert_eq!(remembered().action(), Action::KeepVersion);
        let mut kept = remembered();
        kept.done.push(Action::KeepVersion);
        assert_eq!(kept.action(), Action::Migrate);
        // An earlier migration, of an earlier version.
        let earlier = absent().record(|record| record.schema_begun = Some("2026.10.1".into()));
        assert_eq!(earlier.keeps().schema_begun.as_deref(), Some("2026.11.1"));
    }

    #[test]
    fn an_older_version_starts_nothing() {
        let begun =
            |node: &str, version: &str| Bench::joined(node).record(|record| record.schema_begun = Some(version.into()));
        let (step, why) = begun("region-1", "2026.11.2").stops();
        assert_eq!(step, "version");
        assert!(why.contains("version 2026.11.2 has begun") && why.contains("this is 2026.11.1"), "{why}");
        assert_eq!(begun("region-1", "2026.11.1").next().step, "joined");
        assert_eq!(begun("region-1", "2026.9.1").next().step, "joined");
    }
}
