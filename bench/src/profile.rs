//! Where the CPU's time goes, by `perf`: each job once, the host's flame graph and its shares by part of a row's way.
//!
//! Samples are taken by CPU time of the whole machine; those of the host and of the server's processes are told apart.
//! Stacks are unwound by DWARF, which ends at a guest's frames: wasmtime names them, but not how to unwind them.

use crate::orders::{self, DATABASE};
use crate::report::store;
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
}

/// A second.
const SAMPLES: &str = "499";
/// Frames of a smaller share, in percent, aren't drawn.
const DRAWN_MIN: f64 = 0.4;

/// Parts of a row's way by what a frame's name holds. Of a stack the part of the innermost frame that has one counts.
const PARTS: [(&str, &[&str]); 11] = [
    ("plugins, the guests", &["wasm["]),
    ("kernel, receiving", &["tcp_recvmsg", "sys_recvfrom", "sys_recvmsg"]),
    ("kernel, waiting", &["sys_epoll_wait", "sys_futex", "__schedule"]),
    ("kernel, sending and writing", &["sys_sendto", "sys_write"]),
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
const REST: &str = "else";

struct Job {
    name: &'static str,
    rest: String,
}

pub fn run(options: &Options) -> Result<()> {
    let (source, target) = (cluster(&[])?, cluster(&[])?);
    orders::create(&source)?;
    orders::create(&target)?;
    for slot in ["warm", "stream", "postgres"] {
        make_slot(&source, slot, "pgoutput")?;
    }
    orders::load(&source, options.rows, 50_000)?;
    let place = Workplace::new(&options.rowmill)?;
    let [warm, jobs @ ..] = jobs(&source, &target);
    let status = place.run(warm.name, &warm.rest)?.arg("--once").status()?;
    ensure!(status.success(), "{}", place.log(warm.name));
    place.keep_compiled(warm.name)?;
    let profiled = jobs.iter().map(|job| profiled(&place, job));
    store(
        "profile",
        json!({"jobs": profiled.collect::<Result<Vec<_>>>()?, "rows": options.rows}),
    )
}

/// The first one compiles the plugins.
fn jobs(source: &Cluster, target: &Cluster) -> [Job; 4] {
    let job = |name, how: &str, sink: &str| Job {
        name,
        rest: format!(
            "source:
  postgres: {{ url: \"{}\", {how} }}
{FILTER_AND_MASK}routes:
  - {{ tables: [public.orders], plugins: [paid-only, mask-pii], sinks: [there] }}
sinks:
  there: {{ {sink} }}
",
            source.url(DATABASE)
        ),
    };
    let streamed = |slot: &str| format!("publication: bench, slot: {slot}, snapshot: never");
    let into = format!("postgres: {{ url: \"{}\" }}", target.url(DATABASE));
    let copied = "tables: [public.orders], snapshot: { mode: initial, connections: 1 }";
    [
        job("warm", &streamed("warm"), "discard: {}"),
        job("stream", &streamed("stream"), "discard: {}"),
        job("copy", copied, "discard: {}"),
        job("postgres", &streamed("postgres"), &into),
    ]
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
    let mut host = place.run(job.name, &job.rest)?.arg("--once").spawn()?;
    let pid = host.id().to_string();
    let status = host.wait()?;
    // SAFETY: no memory is involved; the process is ours and hasn't been waited for.
    unsafe { libc::kill(perf.id().cast_signed(), libc::SIGINT) };
    perf.wait()?;
    ensure!(status.success(), "{}", place.log(job.name));
    let host = folded(&data, &["--pid", &pid])?;
    let server = folded(&data, &["--comm", "postgres"])?;
    let drawn = draw(&host, job.name)?;
    let (samples, of_server) = (weight(&host), weight(&server));
    println!(
        "{}: {samples} samples of the host, {of_server} of the server; {drawn}",
        job.name
    );
    let mut shares: Vec<(&str, u64)> = Vec::new();
    for (stack, count) in lines(&host) {
        let part = part(stack);
        match shares.iter_mut().find(|(name, _)| *name == part) {
            Some((_, sum)) => *sum += count,
            None => shares.push((part, count)),
        }
    }
    shares.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let shares = shares.iter().map(|(part, count)| {
        let share = *count as f64 / samples as f64;
        println!("  {part:<32} {:>5.1} %", 100.0 * share);
        json!({"part": part, "share": share})
    });
    let shares: Vec<_> = shares.collect();
    let of_host = samples as f64 / (samples + of_server) as f64;
    Ok(json!({"name": job.name, "samples": samples, "host_of_both": of_host, "shares": shares}))
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

/// The part of a row's way that a stack belongs to.
fn part(stack: &str) -> &'static str {
    let found = stack.rsplit(';').find_map(|frame| {
        let of = |(_, words): &&(&str, &[&str])| words.iter().any(|word| frame.contains(word));
        PARTS.iter().find(of).map(|(name, _)| *name)
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
