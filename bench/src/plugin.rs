//! What a plugin costs per row on one core, end to end: encoding, call, check of the reply and application.

use crate::divided;
use crate::engine::stay_on;
use crate::parts;
use crate::report::{Bound, Floor, floors, median, store};
use crate::rows::{self, COLUMNS, ROWS, values};
use anyhow::{Context, Result};
use rowmill::batch::Batch;
use rowmill::config::{FilterMode, OnError, OnFault, Policies};
use rowmill::plugin::{Chain, Engine, Mode, PluginVersion, Processed};
use rowmill::plugin_tools::DEFAULT_LIMITS;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Batches of a case per round, the first tenth of which doesn't count.
const BATCHES: usize = 300;
/// Of one that takes a hundred times as long: rounds are short, and many, so that a machine that is slower for a while is
/// so for all cases, and for few rounds.
const BATCHES_OF_MAPS: usize = 30;
const MAPS: &str = "rows as maps";
/// A chain of four may cost this often what one plugin costs.
const CHAIN_RATIO_MAX: f64 = 4.2;

/// Of a module whose code is kept.
const LOADS: usize = 50;
const CACHED_MS_MAX: f64 = 2.0;

struct Case {
    name: &'static str,
    limit_ns: Option<f64>,
    chain: Chain,
    /// Rows that are to come out.
    left: usize,
    medians: Vec<f64>,
    least: f64,
}

pub fn run(rounds: usize, only: Option<&str>) -> Result<()> {
    stay_on(1)?;
    let engine = Engine::new(None)?;
    let batch = rows::batch(COLUMNS.len());
    let mut cases = Vec::new();
    let plain = [json!({})];
    let mask = |column: &str| json!({ "column": column });
    let four = ["email", "note", "status", "token"].map(mask);
    let paid = (0..ROWS).filter(|at| values(*at)[6] == "paid").count();
    let all = ROWS as usize;
    for (name, guest, configs, left, limit_ns) in [
        ("filter, reads one", "filter_one", &plain[..], paid, Some(20.0)),
        ("mask of one", "mask_one", &four[..1], all, Some(40.0)),
        ("mask of a note", "mask_one", &four[1..2], all, None),
        ("mask of a status", "mask_one", &four[2..3], all, None),
        ("mask of a token", "mask_one", &four[3..], all, None),
        ("typed, reads six", "typed_six", &plain[..], all, Some(200.0)),
        ("chain of four masks", "mask_one", &four[..], all, None),
        (MAPS, "rows_as_maps", &plain[..], all, None),
    ] {
        if only.is_some_and(|only| !name.contains(only)) {
            continue;
        }
        let versions = configs.iter().map(|config| version(&engine, guest, config));
        let versions = versions.collect::<Result<Vec<_>>>()?;
        let mut chain = Chain::new(&engine, &versions, FilterMode::Membership, Mode::Live)?;
        chain.relation(&batch.relations[0])?;
        cases.push(Case {
            name,
            limit_ns,
            chain,
            left,
            medians: Vec::new(),
            least: f64::INFINITY,
        });
    }
    let mut through = batch.clone();
    for _ in 0..rounds {
        for case in &mut cases {
            round(case, &batch, &mut through)?;
        }
    }
    conclude(rounds, &cases, only.is_none())
}

fn round(case: &mut Case, batch: &Batch, through: &mut Batch) -> Result<()> {
    let mut rows = Vec::new();
    let batches = if case.name == MAPS { BATCHES_OF_MAPS } else { BATCHES };
    let mut taken = Vec::with_capacity(batches);
    for at in 0..batches {
        parts::again(batch, through, &mut rows);
        let mut processed = Processed::default();
        let started = Instant::now();
        case.chain.process_in_place(through, &mut rows, &mut processed)?;
        let elapsed_ns = started.elapsed().as_nanos() as f64;
        anyhow::ensure!(rows.len() == case.left, "{}: {} rows left", case.name, rows.len());
        if at >= batches / 10 {
            taken.push(elapsed_ns / ROWS as f64);
        }
    }
    case.least = taken.iter().copied().fold(case.least, f64::min);
    case.medians.push(median(taken));
    Ok(())
}

