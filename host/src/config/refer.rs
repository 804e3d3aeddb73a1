//! What values say about each other: names, paths, contradictions.

use super::codes;
use super::convert::name_rule;
use super::idle;
use super::item::{Entry, Item, Value};
use super::keys::{MAX_NAME_CHARS, SINK_KINDS};
use super::node::Span;
use super::report::{Finding, Report, quote, quote_all};
use super::routes::check_route;
use std::path::{Component, Path};

/// Postgres cuts names after this many bytes.
const MAX_SLOT_CHARS: usize = 63;

/// Checks the whole file; what is missing because it was wrong by itself is passed over.
pub(super) fn check(root: &Item, base: &Path, report: &mut Report<'_>) {
    check_identifier(root, "name", MAX_NAME_CHARS, report);
    if let Some(source) = root.get("source").and_then(|source| source.get("postgres")) {
        check_source(source, report);
        check_loops(root, source, report);
        check_audit(root, source, report);
    }
    check_state(root, report);
    for entry in entries(root, "plugins") {
        check_module(entry, base, report);
    }
    for entry in entries(root, "sinks") {
        check_kind(entry, report);
    }
    check_files(root, base, report);
    idle::check(root, report);
    for route in root.items("routes") {
        check_route(root, route, report);
    }
}

fn entries<'i>(root: &'i Item, key: &str) -> &'i [Entry] {
    root.get(key).map(Item::entries).unwrap_or_default()
}

pub(super) fn finding(code: &'static crate::problem::Code, headline: String, label: &str, help: String) -> Finding {
    Finding {
        code,
        headline,
        label: label.to_owned(),
        cause: None,
        help,
    }
}

fn check_identifier(item: &Item, key: &str, most: usize, report: &mut Report<'_>) {
    let Some((name, span)) = item.text(key).zip(item.get(key).map(|item| item.span)) else {
        return;
    };
    let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.chars().count() > most || !name.chars().all(valid) {
        let headline = format!("`{key}`: expected 1 to {most} of a-z, 0-9, `_`, found {}", quote(name));
        let rule = name_rule("_").replace(&MAX_NAME_CHARS.to_string(), &most.to_string());
        report.push(
            span,
            finding(&codes::RANGE, headline, &rule, format!("write `{key}: shop`")),
        );
    }
}

fn check_source(source: &Item, report: &mut Report<'_>) {
    check_identifier(source, "slot", MAX_SLOT_CHARS, report);
    match (source.entry("tables"), source.entry("publication")) {
        (None, None) => {
            let headline = "required key `tables` is missing in `source.postgres`".to_owned();
            let help = "add `tables: [public.orders]`".to_owned();
            let label = "neither `tables` nor `publication`";
            report.push(source.span, finding(&codes::MISSING_KEY, headline, label, help));
        }
        (Some(tables), Some(publication)) => {
            let headline = "`tables` and `publication` contradict each other".to_owned();
            let help = "keep `publication`, which brings its own tables, or `tables`".to_owned();
            contradiction(
                headline,
                publication.span,
                "the publication has tables of its own",
                tables.span,
                help,
                report,
            );
        }
        _ => {}
    }
    let Some(snapshot) = source.get("snapshot") else { return };
    let given = |key: &str| snapshot.entry(key).filter(|entry| entry.given);
    if snapshot.text("mode") == Some("never") {
        let of_copies = ["connections", "unit_rows", "rows_per_second", "where"];
        for entry in of_copies.into_iter().filter_map(given) {
            let headline = format!("`mode: never` and `{}` contradict each other", entry.key);
            let mode = given("mode").map_or(snapshot.span, |entry| entry.span);
            let help = format!("take out `{}`", entry.key);
            contradiction(headline, entry.span, "nothing is copied", mode, help, report);
        }
        let pressure = source.entry("on_wal_pressure").filter(|entry| entry.given);
        if let Some(entry) = pressure.filter(|_| source.text("on_wal_pressure") == Some("detach_sink")) {
            let headline = "`on_wal_pressure: detach_sink` and `snapshot: never` contradict each other".to_owned();
            let mode = given("mode").map_or(snapshot.span, |entry| entry.span);
            let label = "what a sink misses meanwhile is never copied to it";
            let help = "take out `on_wal_pressure`, or write `snapshot: initial`".to_owned();
            contradiction(headline, entry.span, label, mode, help, report);
        }
    }
}

fn contradiction(headline: String, span: Span, label: &str, other: Span, help: String, report: &mut Report<'_>) {
    let mut finding = finding(&codes::CONTRADICTION, headline, label, help);
    finding.cause = Some(format!("the other one stands at {}", report.location(other)));
    report.push(span, finding);
}

/// A sink into the source's own tables would feed itself for ever.
fn check_loops(root: &Item, source: &Item, report: &mut Report<'_>) {
    let Some(from) = source.secret("url") else { return };
    for entry in entries(root, "sinks") {
        let postgres = entry.item.as_ref().and_then(|item| item.get("postgres"));
        let Some(url) = postgres.and_then(|postgres| postgres.get("url")) else {
            continue;
        };
        if matches!(&url.value, Value::Secret(to) if to == from) {
            let headline = format!("sink {} writes into the source's own tables", quote(&entry.key));
            let help = "give the sink the url of another database".to_owned();
            let source = source.get("url").map_or(source.span, |url| url.span);
            contradiction(headline, url.span, "the same url as the source's", source, help, report);
        }
    }
}

