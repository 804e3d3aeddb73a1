//! Locks, and whatever else a transaction holds for as long as a test wants.

use crate::{Cluster, LONG};
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// What psql prints once it has done all before.
const DONE: &str = "held: done";

/// An open transaction. Its session ends with the value, so that a test that fails lets go of its lock at once.
pub struct Held {
    psql: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.psql.kill();
        let _ = self.psql.wait();
    }
}

impl Cluster {
    /// Begins a transaction with this statement, and returns once that is done: it has its locks by then.
    pub fn hold(&self, database: &str, statement: &str) -> Result<Held> {
        let mut psql = Command::new("psql")
            .args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-d",
                &self.url(database),
            ])
            // A lock that isn't to be had is an error.
            .env("PGOPTIONS", format!("-c lock_timeout={}", LONG.as_millis()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("psql")?;
        let (input, output) = (psql.stdin.take(), psql.stdout.take());
        let mut held = Held {
            input: input.context("a pipe")?,
            output: BufReader::new(output.context("a pipe")?),
            psql,
        };
        held.run("BEGIN")?;
        held.run(statement)?;
        Ok(held)
    }
}

impl Held {
    /// Does this in the transaction, too.
    pub fn run(&mut self, statement: &str) -> Result<()> {
        // A psql that has ended says why below.
        let _ = writeln!(self.input, "{statement};\n\\echo {DONE}");
        let mut line = String::new();
        while line.trim_end() != DONE {
            line.clear();
            if self.output.read_line(&mut line)? == 0 {
                let mut errors = String::new();
                if let Some(mut told) = self.psql.stderr.take() {
                    told.read_to_string(&mut errors)?;
                }
                bail!("{statement}: {errors}");
            }
        }
        Ok(())
    }

    /// Takes all back; whoever waited goes on.
    pub fn release(mut self) -> Result<()> {
        self.run("ROLLBACK")
    }

    pub fn commit(mut self) -> Result<()> {
        self.run("COMMIT")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait_until;

    #[test]
    fn a_lock_is_held_until_it_is_let_go_of() {
        const TAKE: &str = "SET lock_timeout = '100ms'; BEGIN; LOCK TABLE t; ROLLBACK";
        let cluster = Cluster::start().unwrap();
        cluster.sql("postgres", "CREATE TABLE t (id int)").unwrap();
        let is_free = || cluster.sql("postgres", TAKE).is_ok();
        let hold = || cluster.hold("postgres", "LOCK TABLE t").unwrap();

        let held = hold();
        assert!(!is_free());
        held.release().unwrap();
        assert!(is_free());

        // As where a test panics.
        let held = hold();
        assert!(!is_free());
        drop(held);
        wait_until("it is let go of", LONG, || Ok(is_free().then_some(()))).unwrap();

        let mut held = hold();
        held.run("INSERT INTO t VALUES (1)").unwrap();
        held.commit().unwrap();
        assert_eq!(cluster.sql("postgres", "SELECT count(*) FROM t").unwrap(), "1");

        let refused = cluster.hold("postgres", "LOCK TABLE nothing").err().unwrap();
        assert!(refused.to_string().contains("does not exist"), "{refused}");
    }
}
