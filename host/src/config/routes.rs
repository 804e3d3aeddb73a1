//! What routes refer to has to be there.

use super::codes;
use super::item::Item;
use super::node::Span;
use super::refer::finding;
use super::report::{Report, nearest, quote, quote_all};

/// Names of plugins, sinks and tables that a route refers to.
pub(super) fn check_route(root: &Item, route: &Item, report: &mut Report<'_>) {
    for (key, kind) in [("plugins", "plugin"), ("sinks", "sink")] {
        // A block that is wrong as a whole says nothing about its names.
        let Some(defined) = root.get(key) else { continue };
        let names: Vec<&str> = defined.entries().iter().map(|entry| entry.key.as_str()).collect();
        let mut seen: Vec<(&str, Span)> = Vec::new();
        for item in route.items(key) {
            let Some(name) = item.as_text() else { continue };
            if !names.contains(&name) {
                unknown_name(kind, name, item.span, &names, report);
            } else if let Some((_, first)) = seen.iter().find(|(other, _)| *other == name) {
                let headline = format!("{kind} {} stands twice in a route", quote(name));
                let mut finding = finding(
                    &codes::TWICE,
                    headline,
                    "the second one",
                    "take one of them out".to_owned(),
                );
                finding.cause = Some(format!("the first one stands at {}", report.location(*first)));
                report.push(item.span, finding);
            }
            seen.push((name, item.span));
        }
    }
    check_tables(root, route, report);
}

fn unknown_name(kind: &str, name: &str, span: Span, names: &[&str], report: &mut Report<'_>) {
    let headline = format!("a route names {kind} {}, which isn't defined", quote(name));
    let label = match names {
        [] => format!("no {kind} is defined"),
        names => format!("the {kind}s here are {}", quote_all(names.iter().copied())),
    };
    let help = match nearest(name, names.iter().copied()) {
        Some(near) => format!("write `{near}`"),
        None => format!("define it under `{kind}s`"),
    };
    report.push(span, finding(&codes::UNKNOWN_NAME, headline, &label, help));
}

/// A table that is written out has to be among those of the source.
fn check_tables(root: &Item, route: &Item, report: &mut Report<'_>) {
    let Some(source) = root.get("source").and_then(|source| source.get("postgres")) else {
        return;
    };
    let selected = source.tables("tables");
    // With a publication, or a list that is wrong by itself, only the server could tell.
    if selected.is_empty() || source.items("tables").len() != selected.len() {
        return;
    }
    for item in route.items("tables") {
        let Some(table) = item.as_table() else { continue };
        if table.is_literal()
            && !selected
                .iter()
                .any(|pattern| pattern.matches(&table.schema, &table.table))
        {
            let name = table.to_string();
            let names: Vec<String> = selected.iter().map(ToString::to_string).collect();
            let headline = format!("a route names table {}, which isn't followed", quote(&name));
            let label = format!("the source follows {}", quote_all(names.iter().map(String::as_str)));
            let help = match nearest(&name, names.iter().map(String::as_str)) {
                Some(near) => format!("write `{near}`"),
                None => format!("add {} to `tables` of the source", quote(&name)),
            };
            report.push(item.span, finding(&codes::UNKNOWN_NAME, headline, &label, help));
        }
    }
}