fn conclude(rounds: usize, cases: &[Case], complete: bool) -> Result<()> {
    println!(
        "{:<22} {:>9} {:>19} {:>9} {:>8}",
        "plugin", "ns/row", "rounds", "least", "limit"
    );
    let (mut table, mut held) = (Vec::new(), Vec::new());
    for case in cases {
        let middle = median(case.medians.clone());
        let low = case.medians.iter().copied().fold(f64::INFINITY, f64::min);
        let high = case.medians.iter().copied().fold(0.0, f64::max);
        let limit = case.limit_ns.map_or_else(String::new, |limit| format!("{limit:>8.0}"));
        held.extend(case.limit_ns.map(|limit| {
            let what = format!("plugin, {}, ns per row", case.name);
            Floor::new(what, middle, Bound::AtMost(limit))
        }));
        println!(
            "{:<22} {middle:>9.1} {low:>8.1} to {high:>7.1} {:>9.1} {limit}",
            case.name, case.least
        );
        table.push(json!({
            "name": case.name, "median_ns": middle, "spread_ns": [low, high], "least_ns": case.least,
            "limit_ns": case.limit_ns,
        }));
    }
    if !complete {
        return Ok(());
    }
    // Of neighbours in time, so that the machine's load weighs on both.
    let named = |name: &str| cases.iter().find(|case| case.name == name);
    let ones = cases.iter().filter(|case| case.name.starts_with("mask of"));
    let four = named("chain of four masks").context("no chain")?;
    let rounds_of_one = (0..rounds).map(|at| ones.clone().map(|one| one.medians[at]).sum::<f64>() / 4.0);
    let pairs = four.medians.iter().zip(rounds_of_one);
    let ratio = median(pairs.map(|(four, one)| four / one).collect());
    let least = four.least * 4.0 / ones.map(|one| one.least).sum::<f64>();
    println!("four masks {ratio:.2} x the mean of the four alone (least {least:.2} x)");
    held.push(Floor::new(
        "plugin, a chain of four beside the mean of the four alone",
        ratio,
        Bound::AtMost(CHAIN_RATIO_MAX),
    ));
    let cached_ms = cached_ms()?;
    println!("a cached module of 1 MB is loaded in {cached_ms:.2} ms");
    held.push(Floor::new(
        "plugin, loading a cached module of 1 MB, ms",
        cached_ms,
        Bound::AtMost(CACHED_MS_MAX),
    ));
    let divided = divided::measure(rounds)?;
    store(
        "plugin",
        json!({"rows": ROWS, "columns": COLUMNS.len(), "rounds": rounds, "cases": table, "chain_ratio": ratio,
            "chain_ratio_least": least, "cached_module_ms": cached_ms, "divided": divided, "floors": floors(&held)}),
    )
}

/// From the module's bytes to code that can be called, where it was compiled before: hashed, checked, mapped.
fn cached_ms() -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let engine = Engine::new(Some(folder.path().join("code")))?;
    let bytes = rowmill_tests::large_tagger(1, 0)?;
    engine.load(&bytes, &DEFAULT_LIMITS)?;
    let load = |_| {
        let started = Instant::now();
        drop(engine.load(&bytes, &DEFAULT_LIMITS)?);
        Ok(started.elapsed().as_secs_f64() * 1e3)
    };
    Ok(median((0..LOADS).map(load).collect::<Result<_>>()?))
}

pub fn version(engine: &Arc<Engine>, guest: &str, config: &serde_json::Value) -> Result<PluginVersion> {
    let path = Path::new("target/wasm32-unknown-unknown/plugin").join(format!("{guest}.wasm"));
    let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
    Ok(PluginVersion {
        name: guest.to_owned(),
        module: engine.load(&bytes, &DEFAULT_LIMITS)?,
        config: config.clone(),
        limits: DEFAULT_LIMITS,
        policies: Policies {
            on_error: OnError::Stop,
            on_fault: OnFault::Stop,
            max_faults: 1,
        },
    })
}
