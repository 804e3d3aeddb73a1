//! How far everything is durable everywhere.
//!
//! ```text
//!   sequence   1      2      3      4      5
//!   end LSN    0/10   -      0/30   0/40   -         (where the batch ends at a commit)
//!   sink a     ====================|                 durable up to 4
//!   sink b     =============|                        durable up to 3, 4 not sent there
//!   frontier   min(4, latest as nothing is in flight at b) = 4  ->  0/40
//! ```
//!
//! A sink that got nothing of a batch holds nothing back: it counts as durable up to the latest batch whenever all
//! that was sent to it is durable. Only the end of a commit is ever reported, so a position inside a transaction
//! can't leave here; and only positions whose every predecessor is durable at every sink.

use crate::batch::Lsn;
use std::collections::VecDeque;
use std::sync::Mutex;
use tokio::sync::Notify;

/// How far the frontier has come, and what was waiting for it.
#[derive(Debug, PartialEq, Eq)]
pub struct Advance<M> {
    /// Everything that committed before this position is durable everywhere; `None` where only marks were passed.
    pub lsn: Option<Lsn>,
    /// Marks of the batches that were passed, in order.
    pub marks: Vec<M>,
}

#[derive(Debug)]
struct Sent<M> {
    sequence: u64,
    end: Lsn,
    marks: Vec<M>,
}

#[derive(Debug, Clone, Copy, Default)]
struct SinkState {
    /// The last sequence sent to it.
    sent: u64,
    durable: u64,
}

#[derive(Debug)]
struct Inner<M> {
    latest: u64,
    sinks: Vec<SinkState>,
    waiting: VecDeque<Sent<M>>,
    /// How many of those have marks.
    marked: usize,
}

/// The minimum over sinks of what is durable. `M` is what the caller wants back once a batch is passed.
#[derive(Debug)]
pub struct Frontier<M> {
    inner: Mutex<Inner<M>>,
    moved: Notify,
}

impl<M> Frontier<M> {
    pub fn new(sinks: usize) -> Self {
        let inner = Inner {
            latest: 0,
            sinks: vec![SinkState::default(); sinks],
            waiting: VecDeque::new(),
            marked: 0,
        };
        Self {
            inner: Mutex::new(inner),
            moved: Notify::new(),
        }
    }

    /// Batch `sequence` is on its way to the sinks `to`. To be called before any of them can report it, with
    /// ascending sequences.
    pub fn sent(&self, sequence: u64, to: impl IntoIterator<Item = usize>, end: Lsn, marks: Vec<M>) {
        let mut inner = self.lock();
        inner.latest = sequence;
        for sink in to {
            inner.sinks[sink].sent = sequence;
        }
        if end != Lsn(0) || !marks.is_empty() {
            inner.marked += usize::from(!marks.is_empty());
            inner.waiting.push_back(Sent { sequence, end, marks });
            self.moved.notify_one();
        }
    }

    /// Everything up to `sequence` is durable at `sink`.
    pub fn durable(&self, sink: usize, sequence: u64) {
        let mut inner = self.lock();
        let state = &mut inner.sinks[sink];
        state.durable = state.durable.max(sequence);
        self.moved.notify_one();
    }

    /// What has been passed since the last call, if anything.
    pub fn take(&self) -> Option<Advance<M>> {
        let mut inner = self.lock();
        let passed = inner.passed();
        let mut advance = Advance {
            lsn: None,
            marks: Vec::new(),
        };
        let mut any = false;
        while inner.waiting.front().is_some_and(|sent| sent.sequence <= passed) {
            let Some(sent) = inner.waiting.pop_front() else { break };
            any = true;
            if sent.end != Lsn(0) {
                advance.lsn = advance.lsn.max(Some(sent.end));
            }
            inner.marked -= usize::from(!sent.marks.is_empty());
            advance.marks.extend(sent.marks);
        }
        any.then_some(advance)
    }

    /// How many batches with marks wait to be passed.
    pub fn marked(&self) -> usize {
        self.lock().marked
    }

    /// Waits until something may have moved. Spurious returns are possible.
    pub async fn moved(&self) {
        self.moved.notified().await;
    }

    /// Whether everything sent is durable everywhere.
    pub fn is_settled(&self) -> bool {
        let inner = self.lock();
        inner.sinks.iter().all(|sink| sink.durable >= sink.sent)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner<M>> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl<M> Inner<M> {
    fn passed(&self) -> u64 {
        let of = |sink: &SinkState| {
            if sink.durable >= sink.sent {
                self.latest
            } else {
                sink.durable
            }
        };
        self.sinks.iter().map(of).min().unwrap_or(self.latest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advance(lsn: u64, marks: &[u8]) -> Option<Advance<u8>> {
        Some(Advance {
            lsn: Some(Lsn(lsn)),
            marks: marks.to_vec(),
        })
    }

    #[test]
    fn the_slowest_sink_decides() {
        let frontier = Frontier::new(2);
        frontier.sent(1, [0, 1], Lsn(10), vec![]);
        frontier.sent(2, [0, 1], Lsn(20), vec![7]);
        frontier.durable(0, 2);
        assert_eq!(frontier.take(), None);
        assert_eq!(frontier.marked(), 1);
        frontier.durable(1, 1);
        assert_eq!(frontier.take(), advance(10, &[]));
        frontier.durable(1, 2);
        assert_eq!(frontier.take(), advance(20, &[7]));
        assert_eq!(frontier.marked(), 0);
    }

    #[test]
    fn a_sink_that_got_nothing_holds_nothing_back() {
        let frontier = Frontier::new(2);
        frontier.sent(1, [0], Lsn(10), vec![]);
        frontier.sent(2, [], Lsn(20), vec![1]);
        assert_eq!(frontier.take(), None);
        frontier.durable(0, 1);
        assert_eq!(frontier.take(), advance(20, &[1]));
    }

    #[test]
    fn a_batch_without_a_commit_moves_nothing() {
        let frontier: Frontier<u8> = Frontier::new(1);
        frontier.sent(1, [0], Lsn(0), vec![]);
        frontier.durable(0, 1);
        assert_eq!(frontier.take(), None);
        assert!(frontier.is_settled());
    }
}
