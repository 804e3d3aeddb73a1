//! A Postgres of one's own: made by `initdb` in a temporary folder, on a free port, gone with the value.

use crate::{LONG, SmallDisk, free_port, wait_until};
use anyhow::{Context, Result, bail, ensure};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// What a cluster starts with besides the defaults.
#[derive(Clone, Debug, Default)]
pub struct ClusterOptions {
    /// `name=value` lines of postgresql.conf, stronger than the defaults.
    pub settings: Vec<String>,
    /// Lines put before the generated pg_hba.conf.
    pub hba: Vec<String>,
}

/// A running private cluster: `wal_level=logical`, superuser `postgres` without a password, fsync off.
pub struct Cluster {
    // Unmounted before its folder goes.
    disk: Option<SmallDisk>,
    folder: TempDir,
    port: u16,
}

/// Stops one cluster's server for good; a port can be used by one cluster only while it runs.
impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.ctl(&["-m", "immediate", "stop"]);
    }
}

impl Cluster {
    pub fn start() -> Result<Self> {
        Self::start_with(&ClusterOptions::default())
    }

    pub fn start_with(options: &ClusterOptions) -> Result<Self> {
        Self::start_on(options, None)
    }

    /// On a disk of its own of so many bytes, which root may mount.
    pub fn start_on_disk(options: &ClusterOptions, bytes: u64) -> Result<Self> {
        Self::start_on(options, Some(bytes))
    }

    fn start_on(options: &ClusterOptions, disk_bytes: Option<u64>) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("rowmill-pg-").tempdir()?;
        let (uid, gid) = server_user()?;
        let disk = disk_bytes.map(|bytes| SmallDisk::mount(folder.path(), bytes));
        let disk = disk.transpose()?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        chown(folder.path(), Some(uid), Some(gid))?;
        let cluster = Self {
            disk,
            folder,
            port: free_port()?,
        };
        cluster.run(
            "initdb",
            &[
                "-D",
                &cluster.data_text(),
                "-A",
                "trust",
                "-U",
                "postgres",
                "-N",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
            ],
        )?;
        let mut settings = vec![
            format!("port={}", cluster.port),
            format!("unix_socket_directories='{}'", cluster.folder.path().display()),
            "listen_addresses='127.0.0.1'".into(),
            "wal_level=logical".into(),
            "fsync=off".into(),
            "max_wal_senders=10".into(),
            "max_replication_slots=10".into(),
            "wal_sender_timeout=5s".into(),
            "logging_collector=off".into(),
        ];
        settings.extend(options.settings.iter().cloned());
        let conf = cluster.data().join("postgresql.conf");
        std::fs::write(
            &conf,
            format!("{}\n{}\n", std::fs::read_to_string(&conf)?, settings.join("\n")),
        )?;
        let hba = cluster.data().join("pg_hba.conf");
        std::fs::write(
            &hba,
            format!("{}\n{}", options.hba.join("\n"), std::fs::read_to_string(&hba)?),
        )?;
        cluster.start_server()?;
        Ok(cluster)
    }

    /// A stopped server's data, files and all, as a cluster of its own on another port, with these settings and files
    /// more; it isn't started. What a backup of the folder brings back, and what a standby begins with.
    pub fn copied(&self, settings: &[String], files: &[&str]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("rowmill-pg-").tempdir()?;
        let (uid, gid) = server_user()?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        chown(folder.path(), Some(uid), Some(gid))?;
        let copied = Command::new("cp")
            .arg("-a")
            .arg(self.data())
            .arg(folder.path())
            .status()?;
        ensure!(copied.success(), "cp: {copied}");
        let copy = Self {
            disk: None,
            folder,
            port: free_port()?,
        };
        let place = [
            format!("port={}", copy.port),
            format!("unix_socket_directories='{}'", copy.folder.path().display()),
        ];
        copy.set(&[&place[..], settings].concat())?;
        for file in files {
            let path = copy.data().join(file);
            std::fs::write(&path, "")?;
            chown(&path, Some(uid), Some(gid))?;
        }
        Ok(copy)
    }

    /// A stopped server's copy that follows it once both run.
    pub fn standby(&self) -> Result<Self> {
        let follows = format!("primary_conninfo='host=127.0.0.1 port={} user=postgres'", self.port);
        self.copied(&[follows], &["standby.signal"])
    }

    /// Starts a stopped standby that follows nobody any more, and makes it the primary.
    pub fn start_promoted(&self) -> Result<()> {
        self.set(&["primary_conninfo=''".into()])?;
        self.start_server()?;
        self.promote()
    }

    /// Adds lines to postgresql.conf, stronger than those before; they count from the next start on.
    pub fn set(&self, settings: &[String]) -> Result<()> {
        let conf = self.data().join("postgresql.conf");
        let before = std::fs::read_to_string(&conf)?;
        Ok(std::fs::write(&conf, format!("{before}\n{}\n", settings.join("\n")))?)
    }

    /// Makes a standby the primary, on a timeline of its own.
    pub fn promote(&self) -> Result<()> {
        self.ctl(&["-w", "-t", "60", "promote"])
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// A connection string of the superuser over TCP.
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// The folder of the Unix socket.
    pub fn socket_dir(&self) -> &Path {
        self.folder.path()
    }

    /// Where it has one of its own.
    pub fn disk(&self) -> Option<&SmallDisk> {
        self.disk.as_ref()
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The server's log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// kill -9 of the server; its other processes end when they notice.
    pub fn kill(&self) -> Result<()> {
        let pid = std::fs::read_to_string(self.data().join("postmaster.pid"))?;
        let pid: i32 = pid.lines().next().context("the file begins with a pid")?.parse()?;
        // SAFETY: no memory is involved; the file names the process for as long as it runs.
        ensure!(unsafe { libc::kill(pid, libc::SIGKILL) } == 0, "kill");
        Ok(())
    }

    pub fn start_server(&self) -> Result<()> {
        let log = self.folder.path().join("log").display().to_string();
        self.ctl(&["-w", "-t", "60", "-l", &log, "start"])
            .with_context(|| self.log())
    }

    /// Stops the server: `mode` is `smart`, `fast` or `immediate`.
    pub fn stop_server(&self, mode: &str) -> Result<()> {
        self.ctl(&["-w", "-t", "60", "-m", mode, "stop"])
    }

    /// Runs SQL through psql and returns its unaligned, tuples-only output without the last newline.
    pub fn sql(&self, database: &str, sql: &str) -> Result<String> {
        let port = self.port.to_string();
        let output = Command::new("psql")
            .args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-h",
                "127.0.0.1",
                "-U",
                "postgres",
            ])
            .args(["-p", &port, "-d", database, "-c", sql])
            .output()
            .context("psql")?;
        ensure!(
            output.status.success(),
            "{sql}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?.trim_end_matches('\n').to_owned())
    }

    /// Waits until a query gives `expected`.
    pub fn wait_sql(&self, database: &str, query: &str, expected: &str) -> Result<()> {
        wait_until(query, LONG, || {
            let found = self.sql(database, query)?;
            ensure!(found == expected, "expected {expected}\nfound {found}");
            Ok(Some(()))
        })
    }

    /// Starts SQL through psql and doesn't wait for its end, nor for a lock that it asks for; [`Self::hold`] does.
    pub fn start_sql(&self, database: &str, sql: &str) -> Result<Child> {
        let child = Command::new("psql")
            .args(["-X", "-q", "-d", &self.url(database), "-c", sql])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        child.context("psql")
    }

    /// Runs a script, each statement in a transaction of its own unless it says BEGIN.
    pub fn script(&self, database: &str, sql: &str) -> Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), sql)?;
        let port = self.port.to_string();
        let output = Command::new("psql")
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "postgres"])
            .args(["-p", &port, "-d", database, "-f"])
            .arg(file.path())
            .output()
            .context("psql")?;
        ensure!(
            output.status.success(),
            "{sql}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    fn data_text(&self) -> String {
        self.data().display().to_string()
    }

    fn ctl(&self, arguments: &[&str]) -> Result<()> {
        let data = self.data_text();
        let mut all = vec!["-D", &data, "-s"];
        all.extend_from_slice(arguments);
        self.run("pg_ctl", &all)
    }

    fn run(&self, tool: &str, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(tool_path(tool)?);
        let errors = self.folder.path().join("errors");
        // To a file, not a pipe: the server that pg_ctl leaves behind would hold a pipe open.
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&errors)?);
        command.current_dir("/tmp").env("LC_ALL", "C.UTF-8");
        let (uid, gid) = server_user()?;
        if is_root() {
            command.uid(uid).gid(gid);
        }
        let status = command.status().with_context(|| tool.to_owned())?;
        ensure!(
            status.success(),
            "{tool} {arguments:?}: {}",
            std::fs::read_to_string(&errors)?
        );
        Ok(())
    }
}

