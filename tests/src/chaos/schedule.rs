//! What happens when, from a seed alone.

use crate::{Fault, POINTS, Random};
use std::fmt;
use std::time::Duration;

/// Holds for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting {
    SourceNet(Fault),
    TargetNet(Fault),
    /// SIGSTOP, then SIGCONT.
    HostStopped,
    SourceDown,
    TargetDown,
    /// The state can't be written.
    DiskFull,
    /// The file sink's output can't.
    OutputFull,
    /// Somebody at the target holds a lock on a table, so that nothing can be written to it.
    TargetLocked,
}

/// Is done at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// kill -9, and a start.
    Kill,
    /// A start that ends by itself where it passes this point of the flow for the `hit`th time, and another.
    KillAt {
        point: usize,
        hit: u64,
    },
    /// The kernel ends it for want of memory, amid a large transaction; then a start.
    OutOfMemory,
    /// SIGTERM, and a start.
    Terminate,
    WalsendersTerminated,
    TargetSessionsTerminated,
    /// Not a fast shutdown but a crash where it is immediate.
    SourceRestart {
        immediate: bool,
    },
    TargetRestart {
        immediate: bool,
    },
    ReloadGood,
    /// A version that breaks on every batch of two rows or more; after a while a good one.
    ReloadBreaking,
    ReloadGarbage,
    /// For a while; then a good one.
    PluginDeleted,
    /// A bit of its file is turned, in place; after a while a good one.
    PluginCorrupted {
        byte: usize,
    },
    /// Its file ends early, in place; after a while a good one.
    PluginCut {
        part: u64,
    },
    /// Another good pipeline.yaml, and SIGHUP.
    ConfigGood,
    /// One that no host takes, and SIGHUP; after a while the one before.
    ConfigBad,
    /// The wall clock of the process, seconds from the true time, until the round is over.
    ClockSet {
        seconds: i64,
    },
    LargeTransaction {
        rows: usize,
    },
    ColumnAdded {
        table: Altered,
    },
    ColumnDropped {
        table: Altered,
    },
    ColumnRenamed {
        table: Altered,
    },
    /// A column that comes and goes with its transaction.
    AlterRolledBack {
        table: Altered,
    },
    /// TRUNCATE, amid rows.
    Emptied,
    /// One that the file's pattern meets; put into the publication by hand, or left to be found.
    TableAdded {
        by_hand: bool,
    },
}

/// Tables whose columns change. Only once their copies are through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Altered {
    Events,
    Accounts,
    Shelf,
}

impl Altered {
    pub fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Accounts => "accounts",
            Self::Shelf => "shelf_0",
        }
    }
}

impl Act {
    /// Whether another process begins with it.
    fn starts(self) -> bool {
        matches!(
            self,
            Self::Kill | Self::KillAt { .. } | Self::OutOfMemory | Self::Terminate
        )
    }

    /// Whether tables change by it.
    fn alters(self) -> bool {
        matches!(
            self,
            Self::ColumnAdded { .. }
                | Self::ColumnDropped { .. }
                | Self::ColumnRenamed { .. }
                | Self::AlterRolledBack { .. }
                | Self::Emptied
                | Self::TableAdded { .. }
        )
    }
}

/// The first numbers of seeds that lie close are close.
pub(super) fn stirred(seed: u64) -> Random {
    let mut random = Random::new(seed);
    for _ in 0..8 {
        random.number();
    }
    random
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub pause: Duration,
    pub lasting: Option<(Lasting, Duration)>,
    /// In the midst of what lasts.
    pub act: Option<Act>,
}

/// Faults that come one after the other, before all is healed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round(pub Vec<Step>);

impl Round {
    /// The `number`th round of a seed.
    pub fn of(seed: u64, number: u64) -> Self {
        let mut random = stirred(seed.wrapping_mul(1_000_003).wrapping_add(number));
        let steps = 2 + random.below(4);
        let mut steps: Vec<Step> = (0..steps).map(|_| step(&mut random)).collect();
        // The first copies are under way.
        for step in steps.iter_mut().filter(|_| number == 0) {
            step.act = step.act.filter(|act| !act.alters());
        }
        // The same message that makes no sense twice ends the process, as it has to: one of them in a round.
        let corrupts = |step: &Step| matches!(step.lasting, Some((Lasting::SourceNet(Fault::Corrupt(_)), _)));
        let mut is_corrupted = false;
        steps.retain(|step| !corrupts(step) || !std::mem::replace(&mut is_corrupted, true));
        Self(steps)
    }
}

fn step(random: &mut Random) -> Step {
    let pause = Duration::from_millis(random.below(800));
    let lasting = (random.below(5) < 3).then(|| lasting(random));
    let act = (lasting.is_none() || random.below(3) == 0).then(|| act(random));
    Step {
        pause,
        lasting,
        // A process that stands still can't be asked, and one that can't write its state can't start.
        act: act.filter(|act| match lasting {
            Some((Lasting::HostStopped, _)) => matches!(act, Act::Kill | Act::LargeTransaction { .. }) || act.alters(),
            Some((Lasting::DiskFull, _)) => !act.starts(),
            Some((Lasting::SourceDown, _)) => {
                matches!(act, Act::Kill | Act::Terminate | Act::ReloadGood | Act::ClockSet { .. })
            }
            Some((Lasting::TargetDown, _)) => !matches!(act, Act::TargetRestart { .. } | Act::TargetSessionsTerminated),
            _ => true,
        }),
    }
}

