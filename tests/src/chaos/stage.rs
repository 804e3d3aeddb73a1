//! The pipeline under test: two servers, each behind a proxy, the process between them, and the file that it writes.

use super::receiving::Receiving;
use super::shelves;
use crate::oracle::{Echo, SECRET, TABLES, WATCH};
use crate::{Clock, Cluster, ClusterOptions, Host, Proxy, SmallDisk, free_port, plugin, tagger};
use anyhow::Result;
use std::path::PathBuf;
use std::process::Child;
use tempfile::TempDir;

/// The place of `tag` among the columns of both tables.
pub(super) const TAG: u8 = 5;
pub(super) const ABI: i32 = 0x1_0000;
/// Enough for the state and the compiled plugins.
const STATE_BYTES: u64 = 48 << 20;
/// More than any run writes: it is filled by making it smaller.
const OUTPUT_BYTES: u64 = 4 << 30;
/// Transactions can be prepared, and those of some hundred rows are streamed where that is asked for.
const SOURCE: [&str; 2] = ["max_prepared_transactions=10", "logical_decoding_work_mem=64kB"];
const PASSWORD: &str = "ROWMILL_CHAOS_PASSWORD";

pub(super) struct Stage {
    // In the order in which they are dropped.
    pub host: Option<Host>,
    pub source_net: Proxy,
    pub target_net: Proxy,
    /// Who holds a lock at the target.
    pub locker: Option<Child>,
    pub source: Cluster,
    pub target: Cluster,
    /// Of the state, and of the file sink.
    pub disks: Option<[SmallDisk; 2]>,
    pub clock: Option<Clock>,
    pub folder: TempDir,
    pub console: u16,
    pub version: u64,
    /// Of pipeline.yaml.
    pub edition: u64,
    pub receiving: Receiving,
}

impl Stage {
    pub fn new(receiving: Receiving) -> Result<Self> {
        let options = ClusterOptions {
            settings: SOURCE.map(str::to_owned).to_vec(),
            ..ClusterOptions::default()
        };
        let (source, target) = (Cluster::start_with(&options)?, Cluster::start()?);
        let version: u32 = source.sql("postgres", "SHOW server_version_num")?.parse()?;
        source.sql("postgres", "CREATE DATABASE source")?;
        target.sql("postgres", "CREATE DATABASE target")?;
        source.script("source", TABLES)?;
        source.script("source", shelves::FIRST)?;
        target.script("target", TABLES)?;
        target.script("target", WATCH)?;
        let folder = tempfile::Builder::new().prefix("rowmill-chaos-").tempdir()?;
        let mount = |name: &str, bytes| SmallDisk::mount(&folder.path().join(name), bytes);
        let disks = mount("state", STATE_BYTES).and_then(|state| Ok([state, mount("out", OUTPUT_BYTES)?]));
        if let Err(error) = &disks {
            println!("no full disks: {error:#}");
        }
        let clock = Clock::new(folder.path());
        if let Err(error) = &clock {
            println!("no jumps of the clock: {error:#}");
        }
        std::fs::copy(plugin("mask_pii")?, folder.path().join("mask_pii.wasm"))?;
        let stage = Self {
            host: None,
            source_net: Proxy::before_all(source.port())?,
            target_net: Proxy::before_all(target.port())?,
            locker: None,
            source,
            target,
            disks: disks.ok(),
            clock: clock.ok(),
            folder,
            console: free_port()?,
            version: 0,
            edition: 0,
            receiving: receiving.at(version / 10_000),
        };
        stage.install(&tagger(0, TAG, ABI)?)?;
        Ok(stage)
    }

    /// Editions differ in what a running process can take up.
    fn pipeline(&self) -> String {
        let url = |proxy: &Proxy, database| {
            format!(
                "postgresql://postgres:${{{PASSWORD}}}@127.0.0.1:{}/{database}",
                proxy.port()
            )
        };
        format!(
            "name: chaos
console: 127.0.0.1:{console}
lanes: {lanes}
state_dir: state
drain_timeout: 3s
source:
  postgres:
    url: {source}
    tables: [public.events, public.accounts, public.shelf_*]
    snapshot: {{ mode: initial, connections: 2, unit_rows: 200 }}
    max_row: {max_row}MiB
{receiving}
reload: {{ settle: 20ms, interval: 50ms }}
plugins:
  mask_pii: {{ module: mask_pii.wasm, config: {{ columns: [email], method: keep-last-4 }} }}
  tagger: {{ module: tagger.wasm }}
routes:
  - {{ tables: [public.events, public.accounts], plugins: [mask_pii, tagger], sinks: [warehouse, feed, echo] }}
  - {{ tables: [public.shelf_*], sinks: [warehouse, feed] }}
sinks:
  warehouse: {{ postgres: {{ url: {target}, create_tables: true }} }}
  feed: {{ file: {{ path: out/feed.jsonl, rotate: 1MiB }} }}
  echo: {{ stdout: {{}} }}
",
            console = self.console,
            lanes = 2 - self.edition % 2,
            max_row = 64 + self.edition % 3,
            receiving = self.receiving.lines(),
            source = url(&self.source_net, "source"),
            target = url(&self.target_net, "target"),
        )
    }

    /// Writes pipeline.yaml as a person would while the process runs.
    pub fn write_pipeline(&self) -> Result<()> {
        Ok(std::fs::write(
            self.folder.path().join("pipeline.yaml"),
            self.pipeline(),
        )?)
    }

    pub fn write_no_pipeline(&self) -> Result<()> {
        let text = self.pipeline().replace("lanes:", "lames:");
        Ok(std::fs::write(self.folder.path().join("pipeline.yaml"), text)?)
    }

    pub fn start(&mut self) -> Result<()> {
        self.start_with(&[])
    }

    /// Ends by itself where it passes this point for the `hit`th time.
    pub fn start_to(&mut self, point: &str, hit: u64) -> Result<()> {
        self.start_with(&[("ROWMILL_FAILPOINT", format!("{point}:{hit}"))])
    }

    fn start_with(&mut self, more: &[(&str, String)]) -> Result<()> {
        Echo::tear(&self.echo())?;
        let of_clock = self.clock.as_ref().map(Clock::variables);
        let mut variables = vec![(PASSWORD, SECRET)];
        let others = of_clock.iter().flatten().chain(more);
        variables.extend(others.map(|(name, value)| (*name, value.as_str())));
        let host = Host::run_in(self.folder.path(), &self.pipeline(), &variables)?;
        self.host = Some(host);
        Ok(())
    }

    pub fn feed(&self) -> PathBuf {
        self.folder.path().join("out/feed.jsonl")
    }

    pub fn echo(&self) -> PathBuf {
        self.folder.path().join("stdout")
    }
}
