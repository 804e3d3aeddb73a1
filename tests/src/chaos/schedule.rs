//! What happens when, from a seed alone.

use crate::{Fault, Random};
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
}

/// Is done at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// kill -9, and a start.
    Kill,
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

/// How the pipeline of a seed receives, as far as its server can. Transactions are prepared either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Receiving {
    pub two_phase: bool,
    pub streamed: bool,
    pub binary: bool,
}

impl Receiving {
    pub fn of(seed: u64) -> Self {
        let mut random = stirred(seed.wrapping_mul(1_000_033));
        let mut either = || random.below(2) == 0;
        Self {
            two_phase: either(),
            streamed: either(),
            binary: either(),
        }
    }

    /// Without what a server of this major version can't do.
    pub fn at(self, version: u32) -> Self {
        Self {
            two_phase: self.two_phase && version >= 15,
            streamed: self.streamed && version >= 14,
            binary: self.binary && version >= 14,
        }
    }

    /// Lines of pipeline.yaml.
    pub fn lines(self) -> String {
        let Self {
            two_phase,
            streamed,
            binary,
        } = self;
        format!("    two_phase: {two_phase}\n    stream_transactions: {streamed}\n    binary: {binary}")
    }
}

/// The first numbers of seeds that lie close are close.
fn stirred(seed: u64) -> Random {
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
            Some((Lasting::DiskFull, _)) => !matches!(act, Act::Kill | Act::Terminate),
            Some((Lasting::SourceDown, _)) => matches!(act, Act::Kill | Act::Terminate | Act::ReloadGood),
            Some((Lasting::TargetDown, _)) => !matches!(act, Act::TargetRestart { .. } | Act::TargetSessionsTerminated),
            _ => true,
        }),
    }
}

fn lasting(random: &mut Random) -> (Lasting, Duration) {
    let hold = Duration::from_millis(200 + random.below(2500));
    let lasting = match random.below(16) {
        0..=4 => Lasting::SourceNet(net(random)),
        5..=9 => Lasting::TargetNet(net(random)),
        // Longer than the server waits for a sign of life, now and then.
        10 | 11 => return (Lasting::HostStopped, hold * if random.below(4) == 0 { 3 } else { 1 }),
        12 => Lasting::SourceDown,
        13 => Lasting::TargetDown,
        _ => Lasting::DiskFull,
    };
    (lasting, hold)
}

fn net(random: &mut Random) -> Fault {
    match random.below(9) {
        0 | 1 => Fault::CutAfter(1 + random.below(20_000)),
        6 => Fault::CutInside,
        7 => Fault::LoseReply,
        8 => Fault::Bandwidth(5_000 + random.below(100_000)),
        2 => Fault::Latency(Duration::from_millis(20 + random.below(200))),
        3 => Fault::Slice(1 + random.below(7) as usize),
        4 => Fault::Swallow,
        _ => Fault::Refuse,
    }
}

fn act(random: &mut Random) -> Act {
    match random.below(30) {
        0..=5 => Act::Kill,
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
        _ => Act::TableAdded {
            by_hand: random.below(2) == 0,
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

    #[test]
    fn seeds_receive_in_every_way() {
        assert_eq!(Receiving::of(5), Receiving::of(5));
        let ways: BTreeSet<Receiving> = (1..=32).map(Receiving::of).collect();
        assert_eq!(ways.len(), 8, "{ways:?}");
        assert!(ways.iter().all(|way| !way.at(14).two_phase && !way.at(13).streamed));
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
        assert_eq!(lasting.len(), 6, "{lasting:?}");
        assert_eq!(acts.len(), 16, "{acts:?}");
    }
}
