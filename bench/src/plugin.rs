//! What a plugin costs per row on one core, end to end: encoding, call, check of the reply and application.

use crate::engine::stay_on;
use crate::report::{median, store};
use anyhow::{Context, Result};
use rowmill::batch::{Batch, Column, Lsn, OldImage, Op, Origin, Part, Relation, ReplicaIdentity, Row, Transaction};
use rowmill::config::{FilterMode, OnError, OnFault, Policies};
use rowmill::plugin::{Chain, Engine, Mode, PluginVersion, Processed};
use rowmill::plugin_tools::DEFAULT_LIMITS;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

const ROWS: u64 = 1_024;
/// Batches of a case per round, the first tenth of which doesn't count.
const BATCHES: usize = 300;
/// A chain of four may cost this often what one plugin costs.
const CHAIN_RATIO_MAX: f64 = 4.2;

/// Name and type; the first column is the key.
const COLUMNS: [(&str, u32, &str); 12] = [
    ("id", 20, "int8"),
    ("quantity", 23, "int4"),
    ("shard", 21, "int2"),
    ("weight", 701, "float8"),
    ("score", 701, "float8"),
    ("gift", 16, "bool"),
    ("status", 25, "text"),
    ("email", 25, "text"),
    ("note", 25, "text"),
    ("amount", 1700, "numeric"),
    ("created_at", 1184, "timestamptz"),
    ("token", 2950, "uuid"),
];
/// One in five isn't paid.
const STATUSES: [&str; 5] = ["paid", "paid", "shipped", "paid", "paid"];

/// Values of a row: lengths, digits and branches vary as they do in tables.
fn values(ordinal: u64) -> [String; 12] {
    // Knuth's multiplier: all bits change from row to row, the same in every run.
    let noise = (ordinal + 1).wrapping_mul(6_364_136_223_846_793_005) >> 16;
    let part = |shift: u32, limit: u64| (noise >> shift) % limit;
    let name = ["al", "alice", "bob", "christina", "dan", "evangeline"][part(3, 6) as usize];
    [
        (part(0, 9_000_000_000) + 1).to_string(),
        part(5, 200).to_string(),
        part(7, 16).to_string(),
        format!("{}.{}", part(2, 80), part(9, 8) * 125),
        format!("0.{}", part(4, 10)),
        if part(11, 3) == 0 { "t" } else { "f" }.to_owned(),
        STATUSES[part(13, 5) as usize].to_owned(),
        format!("{name}.{}@example.org", part(1, 10_000)),
        "leave it with the neighbours"
            .chars()
            .cycle()
            .take(part(6, 60) as usize)
            .collect(),
        format!("{}.{:02}", part(8, 10_000), part(12, 100)),
        format!(
            "2024-{:02}-{:02} {:02}:{:02}:{:02}.{:06}+00",
            part(1, 12) + 1,
            part(2, 28) + 1,
            part(3, 24),
            part(4, 60),
            part(5, 60),
            // Postgres leaves trailing zeros away.
            part(6, 99_999) * 10 + 1,
        ),
        format!("{:08x}-7d41-4a5e-9d3b-{noise:012x}", part(9, 1 << 32)),
    ]
}

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
    let batch = batch();
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
        ("rows as maps", "rows_as_maps", &plain[..], all, None),
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
    let mut taken = Vec::with_capacity(BATCHES);
    for at in 0..BATCHES {
        through.cells.truncate(batch.cells.len());
        through.arena.truncate(batch.arena.len());
        through.relations.truncate(batch.relations.len());
        rows.clear();
        rows.extend_from_slice(&batch.rows);
        let mut processed = Processed::default();
        let started = Instant::now();
        case.chain.process(through, &mut rows, &mut processed)?;
        let elapsed_ns = started.elapsed().as_nanos() as f64;
        anyhow::ensure!(rows.len() == case.left, "{}: {} rows left", case.name, rows.len());
        if at >= BATCHES / 10 {
            taken.push(elapsed_ns / ROWS as f64);
        }
    }
    case.least = taken.iter().copied().fold(case.least, f64::min);
    case.medians.push(median(taken));
    Ok(())
}

fn conclude(rounds: usize, cases: &[Case], complete: bool) -> Result<()> {
    let verdict = |holds: bool| if holds { "pass" } else { "FAIL" };
    println!(
        "{:<22} {:>9} {:>19} {:>9} {:>8}",
        "plugin", "ns/row", "rounds", "least", "limit"
    );
    let mut table = Vec::new();
    for case in cases {
        let middle = median(case.medians.clone());
        let low = case.medians.iter().copied().fold(f64::INFINITY, f64::min);
        let high = case.medians.iter().copied().fold(0.0, f64::max);
        let limit = case.limit_ns.map_or_else(String::new, |limit| {
            format!("{limit:>8.0} {}", verdict(middle <= limit))
        });
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
    println!(
        "four masks {ratio:.2} x the mean of the four alone (least {least:.2} x), limit {CHAIN_RATIO_MAX} {}",
        verdict(ratio <= CHAIN_RATIO_MAX)
    );
    store(
        "plugin",
        json!({"rows": ROWS, "columns": COLUMNS.len(), "rounds": rounds, "cases": table, "chain_ratio": ratio,
            "chain_ratio_least": least, "chain_ratio_limit": CHAIN_RATIO_MAX}),
    )
}

fn version(engine: &Arc<Engine>, guest: &str, config: &serde_json::Value) -> Result<PluginVersion> {
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

fn batch() -> Batch {
    let columns = COLUMNS
        .iter()
        .enumerate()
        .map(|(slot, (name, type_oid, type_name))| Column {
            name: (*name).to_owned(),
            type_oid: *type_oid,
            typmod: -1,
            type_name: (*type_name).to_owned(),
            nullable: slot > 0,
            key: slot == 0,
            slot: slot as u16,
        });
    let relation = Relation {
        index: Relation::next_index(),
        version: 1,
        oid: 1,
        schema: "public".to_owned(),
        table: "orders".to_owned(),
        replica_identity: ReplicaIdentity::Default,
        slots: COLUMNS.len() as u16,
        columns: columns.collect(),
    };
    let transaction = Transaction {
        xid: 7,
        commit_lsn: Lsn(0x10),
        end_lsn: Lsn(0x18),
        commit_us: 0,
        part: Part::Whole,
        origin: Origin::Stream,
    };
    let mut batch = Batch {
        relations: vec![Arc::new(relation)],
        transactions: vec![transaction],
        ..Batch::default()
    };
    for ordinal in 0..ROWS {
        let cells = values(ordinal).map(|value| batch.text_cell(value.as_bytes()));
        let new = Some(batch.push_tuple(cells));
        batch.rows.push(Row {
            relation: 0,
            transaction: 0,
            ordinal,
            old: None,
            new,
            extra: 0,
            fan_out: 0,
            op: Op::Insert,
            old_image: OldImage::Full,
        });
    }
    batch
}
