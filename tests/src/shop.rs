//! A source with a shop in it, an empty target, and the folder of a pipeline between them.

use crate::{Cluster, Host, Proxy, SHOP, plugin, wait_until};
use anyhow::{Result, ensure};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a condition may take to hold on a loaded machine.
pub const LONG: Duration = Duration::from_secs(60);

/// A digest of everything in both tables of the shop.
pub const DIGEST: &str = "
    SELECT 'orders', count(*), md5(string_agg(o::text, '|' ORDER BY id)) FROM orders o
    UNION ALL SELECT 'customers', count(*), md5(string_agg(c::text, '|' ORDER BY id)) FROM customers c
    ORDER BY 1";

/// Databases `source` and `target` in one cluster, both with the same tables.
pub struct Shop {
    pub cluster: Cluster,
    folder: tempfile::TempDir,
}

impl Shop {
    pub fn new() -> Result<Self> {
        Self::with(SHOP)
    }

    /// With these tables instead of the shop's.
    pub fn with(tables: &str) -> Result<Self> {
        let cluster = Cluster::start()?;
        cluster.sql("postgres", "CREATE DATABASE source")?;
        cluster.sql("postgres", "CREATE DATABASE target")?;
        cluster.script("source", tables)?;
        cluster.script("target", tables)?;
        Ok(Self {
            cluster,
            folder: tempfile::tempdir()?,
        })
    }

    /// Rows that no writer touches.
    pub fn fill(&self, rows: u64) -> Result<()> {
        self.source(&format!(
            "INSERT INTO orders SELECT n, n % 100, 'paid', 'c' || n || '@example.com', n / 100.0, NULL
             FROM generate_series(10000000, 10000000 + {rows}) n;
             INSERT INTO customers SELECT n, 'c' || n || '@example.com', '+49 ' || n, E'tab\\tand \\\\ back'
             FROM generate_series(10000000, 10000000 + {rows} / 10) n"
        ))?;
        Ok(())
    }

    pub fn source(&self, sql: &str) -> Result<String> {
        self.cluster.sql("source", sql)
    }

    pub fn target(&self, sql: &str) -> Result<String> {
        self.cluster.sql("target", sql)
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Copies a built plugin into the folder, as `NAME.wasm`.
    pub fn plugin(&self, name: &str) -> Result<PathBuf> {
        let copy = self.folder().join(format!("{name}.wasm"));
        std::fs::copy(plugin(name)?, &copy)?;
        Ok(copy)
    }

    /// A pipeline of both tables into the target, in two lanes: tests with other pipelines run in the default of one.
    pub fn pipeline(&self) -> String {
        self.pipeline_of(
            "public.orders, public.customers",
            "routes:
  - { tables: [public.orders, public.customers], sinks: [warehouse] }",
        )
    }

    /// A pipeline of `tables` with these plugins and routes; the sink `warehouse` is the target, `feed` the file
    /// `out/feed.jsonl`. Sinks that no route names are left out.
    pub fn pipeline_of(&self, tables: &str, rest: &str) -> String {
        let mut text = format!(
            "name: shop
console: off
lanes: 2
source:
  postgres:
    url: {source}
    tables: [{tables}]
    snapshot: {{ mode: initial, connections: 2, unit_rows: 2000 }}
{rest}
sinks:
",
            source = self.cluster.url("source"),
        );
        if rest.contains("warehouse") {
            let target = self.cluster.url("target");
            text.push_str(&format!("  warehouse: {{ postgres: {{ url: {target} }} }}\n"));
        }
        if rest.contains("feed") {
            text.push_str("  feed: { file: { path: out/feed.jsonl, rotate: 1MiB } }\n");
        }
        text
    }

    /// A pipeline with its console at this port.
    pub fn with_console(pipeline: &str, port: u16) -> String {
        replaced(pipeline, "console: off", &format!("console: 127.0.0.1:{port}"))
    }

    /// The same with the source behind a proxy.
    pub fn behind(&self, proxy: &Proxy, pipeline: &str) -> String {
        through(&self.cluster.url("source"), proxy, pipeline)
    }

    /// The same with the target behind one.
    pub fn target_behind(&self, proxy: &Proxy, pipeline: &str) -> String {
        through(&self.cluster.url("target"), proxy, pipeline)
    }

    /// The same with the source at another server.
    pub fn at(&self, server: &Cluster, pipeline: &str) -> String {
        pipeline.replace(&self.cluster.url("source"), &server.url("source"))
    }

    /// [`DIGEST`] of a database.
    pub fn digest(&self, database: &str) -> Result<String> {
        self.cluster.sql(database, DIGEST)
    }

    /// Everything that was logged in the folder so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder().join("log")).unwrap_or_default()
    }

    /// How many lines of the log have these words.
    pub fn said(&self, words: &str) -> usize {
        self.log().lines().filter(|line| line.contains(words)).count()
    }

    /// Waits until so many lines of the log have these words.
    pub fn wait_said(&self, host: &mut Host, words: &str, times: usize) -> Result<()> {
        self.wait_for(host, words, || Ok(self.said(words) >= times))
    }

    /// Waits until so many sessions have come to the stream, of all processes that ran in the folder: what is committed from
    /// now on isn't copied.
    pub fn wait_streaming(&self, host: &mut Host, sessions: usize) -> Result<()> {
        self.wait_said(host, "\"streaming\"", sessions)
    }

    /// Waits until the target's tables are the source's: as long as the position moves, for there may be much to be
    /// caught up with.
    pub fn wait_equal(&self, host: &mut Host) -> Result<()> {
        let acknowledged =
            || self.source("SELECT string_agg(confirmed_flush_lsn::text, ' ') FROM pg_replication_slots");
        let source = self.digest("source")?;
        loop {
            let before = acknowledged()?;
            let waited = self.wait_for(host, "target equals source", || {
                let target = self.digest("target")?;
                ensure!(target == source, "source {source}\ntarget {target}");
                Ok(true)
            });
            if waited.is_ok() || host.ended()?.is_some() || acknowledged()? == before {
                return waited;
            }
        }
    }

    /// Waits until a query at the target gives `expected`.
    pub fn wait_target(&self, host: &mut Host, query: &str, expected: &str) -> Result<()> {
        self.wait_for(host, query, || {
            let found = self.target(query)?;
            ensure!(found == expected, "expected {expected}\nfound {found}");
            Ok(true)
        })
    }

    /// Waits for a condition while the host runs; tells its log where the condition doesn't come to hold.
    pub fn wait_for(&self, host: &mut Host, what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
        let waited = wait_until(what, LONG, || match host.must_run() {
            // No use in waiting on.
            Err(error) => Ok(Some(Err(error))),
            Ok(()) => Ok(condition()?.then_some(Ok(()))),
        });
        waited.unwrap_or_else(|error| Err(error.context(host.log())))
    }
}

/// A pipeline that must have what is replaced.
fn replaced(pipeline: &str, from: &str, to: &str) -> String {
    assert!(pipeline.contains(from), "no {from} in {pipeline}");
    pipeline.replace(from, to)
}

/// A pipeline that goes to a server through a proxy.
fn through(url: &str, proxy: &Proxy, pipeline: &str) -> String {
    let (address, _) = url.rsplit_once(':').expect("a port");
    let (_, database) = url.rsplit_once('/').expect("a database");
    replaced(pipeline, url, &format!("{address}:{}/{database}", proxy.port()))
}
