//! A Postgres of the demo's own, in a folder of its own, both gone with the value.
//!
//! It listens on a Unix socket alone, in a folder that nobody else may enter: its superuser has no password. Stopping
//! it and removing the folder is left to a guard, a small shell that waits for the end of a pipe. The pipe ends
//! however this process does, so nothing stays behind even where no destructor runs.

use super::codes;
use crate::problem::Problem;
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The longest path of a Unix socket on every system that we know.
const MAX_SOCKET_PATH_BYTES: usize = 103;

/// Waits for the end of its input, stops the server of the folder at once, removes the folder. Nothing in it is worth
/// an orderly stop.
const GUARD: &str = "\
trap '' INT TERM HUP
cat >/dev/null
pid=$(head -n 1 \"$1/pg/data/postmaster.pid\" 2>/dev/null)
if [ -n \"$pid\" ]; then
  kill -QUIT \"$pid\"
  tries=0
  while kill -0 \"$pid\" && [ $tries -lt 100 ]; do sleep 0.05; tries=$((tries+1)); done
fi
rm -rf \"$1\" || { sleep 1; rm -rf \"$1\"; }
";

/// The folder, guarded; the server once started.
pub(super) struct Cluster {
    folder: PathBuf,
    guard: Child,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        // A guard that can't be waited for does its work all the same.
        let _ = self.guard.wait();
    }
}

impl Cluster {
    /// Makes the folder; starts nothing but the guard.
    pub(super) fn prepare() -> Result<Self, Problem> {
        let folder = new_folder()?;
        let guard = Command::new("sh")
            .args(["-c", GUARD, "rowmill-demo-guard"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            // Ctrl-C at the terminal goes to the whole group of processes.
            .process_group(0)
            .spawn();
        let guard = match guard {
            Ok(guard) => guard,
            Err(error) => {
                let _ = fs::remove_dir(&folder);
                return Err(codes::folder(format!("sh: {error}")));
            }
        };
        let cluster = Self { folder, guard };
        if cluster.socket_folder().as_os_str().len() + "/.s.PGSQL.5432".len() > MAX_SOCKET_PATH_BYTES {
            let shown = cluster.folder.display();
            return Err(codes::folder(format!("{shown} is too long for a Unix socket")));
        }
        Ok(cluster)
    }

    /// The folder that is removed at the end.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn socket_folder(&self) -> PathBuf {
        self.folder.join("pg")
    }

    /// A connection string of the superuser.
    pub(super) fn url(&self, database: &str) -> String {
        let folder = self.socket_folder();
        format!(
            "host='{}' port=5432 user=postgres dbname={database}",
            folder.display().to_string().replace('\\', r"\\").replace('\'', r"\'")
        )
    }

    /// Makes the databases' files and starts the server; returns once it takes connections.
    pub(super) fn start(&self) -> Result<(), Problem> {
        let home = self.socket_folder();
        fs::create_dir(&home).map_err(codes::folder)?;
        fs::set_permissions(&home, Permissions::from_mode(0o700)).map_err(codes::folder)?;
        let user = server_user(&home)?;
        if let Some((uid, gid)) = user {
            chown(&home, Some(uid), Some(gid)).map_err(codes::folder)?;
        }
        let data = home.join("data").display().to_string();
        let init = [
            "-D",
            &data,
            "-A",
            "trust",
            "-U",
            "postgres",
            "-N",
            "-E",
            "UTF8",
            "--locale=C",
        ];
        self.tool("initdb", &init, user)?;
        let conf = Path::new(&data).join("postgresql.conf");
        let defaults = fs::read_to_string(&conf).map_err(codes::folder)?;
        fs::write(&conf, format!("{defaults}\n{}", self.settings())).map_err(codes::folder)?;
        let log = home.join("log").display().to_string();
        let start = ["-D", &data, "-s", "-w", "-t", "60", "-l", &log, "start"];
        self.tool("pg_ctl", &start, user)
            .map_err(|problem| match fs::read_to_string(&log) {
                Ok(log) => problem.with_cause(log.trim_end()),
                Err(_) => problem,
            })
    }

    fn settings(&self) -> String {
        let sockets = self.socket_folder().display().to_string().replace('\'', "''");
        format!(
            "listen_addresses=''\nunix_socket_directories='{sockets}'\nport=5432\nwal_level=logical\nfsync=off\n\
             max_wal_senders=10\nmax_replication_slots=10\nlogging_collector=off\n"
        )
    }

    fn tool(&self, name: &str, arguments: &[&str], user: Option<(u32, u32)>) -> Result<(), Problem> {
        let errors = self.folder.join("errors");
        let mut command = Command::new(tool_path(name));
        // To a file, not a pipe: the server that pg_ctl leaves behind would hold a pipe open.
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&errors).map_err(codes::folder)?)
            .current_dir("/")
            .env("LC_ALL", "C");
        if let Some((uid, gid)) = user {
            command.uid(uid).gid(gid);
        }
        let status = command
            .status()
            .map_err(|error| codes::server(format!("{name}: {error}")))?;
        if status.success() {
            return Ok(());
        }
        let said = fs::read_to_string(&errors).unwrap_or_default();
        Err(codes::server(format!("{name}: {status}: {}", said.trim_end())))
    }
}

fn new_folder() -> Result<PathBuf, Problem> {
    let parent = std::path::absolute(std::env::temp_dir()).map_err(codes::folder)?;
    let mut number = std::process::id();
    loop {
        let folder = parent.join(format!("rowmill-demo-{number}"));
        match fs::create_dir(&folder) {
            Ok(()) => {
                // The server's user has to get through to its own folder.
                fs::set_permissions(&folder, Permissions::from_mode(0o755)).map_err(codes::folder)?;
                return Ok(folder);
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number = number.wrapping_add(1),
            Err(error) => return Err(codes::folder(format!("{}: {error}", folder.display()))),
        }
    }
}

/// Whom the server runs as: `postgres` where we are root, ourselves otherwise.
fn server_user(ours: &Path) -> Result<Option<(u32, u32)>, Problem> {
    if fs::metadata(ours).map_err(codes::folder)?.uid() != 0 {
        return Ok(None);
    }
    Ok(Some((id("-u")?, id("-g")?)))
}

fn id(flag: &str) -> Result<u32, Problem> {
    let output = Command::new("id").args([flag, "postgres"]).output();
    let output = output.map_err(|error| codes::server(format!("id: {error}")))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let parsed = text.trim().parse();
    parsed.map_err(|_| codes::server("there is no user `postgres` to run the server as"))
}

/// In the folder that PG_BIN names, in Debian's folder of the newest version, or somewhere on PATH.
fn tool_path(tool: &str) -> PathBuf {
    if let Some(folder) = std::env::var_os("PG_BIN") {
        return PathBuf::from(folder).join(tool);
    }
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let newest = versions
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .max();
    match newest {
        Some(version) => PathBuf::from(format!("/usr/lib/postgresql/{version}/bin")).join(tool),
        None => PathBuf::from(tool),
    }
}