fn lasting(random: &mut Random) -> (Lasting, Duration) {
    let hold = Duration::from_millis(200 + random.below(2500));
    let lasting = match random.below(18) {
        0..=4 => Lasting::SourceNet(net(random, true)),
        5..=9 => Lasting::TargetNet(net(random, false)),
        // Longer than the server waits for a sign of life, now and then.
        10 | 11 => return (Lasting::HostStopped, hold * if random.below(4) == 0 { 3 } else { 1 }),
        12 => Lasting::SourceDown,
        13 => Lasting::TargetDown,
        14 => Lasting::OutputFull,
        15 => Lasting::TargetLocked,
        _ => Lasting::DiskFull,
    };
    (lasting, hold)
}

fn net(random: &mut Random, is_source: bool) -> Fault {
    match random.below(10) {
        0 | 1 => Fault::CutAfter(1 + random.below(20_000)),
        6 => Fault::CutInside,
        7 => Fault::LoseReply,
        8 => Fault::Bandwidth(5_000 + random.below(100_000)),
        2 => Fault::Latency(Duration::from_millis(20 + random.below(200))),
        3 => Fault::Slice(1 + random.below(7) as usize),
        4 => Fault::Swallow,
        9 if is_source => Fault::Corrupt(b"BCIU"[random.below(4) as usize]),
        _ => Fault::Refuse,
    }
}

fn act(random: &mut Random) -> Act {
    const CLOCKS: [i64; 4] = [86_400, -3_600, 45, -45];
    match random.below(40) {
        0..=4 => Act::Kill,
        5 => Act::OutOfMemory,
        6 => Act::Terminate,
        7 | 8 => Act::WalsendersTerminated,
        9 | 10 => Act::TargetSessionsTerminated,
        11 => Act::SourceRestart {
            immediate: random.below(2) == 0,
        },
        12 | 13 => Act::TargetRestart {
            immediate: random.below(2) == 0,
        },
        14 | 15 => Act::ReloadGood,
        16 => Act::ReloadBreaking,
        17 => Act::ReloadGarbage,
        18 | 19 => Act::LargeTransaction {
            rows: 1_000 + random.below(4_000) as usize,
        },
        20 | 21 => Act::ColumnAdded { table: table(random) },
        22 | 23 => Act::ColumnDropped { table: table(random) },
        24 | 25 => Act::ColumnRenamed { table: table(random) },
        26 => Act::AlterRolledBack { table: table(random) },
        27 | 28 => Act::Emptied,
        29 => Act::TableAdded {
            by_hand: random.below(2) == 0,
        },
        30 | 31 => Act::KillAt {
            point: random.below(POINTS.len() as u64) as usize,
            hit: 1 + random.below(20),
        },
        32 => Act::PluginDeleted,
        33 => Act::PluginCorrupted {
            byte: random.below(9) as usize,
        },
        34 => Act::PluginCut {
            part: 3 + random.below(20),
        },
        35 | 36 => Act::ConfigGood,
        37 => Act::ConfigBad,
        _ => Act::ClockSet {
            seconds: CLOCKS[random.below(4) as usize],
        },
    }
}

fn table(random: &mut Random) -> Altered {
    [Altered::Events, Altered::Accounts, Altered::Shelf][random.below(3) as usize]
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {} ms", self.pause.as_millis())?;
        if let Some((lasting, hold)) = self.lasting {
            write!(f, " {lasting:?} for {} ms", hold.as_millis())?;
        }
        match self.act {
            Some(act) => write!(f, " {act:?}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_seed_gives_the_same_rounds_every_time_and_another_seed_others() {
        assert_eq!(Round::of(7, 3), Round::of(7, 3));
        assert_ne!(Round::of(7, 3), Round::of(8, 3));
        assert_ne!(Round::of(7, 3), Round::of(7, 4));
    }

    /// Nothing is left out for ever: by name, in the rounds of half an hour.
    #[test]
    fn every_fault_comes_up() {
        let word = |text: String| text.split(|c: char| !c.is_alphanumeric()).next().map(str::to_owned);
        let (mut lasting, mut acts) = (BTreeSet::new(), BTreeSet::new());
        for step in (0..150).flat_map(|number| Round::of(1, number).0) {
            lasting.extend(step.lasting.and_then(|(lasting, _)| word(format!("{lasting:?}"))));
            acts.extend(step.act.and_then(|act| word(format!("{act:?}"))));
        }
        assert_eq!(lasting.len(), 8, "{lasting:?}");
        assert_eq!(acts.len(), 24, "{acts:?}");
    }
}
