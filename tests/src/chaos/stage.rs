//! The pipeline under test: two servers, each behind a proxy, the process between them, and the file that it writes.

use super::schedule::Receiving;
use super::shelves;
use crate::oracle::{SECRET, TABLES, WATCH};
use crate::{Cluster, ClusterOptions, Host, Proxy, SmallDisk, free_port, plugin, tag, tagger, trapping_tagger};
use anyhow::Result;
use std::path::PathBuf;
use tempfile::TempDir;

/// The place of `tag` among the columns of both tables.
const TAG: u8 = 5;
const ABI: i32 = 0x1_0000;
/// Enough for the state and the compiled plugins.
const DISK_BYTES: u64 = 48 << 20;
/// Transactions can be prepared, and those of some hundred rows are streamed where that is asked for.
const SOURCE: [&str; 2] = ["max_prepared_transactions=10", "logical_decoding_work_mem=64kB"];
const PASSWORD: &str = "ROWMILL_CHAOS_PASSWORD";

pub(super) struct Stage {
    // In the order in which they are dropped.
    pub host: Option<Host>,
    pub source_net: Proxy,
    pub target_net: Proxy,
    pub source: Cluster,
    pub target: Cluster,
    pub disk: Option<SmallDisk>,
    pub folder: TempDir,
    pub console: u16,
    pub version: u64,
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
        let disk = SmallDisk::mount(&folder.path().join("state"), DISK_BYTES);
        if let Err(error) = &disk {
            println!("no full disks: {error:#}");
        }
        std::fs::copy(plugin("mask_pii")?, folder.path().join("mask_pii.wasm"))?;
        let stage = Self {
            host: None,
            source_net: Proxy::before_all(source.port())?,
            target_net: Proxy::before_all(target.port())?,
            source,
            target,
            disk: disk.ok(),
            folder,
            console: free_port()?,
            version: 0,
            receiving: receiving.at(version / 10_000),
        };
        stage.install(&tagger(0, TAG, ABI)?)?;
        Ok(stage)
    }

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
lanes: 2
state_dir: state
drain_timeout: 3s
source:
  postgres:
    url: {source}
    tables: [public.events, public.accounts, public.shelf_*]
    snapshot: {{ mode: initial, connections: 2, unit_rows: 200 }}
{receiving}
reload: {{ settle: 20ms, interval: 50ms }}
plugins:
  mask_pii: {{ module: mask_pii.wasm, config: {{ columns: [email], method: keep-last-4 }} }}
  tagger: {{ module: tagger.wasm }}
routes:
  - {{ tables: [public.events, public.accounts], plugins: [mask_pii, tagger], sinks: [warehouse, feed] }}
  - {{ tables: [public.shelf_*], sinks: [warehouse, feed] }}
sinks:
  warehouse: {{ postgres: {{ url: {target}, create_tables: true }} }}
  feed: {{ file: {{ path: out/feed.jsonl, rotate: 1MiB }} }}
",
            console = self.console,
            receiving = self.receiving.lines(),
            source = url(&self.source_net, "source"),
            target = url(&self.target_net, "target"),
        )
    }

    pub fn start(&mut self) -> Result<()> {
        let host = Host::run_in(self.folder.path(), &self.pipeline(), &[(PASSWORD, SECRET)])?;
        self.host = Some(host);
        Ok(())
    }

    pub fn feed(&self) -> PathBuf {
        self.folder.path().join("out/feed.jsonl")
    }

    /// Puts a module in place as careful tools do: whole, by a rename.
    fn install(&self, module: &[u8]) -> Result<()> {
        let fresh = self.folder.path().join("tagger.wasm.new");
        std::fs::write(&fresh, module)?;
        Ok(std::fs::rename(&fresh, self.folder.path().join("tagger.wasm"))?)
    }

    /// The next good version; returns what it writes.
    pub fn install_good(&mut self) -> Result<String> {
        self.version += 1;
        self.install(&tagger(self.version, TAG, ABI)?)?;
        Ok(tag(self.version))
    }

    /// A version that breaks on every batch of two rows or more. What it makes of a single row is delivered.
    pub fn install_breaking(&mut self) -> Result<String> {
        self.version += 1;
        self.install(&trapping_tagger(self.version, TAG, 2)?)?;
        Ok(tag(self.version))
    }

    pub fn install_garbage(&self) -> Result<()> {
        self.install(b"\0asm garbage")
    }
}
