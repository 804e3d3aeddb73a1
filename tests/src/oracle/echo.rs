//! A sink that keeps no position: lines on standard output, as whoever reads them sees them.

use super::arrivals::{Arrival, of_line};
use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Stands behind a line that a process left unfinished.
const TORN: &[u8] = b"#torn";

/// Reads on in the output of processes that ran one after the other.
#[derive(Debug)]
pub struct Echo {
    path: PathBuf,
    at: u64,
}

impl Echo {
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            at: 0,
        }
    }

    /// To be called between two processes: what the first one has left of a line is no line.
    pub fn tear(path: &Path) -> Result<()> {
        let Ok(mut file) = File::options().read(true).append(true).open(path) else {
            return Ok(());
        };
        if file.metadata()?.len() == 0 {
            return Ok(());
        }
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        match last[0] {
            b'\n' => Ok(()),
            _ => Ok(file.write_all(&[b"\n", TORN, b"\n"].concat())?),
        }
    }

    /// What has arrived since, as far as lines are whole.
    pub fn read(&mut self) -> Result<Vec<Arrival>> {
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened?,
        };
        ensure!(file.metadata()?.len() >= self.at, "the output is shorter than before");
        file.seek(SeekFrom::Start(self.at))?;
        let mut fresh = Vec::new();
        file.read_to_end(&mut fresh)?;
        let end = fresh.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines: Vec<&[u8]> = fresh[..end].split_inclusive(|byte| *byte == b'\n').collect();
        let mut arrivals = Vec::new();
        for (place, line) in lines.iter().enumerate() {
            self.at += line.len() as u64;
            let is_mark = |line: &&[u8]| line.strip_suffix(b"\n") == Some(TORN);
            if is_mark(line) || lines.get(place + 1).is_some_and(is_mark) {
                continue;
            }
            let value = serde_json::from_slice(line);
            arrivals.push(of_line(&value.context("a torn line of standard output")?, self.at)?);
        }
        Ok(arrivals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: u64) -> String {
        format!(
            "{{\"id\":\"7:{id:X}:0:0\",\"op\":\"insert\",\"table\":\"events\",\"commit_time\":\"2026\",\
             \"new\":{{\"id\":{id},\"txn\":{id},\"key\":1}}}}\n"
        )
    }

    #[test]
    fn what_a_killed_process_left_of_a_line_is_passed_over_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stdout");
        let append = |text: &str| {
            let mut file = std::fs::File::options().create(true).append(true).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        let mut echo = Echo::new(&path);
        let mut numbers = || {
            echo.read()
                .map(|arrivals| arrivals.iter().map(|arrival| arrival.number).collect::<Vec<_>>())
        };
        assert_eq!(numbers().unwrap(), [0; 0]);
        Echo::tear(&path).unwrap();
        append(&line(1));
        append(&line(2)[..9]);
        assert_eq!(numbers().unwrap(), [1]);
        Echo::tear(&path).unwrap();
        append(&line(2));
        Echo::tear(&path).unwrap();
        append(&line(3));
        assert_eq!(numbers().unwrap(), [2, 3]);
        // Not at the end of a process.
        append("half\n");
        assert!(numbers().is_err());
    }
}
