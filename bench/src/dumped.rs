//! The first copy of a table into a Postgres target, beside `pg_dump | psql` of it: with the table and its key made by
//! each, and into a table that is there.

use crate::report::{Bound, Floor, median};
use crate::workplace::program;
use anyhow::{Context, Result, ensure};
use rowmill_tests::Cluster;
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

const DATABASE: &str = "postgres";
/// What the cases' names begin with.
pub const NAME: &str = "first copy";
const TABLE: &str = "CREATE TABLE copied (id bigint PRIMARY KEY, status text, email text, phone text, total numeric, \
    note text, at timestamptz)";
/// The table is made by either side, or there; and the least rate beside the peer.
const CASES: [(&str, bool, f64); 2] = [("table made", true, 1.0), ("table there", false, 1.0)];

/// `values` are the columns behind the key.
pub fn run(
    rowmill: &Path,
    (source, target): (&Cluster, &Cluster),
    rows: u64,
    pairs: usize,
    values: &str,
) -> Result<(Vec<Value>, Vec<Floor>)> {
    source.script(
        DATABASE,
        &format!(
            "{TABLE}; INSERT INTO copied SELECT n, {values} FROM generate_series(1, {rows}) n;
                 VACUUM (ANALYZE) copied; CHECKPOINT"
        ),
    )?;
    let (mut told, mut held) = (Vec::new(), Vec::new());
    for (case, made, least) in CASES {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for pair in 0..pairs {
            for (side, seconds) in [("peer", &mut theirs), ("rowmill", &mut ours)] {
                let database = format!("{side}_copy_{pair}");
                target.sql(DATABASE, &format!("CREATE DATABASE {database}"))?;
                if !made {
                    target.sql(&database, TABLE)?;
                }
                target.sql(DATABASE, "CHECKPOINT")?;
                seconds.push(match side {
                    "peer" => peer(source, target, &database, made)?,
                    _ => copied(rowmill, source, target, &database, made)?,
                });
                let count = target.sql(&database, "SELECT count(*) FROM copied")?;
                ensure!(count == rows.to_string(), "{side}: {count} rows");
                target.sql(DATABASE, &format!("DROP DATABASE {database} WITH (FORCE)"))?;
            }
        }
        let rate = |seconds: &[f64]| rows as f64 / median(seconds.to_vec());
        let ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(our, their)| their / our).collect();
        let ratio = median(ratios.clone());
        let name = format!("{NAME}, {case}");
        println!(
            "{name:<30} {:>14.0} {:>14.0} {ratio:>7.2}x  {ratios:.2?}",
            rate(&ours),
            rate(&theirs)
        );
        held.push(Floor::new(
            format!("{name}, rate beside pg_dump | psql"),
            ratio,
            Bound::AtLeast(least),
        ));
        told.push(json!({
            "case": format!("{name}, beside pg_dump \\| psql"),
            "rows": rows,
            "rowmill_seconds": ours,
            "peer_seconds": theirs,
            "rate_ratio": ratio,
        }));
    }
    Ok((told, held))
}

fn peer(source: &Cluster, target: &Cluster, database: &str, made: bool) -> Result<f64> {
    let started = Instant::now();
    let mut dump = Command::new(program("pg_dump"));
    dump.args(["-d", &source.url(DATABASE), "-t", "public.copied"]);
    if !made {
        dump.arg("--data-only");
    }
    let mut dump = dump.stdout(Stdio::piped()).spawn().context("pg_dump")?;
    let out = dump.stdout.take().context("it is piped")?;
    let mut restore = Command::new(program("psql"));
    restore.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &target.url(database)]);
    let restored = restore.stdin(out).stdout(Stdio::null()).status().context("psql")?;
    ensure!(restored.success() && dump.wait()?.success(), "pg_dump | psql");
    Ok(started.elapsed().as_secs_f64())
}

fn copied(rowmill: &Path, source: &Cluster, target: &Cluster, name: &str, made: bool) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("pipeline.yaml");
    let text = format!(
        "name: {name}
console: off
source:
  postgres: {{ url: \"{}\", tables: [public.copied] }}
routes: [{{ tables: [public.copied], sinks: [target] }}]
sinks: {{ target: {{ postgres: {{ url: \"{}\", create_tables: {made} }} }} }}
",
        source.url(DATABASE),
        target.url(name)
    );
    std::fs::write(&file, text)?;
    let log = std::fs::File::create(folder.path().join("log"))?;
    let mut command = Command::new(rowmill);
    command.arg("run").arg(&file).arg("--once").current_dir(folder.path());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let started = Instant::now();
    let status = command.status()?;
    let seconds = started.elapsed().as_secs_f64();
    let log = || std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
    ensure!(status.success(), "{status}: {}", log());
    source.sql(DATABASE, &format!("SELECT pg_drop_replication_slot('rowmill_{name}')"))?;
    source.sql(DATABASE, &format!("DROP PUBLICATION rowmill_{name}"))?;
    Ok(seconds)
}
