//! Where runs of `rowmill` keep their files, and the clusters that they read from.

use crate::orders::DATABASE;
use anyhow::{Context, Result};
use rowmill_tests::{Cluster, ClusterOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// The plugins' part of a pipeline, for the routes that want it: a filter, then a mask that redacts.
pub const FILTER_AND_MASK: &str = "plugins:
  paid-only: { module: paid_only.wasm }
  mask-pii: { module: mask_pii.wasm, config: { columns: { email: redact }, salt: bench } }
";

pub struct Workplace {
    folder: TempDir,
    rowmill: PathBuf,
}

impl Workplace {
    pub fn new(rowmill: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        for plugin in ["paid_only.wasm", "mask_pii.wasm"] {
            std::fs::copy(Path::new("plugins").join(plugin), folder.path().join(plugin)).context(plugin)?;
        }
        let rowmill = rowmill.to_owned();
        Ok(Self { folder, rowmill })
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// `rowmill run` of a pipeline `name` without a console; `rest` is its file from `source` on. Compiled plugins of
    /// earlier runs are there: compiling is no part of a row's cost.
    pub fn run(&self, name: &str, rest: &str) -> Result<Command> {
        let compiled = self.path().join("compiled");
        let state = self.path().join(format!("state_{name}"));
        if compiled.exists() && !state.exists() {
            std::fs::create_dir(&state)?;
            Command::new("cp").arg("-a").arg(&compiled).arg(&state).status()?;
        }
        let file = self.path().join(format!("{name}.yaml"));
        std::fs::write(
            &file,
            format!("name: {name}\nstate_dir: state_{name}\nconsole: off\n{rest}"),
        )?;
        let log = std::fs::File::create(self.path().join(format!("{name}.log")))?;
        let mut command = Command::new(&self.rowmill);
        command.arg("run").arg(&file).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(log);
        Ok(command)
    }

    /// The compiled plugins of this run, where it had any, serve all later ones.
    pub fn keep_compiled(&self, name: &str) -> Result<()> {
        let made = self.path().join(format!("state_{name}/compiled"));
        let is_filled = std::fs::read_dir(&made).is_ok_and(|mut modules| modules.next().is_some());
        if is_filled && !self.path().join("compiled").exists() {
            Command::new("cp").arg("-a").arg(made).arg(self.path()).status()?;
        }
        Ok(())
    }

    /// The end of a run's log, to be shown where it failed.
    pub fn log(&self, name: &str) -> String {
        let log = std::fs::read_to_string(self.path().join(format!("{name}.log"))).unwrap_or_default();
        log.lines().rev().take(20).collect::<Vec<_>>().join("\n")
    }
}

/// A cluster with room for the WAL and the slots of many runs.
pub fn cluster(more: &[&str]) -> Result<Cluster> {
    let settings = [
        "max_replication_slots=200",
        "max_wal_senders=20",
        "shared_buffers=512MB",
        "max_wal_size=16GB",
        "autovacuum=off",
    ];
    let settings = settings.iter().chain(more).map(ToString::to_string).collect();
    Cluster::start_with(&ClusterOptions { settings, hba: vec![] })
}

pub fn make_slot(cluster: &Cluster, name: &str, output_plugin: &str) -> Result<()> {
    let make = format!("SELECT pg_create_logical_replication_slot('{name}', '{output_plugin}')");
    cluster.sql(DATABASE, &make)?;
    Ok(())
}

/// Until somebody streams from the slot: before, rows would wait for the reader's start.
pub fn wait_for_reader(cluster: &Cluster, slot: &str) -> Result<()> {
    let wait = format!(
        "DO $$ BEGIN FOR n IN 1..3000 LOOP
           EXIT WHEN EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '{slot}' AND active);
           PERFORM pg_sleep(0.02); COMMIT; END LOOP; END $$"
    );
    cluster.sql(DATABASE, &wait)?;
    Ok(())
}

pub fn drop_slot(cluster: &Cluster, name: &str) -> Result<()> {
    cluster.sql(DATABASE, &format!("SELECT pg_drop_replication_slot('{name}')"))?;
    Ok(())
}

/// Debian's own program rather than the script that finds it: that one's start would be the peer's.
pub fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let found = versions.filter_map(|version| Some(version.ok()?.path().join("bin").join(name)));
    let newest = found.filter(|path| path.exists()).max();
    newest.unwrap_or_else(|| PathBuf::from(name))
}

/// `pg_recvlogical` of a slot up to `end` into `file`.
pub fn recvlogical(cluster: &Cluster, slot: &str, end: &str, options: &[&str], file: &Path) -> Command {
    let port = cluster.port().to_string();
    let mut command = Command::new(program("pg_recvlogical"));
    command.args(["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-d", DATABASE]);
    command.args(["-S", slot, "--start", "--no-loop", "-E", end]);
    options.iter().for_each(|option| {
        command.args(["-o", option]);
    });
    command.arg("-f").arg(file).stdout(Stdio::null());
    command
}

/// pgoutput's options for the publication `bench`.
pub const PGOUTPUT: [&str; 2] = ["proto_version=1", "publication_names=bench"];
