//! `rolecast store`: look after the store.

use std::time::Duration;

use crate::cli::Done;
use crate::cli::output::size;
use crate::cli::settings::Settings;
use crate::report::{Diagnostic, Report};
use crate::store::Store;

/// Counts what the store holds.
///
/// # Errors
/// When it cannot be read.
pub fn stats(settings: &Settings) -> Result<Done, Report> {
    let store = Store::open(&settings.store).map_err(Diagnostic::from)?;
    let stats = store.stats().map_err(Diagnostic::from)?;
    let place = store.root().display();
    let text =
        format!("{place}: {} objects of {}, {} results\n", stats.objects, size(stats.object_bytes), stats.results);
    let json = serde_json::json!({
        "store": place.to_string(), "objects": stats.objects, "bytes": stats.object_bytes, "results": stats.results,
    });
    Ok(Done { text, json, ..Done::default() })
}

/// Removes what no build used in so many days.
///
/// # Errors
/// When the store cannot be read or written.
pub fn collect(days: u32, settings: &Settings) -> Result<Done, Report> {
    let store = Store::open(&settings.store).map_err(Diagnostic::from)?;
    let age = Duration::from_secs(u64::from(days) * 24 * 3600);
    let collected = store.collect(age).map_err(Diagnostic::from)?;
    let text = format!(
        "removed {} objects of {} and {} results\n",
        collected.objects,
        size(collected.bytes),
        collected.results
    );
    let json = serde_json::to_value(collected).unwrap_or_default();
    Ok(Done { text, json, ..Done::default() })
}
