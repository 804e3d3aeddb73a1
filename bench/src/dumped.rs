//! The first copy of a table into a Postgres target, beside `pg_dump | psql` of it: with the table and its key made by
//! each, and into a table that is there.

use crate::report::{Bound, Floor, Side, compare};
use crate::timed::{Taken, servers_cpu_seconds, wait};
use crate::workplace::program;
use anyhow::{Context, Result, ensure};
use rowmill_tests::Cluster;
use serde_json::Value;
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
        let (mut ours, mut theirs) = (Side::new("rowmill"), Side::new("pg_dump | psql"));
        for pair in 0..pairs {
            for (side, of_side) in [("peer", &mut theirs), ("rowmill", &mut ours)] {
                let database = format!("{side}_copy_{pair}");
                target.sql(DATABASE, &format!("CREATE DATABASE {database}"))?;
                if !made {
                    target.sql(&database, TABLE)?;
                }
                target.sql(DATABASE, "CHECKPOINT")?;
                of_side.runs.push(match side {
                    "peer" => peer(source, target, &database, made)?,
                    _ => copied(rowmill, source, target, &database, made)?,
                });
                let count = target.sql(&database, "SELECT count(*) FROM copied")?;
                ensure!(count == rows.to_string(), "{side}: {count} rows");
                target.sql(DATABASE, &format!("DROP DATABASE {database} WITH (FORCE)"))?;
            }
        }
        let name = format!("{NAME}, {case}");
        let compared = compare(&name, rows, &ours, &theirs);
        let what = format!("{name}, rate beside pg_dump | psql");
        held.push(Floor::new(what, compared.rate, Bound::AtLeast(least)));
        told.push(compared.value);
    }
    Ok((told, held))
}

fn peer(source: &Cluster, target: &Cluster, database: &str, made: bool) -> Result<Taken> {
    let before = servers_cpu_seconds((source, target))?;
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
    let restore = restore.stdin(out).stdout(Stdio::null()).spawn().context("psql")?;
    let (restored, dumped) = (wait(restore).context("psql")?, wait(dump).context("pg_dump")?);
    Ok(Taken {
        seconds: started.elapsed().as_secs_f64(),
        server_cpu_seconds: servers_cpu_seconds((source, target))? - before,
        cpu_seconds: restored.cpu_seconds + dumped.cpu_seconds,
        peak_memory_kib: restored.peak_memory_kib + dumped.peak_memory_kib,
        bytes: 0,
    })
}

fn copied(rowmill: &Path, source: &Cluster, target: &Cluster, name: &str, made: bool) -> Result<Taken> {
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
    let before = servers_cpu_seconds((source, target))?;
    let started = Instant::now();
    let log = || std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
    let mut taken = wait(command.spawn()?).with_context(log)?;
    taken.seconds = started.elapsed().as_secs_f64();
    taken.server_cpu_seconds = servers_cpu_seconds((source, target))? - before;
    source.sql(DATABASE, &format!("SELECT pg_drop_replication_slot('rowmill_{name}')"))?;
    source.sql(DATABASE, &format!("DROP PUBLICATION rowmill_{name}"))?;
    Ok(taken)
}
