//! Keys that would be read by nothing, as the rest of the file is: whoever writes one means something by it.

use super::codes;
use super::item::{Entry, Item};
use super::refer::finding;
use super::report::Report;

/// Checks sinks and plugins; what is wrong by itself is passed over.
pub(super) fn check(root: &Item, report: &mut Report<'_>) {
    for sink in root.get("sinks").map(Item::entries).unwrap_or_default() {
        if let Some(postgres) = sink.item.as_ref().and_then(|item| item.get("postgres")) {
            check_postgres(root, &sink.key, postgres, report);
        }
    }
    for plugin in root.get("plugins").map(Item::entries).unwrap_or_default() {
        let Some(item) = &plugin.item else { continue };
        let uses_entries = item.texts("features").iter().any(|feature| feature == "kv");
        if let Some(quota) = item.get("limits").and_then(|limits| given(limits, "kv"))
            && !uses_entries
        {
            idle(quota, "limits.kv", "features: [kv]", report);
        }
    }
}

fn check_postgres(root: &Item, sink: &str, postgres: &Item, report: &mut Report<'_>) {
    if let Some(connections) = given(postgres, "connections")
        && postgres.text("transactions") == Some("whole")
    {
        idle(connections, "connections", "transactions: relaxed", report);
    }
    // A mode that is wrong says nothing about what it would read.
    if postgres.entry("mode").is_some_and(|mode| mode.item.is_none()) {
        return;
    }
    let mode = postgres.text("mode");
    if let Some(audit) = given(postgres, "audit")
        && mode != Some("audit")
    {
        idle(audit, "audit", "mode: audit", report);
    }
    let is_mirror = match mode {
        Some(mode) => mode == "mirror",
        None => !root
            .items("routes")
            .iter()
            .any(|route| !route.items("plugins").is_empty() && route.texts("sinks").iter().any(|name| name == sink)),
    };
    // `skip` counts in every mode: there are constraints besides the key.
    if let Some(conflict) = given(postgres, "conflict")
        && postgres.text("conflict") == Some("overwrite")
        && !is_mirror
    {
        idle(conflict, "conflict: overwrite", "mode: mirror", report);
    }
}

/// A key that the file has.
fn given<'i>(item: &'i Item, key: &str) -> Option<&'i Entry> {
    item.entry(key).filter(|entry| entry.given)
}

fn idle(entry: &Entry, key: &str, needs: &str, report: &mut Report<'_>) {
    let headline = format!("`{key}` counts with `{needs}` alone");
    let help = format!("take out `{key}`, or write `{needs}`");
    report.push(
        entry.span,
        finding(&codes::CONTRADICTION, headline, "nothing reads it", help),
    );
}
