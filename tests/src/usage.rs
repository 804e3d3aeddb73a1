//! What a process takes of memory, threads and descriptors, and whether that stays.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;

/// How much may be added, in parts of a hundred.
const GROWTH_PERCENT: u64 = 5;
/// How many threads or descriptors may be there besides: a pool's spare thread lives for 10 s, so that two jobs that happened to
/// meet show as one more in some samples. What leaks one with each round is beyond that soon.
const SPARE: u64 = 2;

/// One of the figures, with its name, and what may be added whatever it is.
type Figure = (&'static str, fn(&Usage) -> u64, u64);

const FIGURES: [Figure; 4] = [
    ("memory", |usage| usage.memory_kib, 0),
    ("threads", |usage| usage.threads, SPARE),
    ("descriptors", |usage| usage.descriptors, SPARE),
    ("state", |usage| usage.state_bytes, 0),
];

/// At one moment.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub memory_kib: u64,
    pub threads: u64,
    pub descriptors: u64,
    /// Of a folder that it writes to.
    pub state_bytes: u64,
}

impl Usage {
    pub fn of(pid: u32, state: &Path) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let of = |key: &str| {
            let line = status.lines().find(|line| line.starts_with(key));
            let number = line.and_then(|line| line.split_whitespace().nth(1));
            anyhow::Ok(number.with_context(|| format!("no {key}"))?.parse()?)
        };
        Ok(Self {
            memory_kib: of("VmRSS:")?,
            threads: of("Threads:")?,
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64,
            state_bytes: size(state),
        })
    }
}

fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.map(of).sum()
}

/// Samples of a process that does the same thing again and again.
#[derive(Debug, Default)]
pub struct Flat {
    samples: Vec<Usage>,
}

impl Flat {
    pub fn sample(&mut self, pid: u32, state: &Path) -> Result<()> {
        self.samples.push(Usage::of(pid, state)?);
        Ok(())
    }

    /// The first half is for warming up. What the last quarter takes in the middle, so that ups and downs don't count, is
    /// less than 5 % above that of the third one, spare threads and descriptors aside.
    pub fn check(&self) -> Result<()> {
        let quarter = self.samples.len() / 4;
        ensure!(quarter >= 3, "{} samples are too few", self.samples.len());
        let (third, last) = self.samples[self.samples.len() - 2 * quarter..].split_at(quarter);
        for (name, of, spare) in FIGURES {
            let (before, after) = (middle(third, of), middle(last, of));
            println!("{name}: {before}, then {after}");
            ensure!(
                after.saturating_sub(spare) * 100 < before * (100 + GROWTH_PERCENT),
                "{name} grew from {before} to {after}: {:#?}",
                self.samples
            );
        }
        Ok(())
    }
}

fn middle(samples: &[Usage], of: fn(&Usage) -> u64) -> u64 {
    let mut values: Vec<u64> = samples.iter().map(of).collect();
    values.sort_unstable();
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(memory: impl Fn(u64) -> u64, threads: impl Fn(u64) -> u64) -> Flat {
        let usage = |at| Usage {
            memory_kib: memory(at),
            threads: threads(at),
            descriptors: 30,
            state_bytes: 4_096,
        };
        Flat {
            samples: (0..40).map(usage).collect(),
        }
    }

    #[test]
    fn what_fills_up_first_is_flat_and_what_goes_on_growing_is_not() {
        let warmed = |at: u64| 20_000 + 1_000 * at.min(20) + at % 3 * 500;
        flat(warmed, |_| 12).check().unwrap();
        let leaking = flat(|at| warmed(at) + 400 * at, |_| 12).check().unwrap_err();
        assert!(leaking.to_string().contains("memory grew"), "{leaking}");
        flat(warmed, |at| 12 + at / 30).check().unwrap();
        let threads = flat(warmed, |at| 12 + at / 3).check().unwrap_err();
        assert!(threads.to_string().contains("threads grew"), "{threads}");
    }
}
