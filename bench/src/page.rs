//! `docs/explanation/performance.md` from what lies under `target/bench/`: no figure of it is written by hand.

mod tables;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

const TEMPLATE: &str = include_str!("page.md");
const PAGE: &str = "docs/explanation/performance.md";
/// Beside the page.
const PLOTS: &str = "docs/explanation/performance";

/// What makes the text of a placeholder.
type Make = fn(&Value) -> Option<String>;

/// Placeholder, the benchmark that it is made of, and how.
const PLACES: [(&str, &str, Make); 18] = [
    ("stream", "stream", tables::compared),
    ("stream-tls", "stream-tls", tables::compared),
    ("stream-18", "stream-18", tables::compared),
    ("stream-18-tls", "stream-18-tls", tables::compared),
    ("file", "file", tables::compared),
    ("snapshot", "snapshot", tables::compared),
    ("debezium", "debezium", tables::compared),
    ("debezium-latency", "debezium", tables::latency_beside),
    ("postgres", "postgres", tables::compared),
    ("engine", "engine", tables::engine),
    ("plugin", "plugin", tables::plugin),
    ("latency", "latency", tables::latency),
    ("growth", "growth", tables::growth),
    ("start", "start", tables::start),
    ("memory", "memory", tables::memory),
    ("parts", "parts", tables::parts),
    ("profile", "profile", tables::profile),
    ("profile-18", "profile-18", tables::profile),
];

/// Of one commit, and whole, unless `partial` says that they may be of several or missing.
pub fn run(partial: bool) -> Result<()> {
    let mut page = TEMPLATE.to_owned();
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for (place, benchmark, make) in PLACES {
        let report = load(benchmark)?;
        let text = report.as_ref().and_then(make);
        if text.is_none() {
            missing.push(benchmark);
        }
        let absent = || format!("Not taken yet: `cargo xtask bench {benchmark}`.\n");
        page = page.replace(&format!("{{{{{place}}}}}\n"), &text.unwrap_or_else(absent));
        if !found.iter().any(|(name, _)| *name == benchmark) {
            found.extend(report.map(|report| (benchmark, report)));
        }
    }
    let taken_at = |report: &Value| report["machine"]["commit"].as_str().unwrap_or_default().to_owned();
    let commits: BTreeSet<String> = found.iter().map(|(_, report)| taken_at(report)).collect();
    ensure!(
        partial || commits.len() == 1,
        "the reports are of several commits ({}): run what is old again, or ask for a page with --partial",
        commits.into_iter().collect::<Vec<_>>().join(", ")
    );
    ensure!(
        partial || missing.is_empty(),
        "not taken yet: {}; or ask for a page with --partial",
        missing.join(", ")
    );
    let instructions = std::fs::read("bench/instructions.json").unwrap_or_default();
    let instructions = serde_json::from_slice(&instructions).unwrap_or_default();
    page = page.replace("{{floors}}\n", &tables::floors(&found));
    page = page.replace("{{machine}}\n", &tables::machine(&found));
    page = page.replace("{{instructions}}\n", &tables::instructions(&instructions));
    plots(&found)?;
    std::fs::write(PAGE, page).context(PAGE)?;
    println!("{PAGE}");
    Ok(())
}

fn load(benchmark: &str) -> Result<Option<Value>> {
    let path = format!("target/bench/{benchmark}.json");
    match std::fs::read(&path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).context(path)?)),
        Err(_) => Ok(None),
    }
}

/// Those of the growth and of profiles lie there as they were drawn; that of the latency is drawn here.
fn plots(found: &[(&str, Value)]) -> Result<()> {
    std::fs::create_dir_all(PLOTS)?;
    for (name, report) in found {
        for series in report["series"].as_array().into_iter().flatten() {
            let file = format!("growth-{}.svg", series["name"].as_str().unwrap_or_default());
            std::fs::copy(Path::new("target/bench").join(&file), Path::new(PLOTS).join(&file)).context(file)?;
        }
        for job in report["jobs"].as_array().into_iter().flatten() {
            let file = format!("flame-{}.svg", job["name"].as_str().unwrap_or_default());
            std::fs::copy(Path::new("target/bench").join(&file), Path::new(PLOTS).join(&file)).context(file)?;
        }
        if *name == "latency" {
            std::fs::write(Path::new(PLOTS).join("latency.svg"), tables::latency_plot(report).svg())?;
        }
    }
    Ok(())
}
