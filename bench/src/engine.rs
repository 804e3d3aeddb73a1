//! Everything between the socket and the sinks: captured bytes of a replication stream, decoded, through the plugins,
//! into `discard`. Once with and once without plugins on one core, and with a costly plugin in one and in two lanes.

use crate::capture::{Capture, capture};
use crate::report::{Bound, Floor, floors, median, store};
use anyhow::{Context, Result, ensure};
use rowmill::batch::Lsn;
use rowmill::checkpoint::{Frontier, NumberedColumn, RouteShapes, RoutedTable, StateStore, TableShape};
use rowmill::config::{self, Pipeline};
use rowmill::dead_letter::DeadLetters;
use rowmill::decode::Decoder;
use rowmill::pipeline::{
    Input, Intake, KnownColumns, LaneChain, LaneEnd, Met, Outlet, Parts, ProbationLimits, Queue, RouteParts, Selected,
};
use rowmill::plugin::{Chain, Engine, Mode, PluginVersion};
use rowmill::sink::{self, SinkContext, driver::Driver};
use rowmill::snapshot;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub struct Options {
    pub rows: u64,
    pub rounds: usize,
    /// Those cases alone whose names hold this; nothing is concluded then.
    pub only: Option<String>,
}

/// One way for the captured rows.
struct Case {
    name: &'static str,
    plugins: &'static str,
    lanes: usize,
    cores: usize,
    rates: Vec<f64>,
    /// Seconds of CPU per million rows.
    cpu: Vec<f64>,
}

impl Case {
    fn new(name: &'static str, plugins: &'static str, lanes: usize, cores: usize) -> Self {
        let (rates, cpu) = (Vec::new(), Vec::new());
        Self {
            name,
            plugins,
            lanes,
            cores,
            rates,
            cpu,
        }
    }
}

/// Rows go round this often in a run, so that one takes some seconds.
const LAPS: usize = 4;

pub fn run(options: &Options) -> Result<()> {
    let captured = capture(options.rows)?;
    println!("captured {} rows, {} MiB", options.rows, captured.bytes() >> 20);
    let mut cases = [
        Case::new("no plugins, one core", "[]", 1, 1),
        Case::new("filter + mask (redact), one core", "[paid_only, redact]", 1, 1),
        Case::new("filter + mask (hash), one lane", "[paid_only, hash]", 1, 2),
        Case::new("filter + mask (hash), two lanes", "[paid_only, hash]", 2, 2),
    ];
    let is_wanted = |case: &&mut Case| options.only.as_ref().is_none_or(|only| case.name.contains(only));
    for round in 0..options.rounds {
        for case in cases.iter_mut().filter(is_wanted) {
            let (rate, cpu) = once(case, &captured)?;
            println!(
                "round {round}: {:<34} {rate:>12.0} rows/s {cpu:>8.3} CPU s/M rows",
                case.name
            );
            case.rates.push(rate);
            case.cpu.push(cpu);
        }
    }
    match options.only {
        Some(_) => Ok(()),
        None => conclude(options, &cases),
    }
}

fn conclude(options: &Options, cases: &[Case]) -> Result<()> {
    println!("\n{:<34} {:>12} {:>16}", "engine", "rows/s", "CPU s/M rows");
    let rows: Vec<_> = cases
        .iter()
        .map(|case| {
            let (rate, cpu) = (median(case.rates.clone()), median(case.cpu.clone()));
            println!("{:<34} {rate:>12.0} {cpu:>16.3}", case.name);
            json!({"name": case.name, "lanes": case.lanes, "cores": case.cores, "rows_per_second": rate, "cpu_seconds_per_million_rows": cpu})
        })
        .collect();
    let rate = |at: usize| median(cases[at].rates.clone());
    let (cost, lanes) = (rate(0) / rate(1) - 1.0, rate(3) / rate(2));
    println!("plugins cost {:.0} %; two lanes {lanes:.2} x one", cost * 100.0);
    let held = floors(&[
        Floor::new(
            "engine with two plugins, rows/s on one core",
            rate(1),
            Bound::AtLeast(1_500_000.0),
        ),
        Floor::new(
            "engine, what two plugins add to a row's time",
            cost,
            Bound::AtMost(0.25),
        ),
    ]);
    store(
        "engine",
        json!({"rows": options.rows, "cases": rows, "plugins_cost": cost, "two_lanes_ratio": lanes, "floors": held}),
    )
}