/// A change that a copied row is ahead of is never told: beside a copy the trail would have gaps.
fn check_audit(root: &Item, source: &Item, report: &mut Report<'_>) {
    let snapshot = source.get("snapshot");
    if snapshot.and_then(|snapshot| snapshot.text("mode")) == Some("never") {
        return;
    }
    for entry in entries(root, "sinks") {
        let postgres = entry.item.as_ref().and_then(|item| item.get("postgres"));
        let Some(mode) = postgres.and_then(|postgres| postgres.get("mode")) else {
            continue;
        };
        if mode.as_text() == Some("audit") {
            let headline = format!(
                "sink {} keeps an audit trail, and the tables are copied",
                quote(&entry.key)
            );
            let help = "write `snapshot: never` under `source.postgres`".to_owned();
            let other = snapshot.map_or(source.span, |snapshot| snapshot.span);
            contradiction(
                headline,
                mode.span,
                "changes made during a copy would be missing",
                other,
                help,
                report,
            );
        }
    }
}

fn check_state(root: &Item, report: &mut Report<'_>) {
    let Some((path, span)) = root.text("state_dir").zip(root.get("state_dir").map(|item| item.span)) else {
        return;
    };
    if Path::new(path).components().any(|part| part == Component::ParentDir) {
        let headline = format!("`state_dir` {} leads out of the pipeline's folder", quote(path));
        let help = "write a path without `..`: `state_dir: .rowmill/shop`".to_owned();
        report.push(span, finding(&codes::PATH, headline, "`..` isn't followed", help));
    }
}

fn check_module(entry: &Entry, base: &Path, report: &mut Report<'_>) {
    let Some(module) = entry.item.as_ref().and_then(|item| item.get("module")) else {
        return;
    };
    let Some(path) = module.as_text() else { return };
    let resolved = base.join(path);
    let plugin = quote(&entry.key);
    let problem = match (resolved.canonicalize(), base.canonicalize()) {
        (Err(error), _) | (_, Err(error)) => {
            let headline = format!("module of plugin {plugin} not found");
            let help = format!("build it: `rowmill plugin build`, or correct the path {}", quote(path));
            let mut problem = finding(&codes::PATH, headline, "no such file", help);
            problem.cause = Some(format!("{}: {error}", resolved.display()));
            problem
        }
        (Ok(module), Ok(root)) if !module.starts_with(&root) => {
            let headline = format!("module of plugin {plugin} lies outside the pipeline's folder");
            let help = format!("copy it beside the file: `module: plugins/{}.wasm`", entry.key);
            let mut problem = finding(&codes::PATH, headline, "leads out of the folder", help);
            problem.cause = Some(format!("it is {}", module.display()));
            problem
        }
        (Ok(module), Ok(_)) if !module.is_file() => {
            let headline = format!("module of plugin {plugin} isn't a file");
            let help = format!("name the module itself: `module: plugins/{}.wasm`", entry.key);
            finding(&codes::PATH, headline, "not a file", help)
        }
        _ => return,
    };
    report.push(module.span, problem);
}

fn check_kind(entry: &Entry, report: &mut Report<'_>) {
    let Some(item) = &entry.item else { return };
    let kinds: Vec<&Entry> = SINK_KINDS.iter().filter_map(|kind| item.entry(kind)).collect();
    let sink = quote(&entry.key);
    match kinds.as_slice() {
        [] => {
            let headline = format!("sink {sink} has no kind");
            let label = format!("one of {} is missing", quote_all(SINK_KINDS.iter().copied()));
            let help = format!(
                "say what it is: `{}: {{ file: {{ path: out/rows.jsonl }} }}`",
                entry.key
            );
            report.push(entry.span, finding(&codes::MISSING_KEY, headline, &label, help));
        }
        [_] => {}
        [first, second, ..] => {
            let headline = format!("sink {sink} is both `{}` and `{}`", first.key, second.key);
            let help = "make two sinks of it".to_owned();
            contradiction(headline, second.span, "a sink has one kind", first.span, help, report);
        }
    }
}

/// Two sinks that write one file would tear each other's lines.
fn check_files(root: &Item, base: &Path, report: &mut Report<'_>) {
    let mut paths: Vec<(std::path::PathBuf, Span)> = Vec::new();
    for entry in entries(root, "sinks") {
        let file = entry.item.as_ref().and_then(|item| item.get("file"));
        let Some(path) = file.and_then(|file| file.get("path")) else {
            continue;
        };
        let Some(text) = path.as_text() else { continue };
        let resolved: std::path::PathBuf = base.join(text).components().collect();
        match paths.iter().find(|(other, _)| *other == resolved) {
            Some((_, other)) => {
                let headline = format!("two sinks write the file {}", quote(text));
                let help = format!("give {} a file of its own", quote(&entry.key));
                contradiction(headline, path.span, "written by another sink", *other, help, report);
            }
            None => paths.push((resolved, path.span)),
        }
    }
}
