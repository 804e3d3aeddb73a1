//! Puts events into transactions and numbers them, as the host does.

use super::event::Event;
use super::sample::Sample;
use crate::row::{Image, Op};

/// The first transaction's id and position, and how far the positions are apart.
const XID: u64 = 700;
const LSN: u64 = 0x100_0000;
const LSN_STEP: u64 = 0x100;

/// A transaction's id, position and time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Commit {
    pub xid: u64,
    pub lsn: u64,
    pub us: i64,
}

/// An event that is no commit, and where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step<'e> {
    pub event: &'e Event,
    /// Its transaction, among those of the script.
    pub transaction: usize,
    /// The number of its change within the transaction; both images of an update have the same.
    pub ordinal: u64,
}

/// Events in order with the transactions that they stand in.
#[derive(Clone, Debug)]
pub(super) struct Script<'e> {
    pub steps: Vec<Step<'e>>,
    pub commits: Vec<Commit>,
}

impl<'e> Script<'e> {
    /// Numbers events, in transactions from the one with number `first` on.
    pub fn new(events: &'e [Event], first: u64, default_us: i64) -> Self {
        let mut script = Self {
            steps: Vec::new(),
            commits: Vec::new(),
        };
        let (mut ordinal, mut old): (u64, Option<&Sample>) = (0, None);
        for event in events {
            let row = match event {
                Event::Commit { commit_us } => {
                    script.end(first, commit_us.unwrap_or(default_us));
                    (ordinal, old) = (0, None);
                    continue;
                }
                Event::Row(row) => Some(row),
                _ => None,
            };
            if old.is_some() && row.is_some_and(is_new_of_update) {
                ordinal -= 1;
            }
            script.steps.push(Step {
                event,
                transaction: script.commits.len(),
                ordinal,
            });
            ordinal += 1;
            old = row.filter(|row| row.op == Op::Update && row.image != Image::New);
        }
        if script
            .steps
            .last()
            .is_some_and(|step| step.transaction == script.commits.len())
        {
            script.end(first, default_us);
        }
        script
    }

    fn end(&mut self, first: u64, us: i64) {
        let number = first + self.commits.len() as u64;
        self.commits.push(Commit {
            xid: XID + number,
            lsn: LSN + number * LSN_STEP,
            us,
        });
    }

    /// Whether a batch may end before this step: not between the images of a change.
    pub fn may_cut_before(&self, step: usize) -> bool {
        match (
            step.checked_sub(1).and_then(|before| self.steps.get(before)),
            self.steps.get(step),
        ) {
            (Some(before), Some(step)) => (before.transaction, before.ordinal) != (step.transaction, step.ordinal),
            _ => false,
        }
    }
}

fn is_new_of_update(row: &Sample) -> bool {
    row.op == Op::Update && row.image == Image::New
}
