//! How fast the receiver takes a saturated stream, and what it costs, beside `pg_recvlogical` writing to /dev/null on
//! the same WAL. A private cluster; one slot per run, runs interleaved.
//!
//! `cargo run --example receive_rate [ROWS] [ROUNDS] [tls]`

use anyhow::{Context, Result, ensure};
use rowmill::batch::Lsn;
use rowmill::postgres::Conninfo;
use rowmill::source::replication::{Connection, ProtocolOptions};
use rowmill_tests::{Cluster, ClusterOptions};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::sync::watch;

const ROWS_PER_TRANSACTION: u64 = 1000;

struct Run {
    who: &'static str,
    wall: Duration,
    user: Duration,
    system: Duration,
    /// Of the server's process; not to be had once a client has gone.
    walsender: Option<Duration>,
    bytes: u64,
    reads: u64,
    hand_outs: u64,
}

impl Run {
    fn print(&self, rows: u64) {
        let per_million = |time: Duration| time.as_secs_f64() * 1e6 / rows as f64;
        println!(
            "{:<16} {:>9.0} rows/s  CPU {:.3} s per 1 M rows ({:.3} user + {:.3} system)",
            self.who,
            rows as f64 / self.wall.as_secs_f64(),
            per_million(self.user + self.system),
            per_million(self.user),
            per_million(self.system),
        );
        if let Some(walsender) = self.walsender {
            let share = walsender.as_secs_f64() / self.wall.as_secs_f64();
            let (reads, hand_outs, megabytes) = (self.reads, self.hand_outs, self.bytes >> 20);
            println!(
                "    {megabytes} MB, {reads} reads, {hand_outs} hand-outs; walsender on CPU {:.0} %",
                share * 100.0
            );
        }
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u64| arguments.get(at).map_or(Ok(default), |text| text.parse());
    let (rows, rounds) = (number(0, 500_000)?, number(1, 3)?);
    let tls = arguments.iter().any(|argument| argument == "tls");

    let certificate = tempfile::tempdir()?;
    let mut options = ClusterOptions::default();
    options.settings.push(format!("max_replication_slots={}", 2 * rounds));
    options.settings.push("checkpoint_timeout=1h".into());
    options.settings.push("max_wal_size=16GB".into());
    if tls {
        options.settings.extend(tls_settings(certificate.path())?);
    }
    let cluster = Cluster::start_with(&options)?;
    cluster.sql(
        "postgres",
        "CREATE TABLE t (id bigint PRIMARY KEY, a int, b int, name text, mail text, at timestamptz, total numeric); \
         CREATE PUBLICATION p FOR TABLE t",
    )?;
    for slot in 0..2 * rounds {
        cluster.sql(
            "postgres",
            &format!("SELECT pg_create_logical_replication_slot('s{slot}', 'pgoutput')"),
        )?;
    }
    cluster.sql(
        "postgres",
        &format!(
            "DO $$ BEGIN FOR lowest IN 1..{rows} BY {ROWS_PER_TRANSACTION} LOOP \
             INSERT INTO t SELECT g, g % 1000, g % 7, 'customer number ' || g, 'user' || g || '@mail.example', now(), \
             g / 100.0 FROM generate_series(lowest, lowest + {ROWS_PER_TRANSACTION} - 1) g; COMMIT; END LOOP; END $$"
        ),
    )?;
    let end: Lsn = cluster.sql("postgres", "SELECT pg_current_wal_flush_lsn()")?.parse()?;
    // A later commit, so that both have something to reach the end with.
    cluster.sql("postgres", "INSERT INTO t (id) VALUES (0)")?;

    let mode = if tls { "require" } else { "disable" };
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    for round in 0..rounds {
        let run = pg_recvlogical(&cluster, &format!("s{}", 2 * round), end, mode)?;
        run.print(rows);
        theirs.push(run.wall);
        let url = format!("{}?sslmode={mode}", cluster.url("postgres"));
        let slot = format!("s{}", 2 * round + 1);
        let run = tokio::spawn(async move { receiver(&url, &slot, end).await }).await??;
        run.print(rows);
        ours.push(run.wall);
    }
    let median = |walls: &mut Vec<Duration>| {
        walls.sort_unstable();
        walls[walls.len() / 2].as_secs_f64()
    };
    println!(
        "median rate: {:.2} x pg_recvlogical",
        median(&mut theirs) / median(&mut ours)
    );
    Ok(())
}

async fn receiver(url: &str, slot: &str, end: Lsn) -> Result<Run> {
    let (user, system) = cpu(libc::RUSAGE_SELF)?;
    let start = Instant::now();
    let connection = Connection::connect(&Conninfo::parse(url)?, "receive_rate").await?;
    let options = ProtocolOptions::choose(connection.server_version());
    let (_acks, acks) = watch::channel(Lsn(0));
    let backend = connection.backend_pid();
    let mut receiver = connection.start(slot, Lsn(0), &["p".into()], options, acks).await?;
    let (mut bytes, mut hand_outs) = (0, 0);
    while receiver.received() < end {
        bytes += receiver.next().await?.len() as u64;
        hand_outs += 1;
    }
    let wall = start.elapsed();
    let walsender = process_cpu(backend)?;
    let (user_after, system_after) = cpu(libc::RUSAGE_SELF)?;
    let run = Run {
        who: "receiver",
        wall,
        user: user_after - user,
        system: system_after - system,
        walsender: Some(walsender),
        bytes,
        reads: receiver.reads(),
        hand_outs,
    };
    receiver.finish().await?;
    Ok(run)
}

fn pg_recvlogical(cluster: &Cluster, slot: &str, end: Lsn, mode: &str) -> Result<Run> {
    let (user, system) = cpu(libc::RUSAGE_CHILDREN)?;
    let start = Instant::now();
    let status = Command::new("pg_recvlogical")
        .args([
            "--start",
            "--no-loop",
            "-f",
            "/dev/null",
            "-S",
            slot,
            "-E",
            &end.to_string(),
        ])
        .args(["-o", "proto_version=1", "-o", "publication_names=p"])
        .args(["-d", &format!("{}?sslmode={mode}", cluster.url("postgres"))])
        .stderr(Stdio::inherit())
        .status()
        .context("pg_recvlogical")?;
    ensure!(status.success(), "pg_recvlogical: {status}");
    let wall = start.elapsed();
    let (user_after, system_after) = cpu(libc::RUSAGE_CHILDREN)?;
    Ok(Run {
        who: "pg_recvlogical",
        wall,
        user: user_after - user,
        system: system_after - system,
        walsender: None,
        bytes: 0,
        reads: 0,
        hand_outs: 0,
    })
}

/// User and system time so far.
fn cpu(who: libc::c_int) -> Result<(Duration, Duration)> {
    // SAFETY: an all-zero rusage is a valid one, and the pointer is that of a live one.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        ensure!(libc::getrusage(who, &raw mut usage) == 0, "getrusage");
        usage
    };
    let time = |value: libc::timeval| {
        Duration::from_secs(value.tv_sec.unsigned_abs()) + Duration::from_micros(value.tv_usec.unsigned_abs())
    };
    Ok((time(usage.ru_utime), time(usage.ru_stime)))
}

/// User and system time of a process on this machine, from /proc.
fn process_cpu(pid: i32) -> Result<Duration> {
    const TICK: Duration = Duration::from_millis(10);
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in brackets may hold blanks; user and system ticks are the 12th and 13th field behind it.
    let (_, fields) = stat.rsplit_once(") ").context("/proc/PID/stat")?;
    let ticks: u32 = fields
        .split(' ')
        .skip(11)
        .take(2)
        .map(|field| field.parse().unwrap_or(0))
        .sum();
    Ok(TICK * ticks)
}

fn tls_settings(folder: &std::path::Path) -> Result<Vec<String>> {
    let script = "chmod 755 . && openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout key -out crt \
        2>errors && chmod 600 key && if [ $(id -u) = 0 ]; then chown postgres key; fi";
    let status = Command::new("sh").args(["-c", script]).current_dir(folder).status()?;
    ensure!(status.success(), "openssl");
    let path = |name: &str| folder.join(name).display().to_string();
    let (certificate, key) = (path("crt"), path("key"));
    Ok(vec![
        "ssl=on".into(),
        format!("ssl_cert_file='{certificate}'"),
        format!("ssl_key_file='{key}'"),
    ])
}