/// Where Debian keeps the server's programs; `PG_BIN` names another folder.
fn tool_path(tool: &str) -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("PG_BIN") {
        return Ok(PathBuf::from(folder).join(tool));
    }
    let mut versions: Vec<u32> = std::fs::read_dir("/usr/lib/postgresql")
        .context("no Postgres under /usr/lib/postgresql: `cargo xtask test` installs it")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    versions.sort_unstable();
    let Some(version) = versions.last() else {
        bail!("/usr/lib/postgresql is empty")
    };
    Ok(PathBuf::from(format!("/usr/lib/postgresql/{version}/bin/{tool}")))
}

fn id(arguments: &[&str]) -> Result<u32> {
    let output = Command::new("id").args(arguments).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

fn is_root() -> bool {
    id(&["-u"]).is_ok_and(|uid| uid == 0)
}

/// Postgres refuses to run as root, so root runs it as `postgres`, everybody else as themselves.
fn server_user() -> Result<(u32, u32)> {
    let user: &[&str] = if is_root() { &["postgres"] } else { &[] };
    let with = |flag| id(&[&[flag], user].concat());
    Ok((with("-u")?, with("-g")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_starts_answers_and_restarts() {
        let cluster = Cluster::start().unwrap();
        assert_eq!(cluster.sql("postgres", "SHOW wal_level").unwrap(), "logical");
        cluster.stop_server("fast").unwrap();
        assert!(cluster.sql("postgres", "SELECT 1").is_err());
        cluster.start_server().unwrap();
        assert_eq!(cluster.sql("postgres", "SELECT 1").unwrap(), "1");
    }
}
