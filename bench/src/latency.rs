//! From commit to sink: transactions of one row at a steady rate, through two plugins to standard output.
//!
//! The line of a change has the time of its commit by the server's clock, and is read here by the same clock. So the
//! latency is that of the whole way: walsender, receiver, plugins, encoding, pipe.

use crate::orders::{self, DATABASE};
use crate::report::{Bound, Floor, floors, store};
use crate::timed::wait;
use crate::workplace::{FILTER_AND_MASK, Workplace, cluster, drop_slot, make_slot, program, wait_for_reader};
use anyhow::{Context, Result, ensure};
use rowmill_tests::Cluster;
use serde_json::{Value, json};
use std::io::Read;
use std::path::PathBuf;
use std::process::{ChildStdout, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

pub struct Options {
    pub rowmill: PathBuf,
    pub seconds: u64,
    pub rounds: usize,
    /// Transactions per second.
    pub rates: Vec<u64>,
}

/// What is thrown away: connections are made, caches filled.
const WARM_UP_SECONDS: u64 = 2;
/// The rate that has a floor.
const FLOOR_RATE: u64 = 1_000;
/// Sessions of pgbench that share the rate.
const CLIENTS: u64 = 8;

pub fn run(options: &Options) -> Result<()> {
    let cluster = cluster(&[])?;
    orders::create(&cluster)?;
    let place = Workplace::new(&options.rowmill)?;
    let mut found: Vec<Vec<f64>> = vec![Vec::new(); options.rates.len()];
    for round in 0..options.rounds {
        for (at, rate) in options.rates.iter().enumerate() {
            let slot = format!("bench_{rate}_{round}");
            found[at].append(&mut once(&place, &cluster, &slot, *rate, options.seconds)?);
        }
    }
    conclude(options, found)
}

fn conclude(options: &Options, found: Vec<Vec<f64>>) -> Result<()> {
    println!(
        "\n{:>12} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "commits/s", "changes", "p50 ms", "p99 ms", "p99.9 ms", "max ms"
    );
    let mut table = Vec::new();
    let mut held = Vec::new();
    for (rate, latencies) in options.rates.iter().zip(found) {
        let summary = summary(latencies);
        println!(
            "{rate:>12} {:>9} {:>9.3} {:>9.3} {:>9.3} {:>9.3}",
            summary["changes"],
            of(&summary, "p50_ms"),
            of(&summary, "p99_ms"),
            of(&summary, "p999_ms"),
            of(&summary, "max_ms")
        );
        if *rate == FLOOR_RATE {
            held.push(Floor::new(
                "latency at 1,000/s, p50 ms",
                of(&summary, "p50_ms"),
                Bound::AtMost(2.0),
            ));
            held.push(Floor::new(
                "latency at 1,000/s, p99 ms",
                of(&summary, "p99_ms"),
                Bound::AtMost(10.0),
            ));
        }
        table.push(json!({"per_second": rate, "latency": summary}));
    }
    let report = json!({
        "rates": table, "seconds": options.seconds, "rounds": options.rounds, "floors": floors(&held),
    });
    store("latency", report)
}

fn of(summary: &Value, key: &str) -> f64 {
    summary[key].as_f64().unwrap_or(f64::NAN)
}

/// Quantiles, and a histogram whose bars are a factor of two wide.
pub fn summary(mut latencies_ms: Vec<f64>) -> Value {
    latencies_ms.sort_by(f64::total_cmp);
    let count = latencies_ms.len();
    let quantile = |part: f64| latencies_ms.get(((count as f64 * part) as usize).min(count.saturating_sub(1)));
    let mut histogram = Vec::new();
    let (mut upper_ms, mut below) = (0.125, 0);
    while below < count {
        let upto = latencies_ms.partition_point(|latency| *latency < upper_ms);
        histogram.push(json!({"below_ms": upper_ms, "changes": upto - below}));
        below = upto;
        upper_ms *= 2.0;
    }
    json!({
        "changes": count, "p50_ms": quantile(0.5), "p99_ms": quantile(0.99), "p999_ms": quantile(0.999),
        "max_ms": latencies_ms.last(), "histogram": histogram,
    })
}

/// Latencies in ms of the commits behind the warm-up.
pub fn once(place: &Workplace, cluster: &Cluster, slot: &str, rate: u64, seconds: u64) -> Result<Vec<f64>> {
    make_slot(cluster, slot, "pgoutput")?;
    let url = cluster.url(DATABASE);
    let rest = format!(
        "source:
  postgres: {{ url: \"{url}\", publication: bench, slot: {slot}, snapshot: never }}
{FILTER_AND_MASK}routes:
  - {{ tables: [public.orders], plugins: [paid-only, mask-pii], sinks: [lines] }}
sinks:
  lines: stdout
"
    );
    let mut child = place.run(slot, &rest)?.stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().context("a pipe")?;
    wait_for_reader(cluster, slot)?;
    let begin_us = now_us() + WARM_UP_SECONDS as i64 * 1_000_000;
    let reading = std::thread::spawn(move || read(output, begin_us));
    let loaded = load(cluster, place, rate, seconds);
    // The last ones are on their way.
    std::thread::sleep(std::time::Duration::from_millis(500));
    // SAFETY: no memory is involved; the child is ours and not waited for.
    unsafe { libc::kill(child.id().cast_signed(), libc::SIGTERM) };
    let ended = wait(child).with_context(|| place.log(slot));
    let latencies = reading.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    loaded?;
    ended?;
    ensure!(!latencies.is_empty(), "nothing came: {}", place.log(slot));
    place.keep_compiled(slot)?;
    drop_slot(cluster, slot)?;
    Ok(latencies)
}

/// Commits single rows at a steady rate; returns when all are committed.
pub fn load(cluster: &Cluster, place: &Workplace, rate: u64, seconds: u64) -> Result<()> {
    let script = place.path().join("insert.sql");
    std::fs::write(
        &script,
        "\\set id random(1, 9000000000000000000)
INSERT INTO orders VALUES (:id, 'paid', 'customer' || :id || '@example.com', '+49 30 ' || :id, 12.5, \
         'a note of some forty characters, more or less', now());\n",
    )?;
    let clients = CLIENTS.to_string();
    let output = Command::new(program("pgbench"))
        .args([
            "-n",
            "-M",
            "prepared",
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-c",
            &clients,
        ])
        .args(["-p", &cluster.port().to_string(), "-R", &rate.to_string()])
        .args(["-T", &(WARM_UP_SECONDS + seconds).to_string(), "-f"])
        .arg(&script)
        .arg(DATABASE)
        .output()
        .context("pgbench")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let reached = said.lines().find_map(|line| line.strip_prefix("tps = "));
    let reached: f64 = reached
        .and_then(|rest| rest.split(' ').next())
        .context("pgbench told no rate")?
        .parse()?;
    if reached < 0.95 * rate as f64 {
        println!(
            "the server reached {reached:.0} of {rate} transactions per second: latencies are those of an overloaded machine"
        );
    }
    Ok(())
}

pub fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_micros() as i64
}

/// Lines until the end; the latency in ms of each that was committed after `begin_us`.
fn read(mut output: ChildStdout, begin_us: i64) -> Result<Vec<f64>> {
    let mut latencies = Vec::new();
    let mut pending = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = output.read(&mut buffer)?;
        let arrived_us = now_us();
        if length == 0 {
            return Ok(latencies);
        }
        pending.extend_from_slice(&buffer[..length]);
        let mut at = 0;
        while let Some(end) = pending[at..].iter().position(|byte| *byte == b'\n') {
            let line = std::str::from_utf8(&pending[at..at + end])?;
            let committed_us = commit_us(line).with_context(|| line.to_owned())?;
            if committed_us >= begin_us {
                latencies.push((arrived_us - committed_us) as f64 / 1e3);
            }
            at += end + 1;
        }
        pending.drain(..at);
    }
}

/// The commit's time in µs since 1970: `"commit_time":"2026-01-02T03:04:05.678901Z"}` ends the line.
fn commit_us(line: &str) -> Option<i64> {
    let (_, time) = line.rsplit_once("\"commit_time\":\"")?;
    let number = |from: usize, to: usize| time.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let us = number(20, 26)?;
    // Days since 1970-01-01, with years that begin in March.
    let years = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = 365 * years + years / 4 - years / 100 + years / 400 + day_of_year - 719_468;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_commit_is_read_from_its_line() {
        let line = r#"{"id":"1:2:0:0","position":"0/1","commit_time":"2000-03-01T00:00:01.000002Z"}"#;
        assert_eq!(commit_us(line), Some(951_868_801_000_002));
        assert_eq!(commit_us("{}"), None);
    }

    #[test]
    fn quantiles_and_bars_cover_all_changes() {
        let summary = summary((1..=1_000).map(f64::from).collect());
        assert_eq!(of(&summary, "p50_ms"), 501.0);
        assert_eq!(of(&summary, "p999_ms"), 1_000.0);
        let bars = summary["histogram"].as_array().unwrap();
        let changes: u64 = bars.iter().map(|bar| bar["changes"].as_u64().unwrap()).sum();
        assert_eq!(changes, 1_000);
    }
}
