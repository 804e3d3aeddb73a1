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

/// Name, type and value; the first column is the key.
const COLUMNS: [(&str, u32, &str, &str); 12] = [
    ("id", 20, "int8", "1234567890"),
    ("quantity", 23, "int4", "42"),
    ("shard", 21, "int2", "7"),
    ("weight", 701, "float8", "12.375"),
    ("score", 701, "float8", "0.5"),
    ("gift", 16, "bool", "t"),
    ("status", 25, "text", "paid"),
    ("email", 25, "text", "alice@example.org"),
    ("note", 25, "text", "leave it with the neighbours"),
    ("amount", 1700, "numeric", "1234.50"),
    ("created_at", 1184, "timestamptz", "2024-05-17 12:34:56.789012+00"),
    ("token", 2950, "uuid", "6f1c2e0a-7d41-4a5e-9d3b-0a1b2c3d4e5f"),
];

struct Case {
    name: &'static str,
    limit_ns: Option<f64>,
    chain: Chain,
    medians: Vec<f64>,
    least: f64,
}

pub fn run(rounds: usize) -> Result<()> {
    stay_on(1)?;
    let engine = Engine::new(None)?;
    let batch = batch();
    let mut cases = Vec::new();
    for (name, guest, count, limit_ns) in [
        ("filter, reads one", "filter_one", 1, Some(20.0)),
        ("mask of one", "mask_one", 1, Some(40.0)),
        ("typed, reads six", "typed_six", 1, Some(200.0)),
        ("chain of four masks", "mask_one", 4, None),
        ("rows as maps", "rows_as_maps", 1, None),
    ] {
        let versions = vec![version(&engine, guest)?; count];
        let mut chain = Chain::new(&engine, &versions, FilterMode::Membership, Mode::Live)?;
        chain.relation(&batch.relations[0])?;
        cases.push(Case {
            name,
            limit_ns,
            chain,
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
    conclude(rounds, &cases)
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
        anyhow::ensure!(rows.len() == batch.rows.len(), "{}: rows are missing", case.name);
        if at >= BATCHES / 10 {
            taken.push(elapsed_ns / ROWS as f64);
        }
    }
    case.least = taken.iter().copied().fold(case.least, f64::min);
    case.medians.push(median(taken));
    Ok(())
}

fn conclude(rounds: usize, cases: &[Case]) -> Result<()> {
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
    // Of neighbours in time, so that the machine's load weighs on both.
    let pairs = cases[3].medians.iter().zip(&cases[1].medians);
    let ratio = median(pairs.map(|(four, one)| four / one).collect());
    let least = cases[3].least / cases[1].least;
    println!(
        "four masks {ratio:.2} x one (least {least:.2} x), limit {CHAIN_RATIO_MAX} {}",
        verdict(ratio <= CHAIN_RATIO_MAX)
    );
    store(
        "plugin",
        json!({"rows": ROWS, "columns": COLUMNS.len(), "rounds": rounds, "cases": table, "chain_ratio": ratio,
            "chain_ratio_least": least, "chain_ratio_limit": CHAIN_RATIO_MAX}),
    )
}

fn version(engine: &Arc<Engine>, guest: &str) -> Result<PluginVersion> {
    let path = Path::new("target/wasm32-unknown-unknown/plugin").join(format!("{guest}.wasm"));
    let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
    Ok(PluginVersion {
        name: guest.to_owned(),
        module: engine.load(&bytes, &DEFAULT_LIMITS)?,
        config: json!({}),
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
        .map(|(slot, (name, type_oid, type_name, _))| Column {
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
        let cells: Vec<_> = COLUMNS
            .iter()
            .map(|column| batch.text_cell(column.3.as_bytes()))
            .collect();
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
