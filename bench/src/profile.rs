//! Where the CPU's time goes, by `perf`: each job once, the host's flame graph and its shares by part of a row's way, and
//! the source server's by what it does for a row.
//!
//! Samples are taken by CPU time of the whole machine; those of the host and of the server's processes are told apart.
//! Stacks are unwound by DWARF, which ends at a guest's frames: wasmtime names them, but not how to unwind them.

use crate::growth::make_tables;
use crate::orders::{self, DATABASE};
use crate::report::store;
use crate::stream::{require_version, tls_settings};
use crate::workplace::{FILTER_AND_MASK, Workplace, cluster, make_slot};
use anyhow::{Context, Result, ensure};
use inferno::collapse::{Collapse, perf::Folder};
use inferno::flamegraph::{self, Options as Drawing};
use rowmill_tests::Cluster;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub struct Options {
    pub rowmill: PathBuf,
    pub rows: u64,
    /// The stream alone, from a server of this major version.
    pub postgres: Option<u32>,
}

/// Of the job that is spread over tables.
const TABLES: u64 = 1_000;
/// A second.
const SAMPLES: &str = "499";
/// Frames of a smaller share, in percent, aren't drawn.
const DRAWN_MIN: f64 = 0.4;

/// Parts by what a frame's name holds. Of a stack the part of the innermost frame that has one counts.
type Parts = [(&'static str, &'static [&'static str])];

/// Of a row's way through the host.
const OF_HOST: &Parts = &[
    ("plugins, the guests", &["wasm["]),
    ("kernel, receiving", &["tcp_recvmsg", "sys_recvfrom", "sys_recvmsg"]),
    ("kernel, waiting", &["sys_epoll_wait", "sys_futex", "__schedule"]),
    ("kernel, sending and writing", &["sys_sendto", "sys_write"]),
    ("TLS", &["rustls", "ring_core"]),
    ("receiving", &["rowmill::source"]),
    ("decoding", &["rowmill::decode"]),
    ("plugins, around the guests", &["rowmill::plugin", "wasmtime"]),
    (
        "first copy",
        &["rowmill::snapshot", "tokio_postgres", "postgres_protocol"],
    ),
    ("routes", &["rowmill::pipeline", "rowmill::batch"]),
    ("sinks", &["rowmill::sink"]),
    (
        "tasks, positions, start",
        &["rowmill::", "tokio::", "redb", "cranelift", "serde"],
    ),
];

/// Of what a walsender does for a row. Functions that a server's build doesn't name count to what calls them.
const OF_WALSENDER: &Parts = &[
    ("kernel, sending", &["sys_sendto", "sys_write", "tcp_sendmsg"]),
    ("kernel, looking for replies", &["sys_recvfrom", "sys_read"]),
    ("kernel, waiting", &["sys_epoll_wait", "__schedule"]),
    ("kernel, files", &["sys_pread", "sys_pwrite", "vfs_read", "vfs_write"]),
    ("TLS", &["libssl", "libcrypto", "SSL_", "EVP_", "be_tls_"]),
    ("values to text", &["OutputFunctionCall"]),
    ("pgoutput's messages", &["logicalrep_", "pgoutput"]),
    (
        "sending",
        &[
            "WalSndWriteData",
            "OutputPlugin",
            "socket_",
            "internal_flush",
            "secure_write",
            "pq_",
        ],
    ),
    ("transactions put together", &["ReorderBuffer"]),
    (
        "WAL read and decoded",
        &[
            "LogicalDecodingProcessRecord",
            "_decode",
            "DecodeXLogRecord",
            "XLogReadRecord",
            "XLogSendLogical",
            "SnapBuild",
        ],
    ),
];
const REST: &str = "else";

struct Job {
    name: String,
    /// Of those that stream.
    slot: Option<&'static str>,
    rest: String,
}

impl Job {
    /// Under another version only what the source sends is looked at.
    fn of_version(self, major: u32) -> Option<Self> {
        let way = self.name.strip_prefix("stream")?;
        Some(Self {
            name: format!("stream_{major}{way}"),
            ..self
        })
    }
}

pub fn run(options: &Options) -> Result<()> {
    let certificate = tempfile::tempdir()?;
    let settings = tls_settings(certificate.path())?;
    let settings = settings.iter().map(String::as_str);
    let settings: Vec<&str> = settings.chain(["max_locks_per_transaction=1024"]).collect();
    let (source, target) = (cluster(&settings)?, cluster(&[])?);
    require_version(&source, options.postgres)?;
    orders::create(&source)?;
    orders::create(&target)?;
    let [warm, jobs @ ..] = jobs(&source, &target);
    let jobs: Vec<Job> = match options.postgres {
        None => jobs.into(),
        Some(major) => jobs.into_iter().filter_map(|job| job.of_version(major)).collect(),
    };
    for slot in [&warm].into_iter().chain(&jobs).filter_map(|job| job.slot) {
        make_slot(&source, slot, "pgoutput")?;
    }
    orders::load(&source, options.rows, 50_000)?;
    let place = Workplace::new(&options.rowmill)?;
    let status = place.run(&warm.name, &warm.rest)?.arg("--once").status()?;
    ensure!(status.success(), "{}", place.log(&warm.name));
    place.keep_compiled(&warm.name)?;
    let of_jobs = jobs.iter().map(|job| profiled(&place, job));
    let mut profiles = of_jobs.collect::<Result<Vec<_>>>()?;
    if options.postgres.is_none() {
        profiles.push(profiled(&place, &of_tables(&source, options.rows)?)?);
    }
    let name = options
        .postgres
        .map_or("profile".to_owned(), |major| format!("profile-{major}"));
    store(&name, json!({"jobs": profiles, "rows": options.rows}))
}

/// The same rows spread over many tables, ten to one after the other. They are written behind all other jobs, whose slots
/// would meet them.
fn of_tables(source: &Cluster, rows: u64) -> Result<Job> {
    let fill = make_tables(source, TABLES, rows)?;
    let publish = format!("CREATE PUBLICATION many FOR TABLES IN SCHEMA of_{TABLES}");
    source.sql(DATABASE, &publish)?;
    let slot = "stream_tables";
    make_slot(source, slot, "pgoutput")?;
    source.sql(DATABASE, &fill)?;
    let how = format!("publication: many, slot: {slot}, snapshot: never");
    Ok(Job {
        name: slot.to_owned(),
        slot: Some(slot),
        rest: pipeline(source, "disable", &how, &format!("of_{TABLES}.*"), "discard: {}"),
    })
}

/// The first one compiles the plugins.
fn jobs(source: &Cluster, target: &Cluster) -> [Job; 5] {
    let job = |name: &str, slot: Option<&'static str>, tls: &str, sink: &str| {
        let how = match slot {
            Some(slot) => format!("publication: bench, slot: {slot}, snapshot: never"),
            None => "tables: [public.orders], snapshot: { mode: initial, connections: 1 }".to_owned(),
        };
        Job {
            name: name.to_owned(),
            slot,
            rest: pipeline(source, tls, &how, "public.orders", sink),
        }
    };
    let into = format!("postgres: {{ url: \"{}\" }}", target.url(DATABASE));
    [
        job("warm", Some("warm"), "disable", "discard: {}"),
        job("stream", Some("stream"), "disable", "discard: {}"),
        job("stream_tls", Some("stream_tls"), "require", "discard: {}"),
        job("copy", None, "disable", "discard: {}"),
        job("postgres", Some("postgres"), "disable", &into),
    ]
}

fn pipeline(source: &Cluster, tls: &str, how: &str, tables: &str, sink: &str) -> String {
    format!(
        "source:
  postgres: {{ url: \"{}?sslmode={tls}\", {how} }}
{FILTER_AND_MASK}routes:
  - {{ tables: [{tables}], plugins: [paid-only, mask-pii], sinks: [there] }}
sinks:
  there: {{ {sink} }}
",
        source.url(DATABASE)
    )
}

fn profiled(place: &Workplace, job: &Job) -> Result<Value> {
    let data = place.path().join(format!("{}.perf", job.name));
    let mut perf = Command::new("perf")
        .args([
            "record",
            "-q",
            "-a",
            "-e",
            "cpu-clock",
            "-F",
            SAMPLES,
            "--call-graph",
            "dwarf,8192",
            "-o",
        ])
        .arg(&data)
        .stderr(Stdio::null())
        .spawn()
        .context("perf, of Debian's package linux-perf")?;
    let mut host = place.run(&job.name, &job.rest)?.arg("--once").spawn()?;
    let pid = host.id().to_string();
    let status = host.wait()?;
    // SAFETY: no memory is involved; the process is ours and hasn't been waited for.
    unsafe { libc::kill(perf.id().cast_signed(), libc::SIGINT) };
    perf.wait()?;
    ensure!(status.success(), "{}", place.log(&job.name));
    let host = folded(&data, &["--pid", &pid])?;
    let server = folded(&data, &["--comm", "postgres"])?;
    let drawn = draw(&host, &job.name)?;
    let (samples, of_server) = (weight(&host), weight(&server));
    println!(
        "{}: {samples} samples of the host, {of_server} of the server; {drawn}",
        job.name
    );
    let shares = shares(&host, OF_HOST);
    // Of several servers' processes, or of COPY, these parts say nothing.
    let of_walsender = match job.name.starts_with("stream") {
        true => self::shares(&server, OF_WALSENDER),
        false => Vec::new(),
    };
    let of_host = samples as f64 / (samples + of_server) as f64;
    Ok(json!({
        "name": job.name, "samples": samples, "host_of_both": of_host, "shares": shares,
        "samples_of_server": of_server, "shares_of_walsender": of_walsender,
    }))
}

/// The parts that there are, the largest first.
fn shares(folded: &str, parts: &Parts) -> Vec<Value> {
    let mut shares: Vec<(&str, u64)> = Vec::new();
    for (stack, count) in lines(folded) {
        let part = part(stack, parts);
        match shares.iter_mut().find(|(name, _)| *name == part) {
            Some((_, sum)) => *sum += count,
            None => shares.push((part, count)),
        }
    }
    shares.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let all = weight(folded) as f64;
    let shares = shares.iter().map(|(part, count)| {
        let share = *count as f64 / all;
        println!("  {part:<32} {:>5.1} %", 100.0 * share);
        json!({"part": part, "share": share})
    });
    shares.collect()
}

/// One line per stack: its frames from the outermost on, and how often it was met.
fn folded(data: &Path, whose: &[&str]) -> Result<String> {
    let script = Command::new("perf")
        .args(["script", "--no-inline", "-F", "comm,pid,tid,cpu,time,event,ip,sym,dso"])
        .args(whose)
        .arg("-i")
        .arg(data)
        .stderr(Stdio::null())
        .output()?;
    ensure!(script.status.success(), "perf script");
    let mut out = Vec::new();
    Folder::default().collapse(&script.stdout[..], &mut out)?;
    Ok(String::from_utf8(out)?)
}

fn lines(folded: &str) -> impl Iterator<Item = (&str, u64)> {
    folded.lines().filter_map(|line| {
        let (stack, count) = line.rsplit_once(' ')?;
        Some((stack, count.parse().ok()?))
    })
}

fn weight(folded: &str) -> u64 {
    lines(folded).map(|(_, count)| count).sum()
}

/// The part that a stack belongs to.
fn part(stack: &str, parts: &Parts) -> &'static str {
    let found = stack.rsplit(';').find_map(|frame| {
        let of = |(_, words): &&(&str, &[&str])| words.iter().any(|word| frame.contains(word));
        parts.iter().find(of).map(|(name, _)| *name)
    });
    found.unwrap_or(REST)
}

fn draw(folded: &str, job: &str) -> Result<String> {
    let mut drawing = Drawing::default();
    drawing.title = format!("{job}: CPU time of the host");
    drawing.min_width = DRAWN_MIN;
    drawing.deterministic = true;
    let mut out = Vec::new();
    flamegraph::from_lines(&mut drawing, folded.lines(), &mut out)?;
    std::fs::create_dir_all("target/bench")?;
    std::fs::write(format!("target/bench/flame-{job}.folded"), folded)?;
    let path = format!("target/bench/flame-{job}.svg");
    std::fs::write(&path, out)?;
    Ok(path)
}
