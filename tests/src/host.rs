//! The binary as a child process.

use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// The `rowmill` binary that this build made, and the plugins beside it.
pub fn binary() -> Result<PathBuf> {
    let path = target_dir()?.join("rowmill");
    ensure!(path.exists(), "{} is missing: `cargo build -p rowmill`", path.display());
    Ok(path)
}

/// A built plugin of the repository, `plugins/NAME.wasm`.
pub fn plugin(name: &str) -> Result<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../plugins/{name}.wasm"));
    ensure!(path.exists(), "{} is missing: `cargo xtask plugins`", path.display());
    Ok(path.canonicalize()?)
}

/// `target/debug`, from where the test binary itself lies.
fn target_dir() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test.parent().context("a binary lies in a folder")?;
    // Tests lie one folder deeper than programs.
    let built = if folder.ends_with("deps") {
        folder.parent()
    } else {
        Some(folder)
    };
    Ok(built.context("deps lies in a folder")?.to_path_buf())
}

/// A running `rowmill run`, killed with the value.
pub struct Host {
    child: Child,
    folder: PathBuf,
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Host {
    /// Starts `rowmill run` on `pipeline` (the text of pipeline.yaml) in `folder`. Its log is appended to
    /// `folder/log`, its output to `folder/stdout`.
    pub fn run(folder: &Path, pipeline: &str) -> Result<Self> {
        Self::start(folder, pipeline, &["run"])
    }

    /// As [`Self::run`]; the process ends by itself when it passes this point for the `hit`th time.
    pub fn run_to(folder: &Path, pipeline: &str, point: &str, hit: u64) -> Result<Self> {
        let armed = ("ROWMILL_FAILPOINT", format!("{point}:{hit}"));
        Self::start_with(folder, pipeline, &["run"], &[(armed.0, &armed.1)])
    }

    /// As [`Self::run`] with environment variables.
    pub fn run_in(folder: &Path, pipeline: &str, variables: &[(&str, &str)]) -> Result<Self> {
        Self::start_with(folder, pipeline, &["run"], variables)
    }

    /// As [`Self::run`] with at most so many open files.
    pub fn run_with_files(folder: &Path, pipeline: &str, files: u64) -> Result<Self> {
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={files}:{files}")).arg(binary()?);
        Self::spawn(folder, pipeline, command.args(["run", "pipeline.yaml"]))
    }

    /// Starts another verb; `pipeline.yaml` is its last argument.
    pub fn start(folder: &Path, pipeline: &str, arguments: &[&str]) -> Result<Self> {
        Self::start_with(folder, pipeline, arguments, &[])
    }

    /// As [`Self::run`] where names are looked up in this file, and nowhere else: a mount namespace, which root may make.
    pub fn run_with_names(folder: &Path, pipeline: &str, hosts: &Path) -> Result<Self> {
        // A name server that refuses at once.
        let nobody = folder.join("resolv.conf");
        std::fs::write(&nobody, "nameserver 127.0.0.9\noptions timeout:1 attempts:1\n")?;
        let script =
            "mount --bind \"$1\" /etc/hosts && mount --bind \"$2\" /etc/resolv.conf && exec \"$0\" run pipeline.yaml";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script]);
        command.arg(binary()?).arg(hosts).arg(nobody);
        Self::spawn(folder, pipeline, &mut command)
    }

    fn start_with(folder: &Path, pipeline: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Self> {
        let mut command = Command::new(binary()?);
        command
            .args(arguments)
            .arg("pipeline.yaml")
            .envs(variables.iter().copied());
        Self::spawn(folder, pipeline, &mut command)
    }

    fn spawn(folder: &Path, pipeline: &str, command: &mut Command) -> Result<Self> {
        std::fs::write(folder.join("pipeline.yaml"), pipeline)?;
        let appended = |name: &str| File::options().create(true).append(true).open(folder.join(name));
        let child = command
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(appended("stdout")?)
            .stderr(appended("log")?)
            .spawn()?;
        Ok(Self {
            child,
            folder: folder.to_path_buf(),
        })
    }

    /// Runs a verb to its end; fails where it doesn't end with `code`. Returns standard output and standard error.
    pub fn verb(folder: &Path, pipeline: &str, arguments: &[&str], code: i32) -> Result<(String, String)> {
        std::fs::write(folder.join("pipeline.yaml"), pipeline)?;
        Self::verb_of(folder, &[arguments, &["pipeline.yaml"]].concat(), code)
    }

    /// The same for a verb that finds the pipeline.yaml of `folder` by itself, or takes none.
    pub fn verb_of(folder: &Path, arguments: &[&str], code: i32) -> Result<(String, String)> {
        let mut command = Command::new(binary()?);
        let output = command
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .output()?;
        let texts = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let [stdout, stderr] = texts;
        ensure!(
            output.status.code() == Some(code),
            "{arguments:?}: {}\n{stdout}\n{stderr}",
            output.status
        );
        Ok((stdout, stderr))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// kill -9.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    pub fn signal(&self, signal: i32) -> Result<()> {
        // SAFETY: no memory is involved; the pid is that of a child that hasn't been waited for.
        ensure!(
            unsafe { libc::kill(self.child.id().cast_signed(), signal) } == 0,
            "kill"
        );
        Ok(())
    }

    /// The end of the process where it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// SIGTERM, and the end of the drain; fails where it doesn't end with 0 in time.
    pub fn terminate(mut self) -> Result<()> {
        self.signal(libc::SIGTERM)?;
        let status = self.wait(Duration::from_secs(30))?;
        ensure!(status.success(), "{status}\n{}", self.log());
        Ok(())
    }

    /// The end of the process.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let started = std::time::Instant::now();
        while started.elapsed() < timeout {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!("rowmill still runs after {timeout:?}\n{}", self.log())
    }

    /// Fails where the process has ended.
    pub fn must_run(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("rowmill ended: {status}\n{}", self.log());
        }
        Ok(())
    }

    /// Everything logged in this folder so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

/// Waits until `condition` holds; fails with `what` and what `condition` saw last where it doesn't in time.
pub fn wait_until<T>(what: &str, timeout: Duration, mut condition: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let started = std::time::Instant::now();
    let mut last = None;
    loop {
        match condition() {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => {}
            Err(error) => last = Some(error),
        }
        if started.elapsed() > timeout {
            let seen = last.map(|error| format!(": {error:#}")).unwrap_or_default();
            bail!("{what}: not within {timeout:?}{seen}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