struct Forgetful;

impl KnownColumns for Forgetful {
    fn known(&mut self, met: &[Met]) -> Result<Vec<Vec<String>>> {
        Ok(met.iter().map(|met| met.present.clone()).collect())
    }

    fn shapes(&mut self, _: &str, _: &str) -> anyhow::Result<Vec<TableShape>> {
        Ok(Vec::new())
    }

    fn names(&mut self) -> Result<Vec<RoutedTable>> {
        Ok(Vec::new())
    }

    fn set_shapes(&mut self, _: &[RouteShapes]) -> anyhow::Result<()> {
        Ok(())
    }

    fn numbers(&mut self, _: u32) -> anyhow::Result<Vec<NumberedColumn>> {
        Ok(Vec::new())
    }

    fn set_numbers(&mut self, _: u32, _: Vec<NumberedColumn>) -> anyhow::Result<()> {
        Ok(())
    }
}

/// Rows per second, and seconds of CPU per million rows.
fn once(case: &Case, captured: &Capture) -> Result<(f64, f64)> {
    stay_on(case.cores)?;
    let folder = tempfile::tempdir()?;
    let pipeline = pipeline(folder.path(), case.plugins)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let _entered = runtime.enter();
    let frontier = Arc::new(Frontier::new(1));
    let queue = Arc::new(Queue::new(32 << 20));
    let context = SinkContext {
        pipeline: "bench".into(),
        slot: "bench".into(),
        sink: "nowhere".into(),
        source_database: String::new(),
        system_identifier: 1,
        state_dir: folder.path().to_owned(),
        passed_over: Default::default(),
        known: Default::default(),
        types: Default::default(),
        changes: Default::default(),
    };
    let told = Arc::clone(&frontier);
    let durable = move |sequence| told.durable(0, sequence);
    let sink = &pipeline.sinks[0];
    let (handle, driver) = Driver::new(sink::build(sink), context, sink.queue, Duration::ZERO, durable);
    let driver = runtime.spawn(driver.run());
    let plan = snapshot::Plan {
        tables: vec![],
        connections: 1,
        units_under_way: 1,
        unit_rows: 1,
        patience: std::time::Duration::ZERO,
        patient: false,
        pace: Arc::new(snapshot::Pace::new(None)),
        room: snapshot::WaitingRoom::new(Path::new("/nowhere"), 0, Arc::default()),
    };
    let (_copier, merger) = snapshot::start(plan, || async { anyhow::bail!("nothing is copied") });
    let parts = Parts {
        queue: Arc::clone(&queue),
        lanes: case.lanes,
        routes: vec![route(&pipeline, case.lanes)?],
        outlets: vec![Outlet::new(handle)],
        known: Box::new(Forgetful),
        selected: Selected::default(),
        live: Arc::default(),
        merger,
        only: Default::default(),
        frontier: Arc::clone(&frontier),
        store: StateStore::open(folder.path(), "bench")?,
        letters: DeadLetters::open(folder.path(), "bench", &pipeline.dead_letters)?,
        stats: Arc::default(),
        metrics: Arc::default(),
        tap: Box::new(|_, _| {}),
        copied: Box::new(|_| {}),
        position: Lsn(0),
        resent_until: Lsn(0),
        probation: ProbationLimits {
            time: std::time::Duration::ZERO,
            batches: 1,
        },
        probation_told: Arc::new(|_, _| ()),
        recent: Arc::default(),
    };
    let intake = Intake::new(parts).map_err(|end| anyhow::anyhow!("{end:?}"))?;
    let cpu_before = cpu_seconds()?;
    let started = Instant::now();
    let working = std::thread::spawn(move || intake.run());
    for _ in 0..LAPS {
        let mut decoder = Decoder::new(captured.hints());
        for bytes in &captured.chunks {
            let batch = decoder.decode(bytes.clone())?;
            let size = batch.size_bytes();
            runtime.block_on(queue.push(Input::Batch(batch), size))?;
        }
    }
    queue.push_now(Input::Finish)?;
    let end = working.join().map_err(|_| anyhow::anyhow!("the intake panicked"))?;
    ensure!(matches!(end, LaneEnd::Finished), "{end:?}");
    runtime.block_on(driver)?;
    let rows = (captured.rows * LAPS as u64) as f64;
    let seconds = started.elapsed().as_secs_f64();
    Ok((rows / seconds, (cpu_seconds()? - cpu_before) * 1e6 / rows))
}

fn pipeline(folder: &Path, plugins: &str) -> Result<Pipeline> {
    for plugin in ["paid_only.wasm", "mask_pii.wasm"] {
        std::fs::copy(Path::new("plugins").join(plugin), folder.join(plugin))?;
    }
    let file = folder.join("pipeline.yaml");
    let text = format!(
        "name: bench
source: {{ postgres: {{ url: \"postgres://localhost/x\", tables: [public.orders] }} }}
plugins:
  paid_only: {{ module: paid_only.wasm }}
  redact: {{ module: mask_pii.wasm, config: {{ columns: {{ email: redact }}, salt: bench }} }}
  hash: {{ module: mask_pii.wasm, config: {{ columns: {{ email: hash }}, salt: bench }} }}
routes: [{{ tables: [public.orders], plugins: {plugins}, sinks: [nowhere] }}]
sinks: {{ nowhere: {{ discard: {{}} }} }}
"
    );
    std::fs::write(&file, text)?;
    config::load(&file).map_err(|problems| anyhow::anyhow!("{problems:?}"))
}

fn route(pipeline: &Pipeline, lanes: usize) -> Result<RouteParts> {
    let engine = Engine::new(None)?;
    let config = pipeline.routes[0].clone();
    let versions = config.plugins.iter().map(|name| {
        let plugin = pipeline.plugins.iter().find(|plugin| plugin.name == *name);
        let plugin = plugin.context("a plugin of the route")?;
        let module = engine.load(&std::fs::read(&plugin.module)?, &plugin.limits)?;
        Ok(PluginVersion {
            name: name.clone(),
            module,
            config: plugin.config.clone(),
            limits: plugin.limits,
            policies: plugin.policies,
        })
    });
    let versions = versions.collect::<Result<Vec<_>>>()?;
    let of_lane = |_| {
        let mut lane = LaneChain::default();
        if !versions.is_empty() {
            lane.chain = Some(Chain::new(&engine, &versions, config.filter, Mode::Live)?);
        }
        Ok(lane)
    };
    Ok(RouteParts {
        lanes: (0..lanes).map(of_lane).collect::<Result<_>>()?,
        config: Arc::new(config.clone()),
        waiting: None,
        sinks: vec![0],
    })
}

/// Lets this thread, and those that it starts, run on the first `cores` cores.
pub fn stay_on(cores: usize) -> Result<()> {
    // SAFETY: zero is a valid `cpu_set_t`, the macros stay inside of it, and the pointer is that of a live one.
    let set = unsafe {
        let mut cores_allowed: libc::cpu_set_t = std::mem::zeroed();
        (0..cores).for_each(|core| libc::CPU_SET(core, &mut cores_allowed));
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const cores_allowed)
    };
    ensure!(set == 0, "sched_setaffinity: {}", std::io::Error::last_os_error());
    Ok(())
}

/// User and system time of this process so far.
fn cpu_seconds() -> Result<f64> {
    // SAFETY: zero is a valid `rusage`, and the pointer is that of a live one.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        ensure!(libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) == 0, "getrusage");
        usage
    };
    let of = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Ok(of(usage.ru_utime) + of(usage.ru_stime))
}
