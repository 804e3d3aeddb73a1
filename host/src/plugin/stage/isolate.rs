//! A call broke: which rows are to blame? The others go on.
//!
//! The row that the guest named is tried alone; where that doesn't settle it, the call's rows are cut in halves. Parts
//! are worked off in the order of their rows, so that what goes on stays in order. Nothing of a broken call is kept, so
//! trying again is exact.

use super::{Broken, Stage, Why, place};
use crate::batch::{Batch, Row};
use crate::config::OnFault;
use crate::plugin::deadline::{Spent, thread_cpu_time};
use crate::plugin::error::{Fault, FaultKind, GaveUp, GaveUpReason, PluginError, RowErrorKind};
use std::ops::Range;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// Waits before a call is made again whose guest says that it may be. Together a fraction of a second: the lane stands
/// still for that long.
const RETRY_AFTER: [Duration; 3] = [
    Duration::from_millis(10),
    Duration::from_millis(40),
    Duration::from_millis(160),
];

/// Rows that are still in doubt.
enum Part {
    Untried(Range<usize>),
    /// Tried alone: it broke.
    Broken(Box<Broken>),
}

impl Why {
    /// Whether an instance with nothing else in its memory may be able to.
    fn is_want_of_memory(&self, memory: u64) -> bool {
        match self {
            Self::Fault(fault) => fault.kind == FaultKind::Memory,
            Self::TooLarge { bytes } => *bytes as u64 <= memory,
            Self::Stop(_) => false,
        }
    }
}

impl Part {
    fn rows(&self) -> usize {
        match self {
            Self::Untried(rows) => rows.len(),
            Self::Broken(broken) => broken.rows.len(),
        }
    }
}

/// The parts of a broken call.
struct Search {
    /// The one that is first in order comes last.
    parts: Vec<Part>,
    /// Whether the guest has named a row that wasn't to blame.
    misled: bool,
    /// Whether the fault that began the search has been put down to a row.
    settled: bool,
    /// Whether it has been counted.
    counted: bool,
    /// Whether rows didn't fit into the guest.
    unfit: bool,
    /// What such rows have cost before, the call that began the search included.
    before: Spent,
    cpu: Duration,
    wall: Instant,
}

impl Stage {
    /// Settles the rows of a broken call. Returns where it ended.
    #[cold]
    pub(super) fn isolate(
        &mut self,
        batch: &mut Batch,
        rows: &[Row],
        broken: Box<Broken>,
        fanned_out: &mut bool,
    ) -> Result<usize, PluginError> {
        let whole = broken.rows.clone();
        let mut before = self.unfit;
        if matches!(broken.why, Why::TooLarge { .. }) {
            before = before + self.instance.spent();
        }
        let Some(broken) = self.try_again(batch, rows, broken, fanned_out) else {
            return Ok(whole.end);
        };
        let mut search = Search {
            parts: vec![Part::Broken(broken)],
            misled: false,
            settled: false,
            counted: false,
            unfit: false,
            before,
            cpu: thread_cpu_time(),
            wall: Instant::now(),
        };
        while let Some(part) = search.parts.pop() {
            let broken = match part {
                Part::Broken(broken) => broken,
                Part::Untried(of) => {
                    self.revive()?;
                    match self.attempt(batch, rows, of.clone(), fanned_out) {
                        Ok(to) => {
                            search.push(to..of.end);
                            continue;
                        }
                        Err(broken) => {
                            search.push(broken.rows.end..of.end);
                            broken
                        }
                    }
                }
            };
            self.divide(batch, rows, *broken, &mut search)?;
        }
        self.revive()?;
        if search.unfit {
            self.unfit = search.before + search.spent();
        }
        Ok(whole.end)
    }

    /// Where the guest says that its failure will pass, it gets some time for that. `None` where it did.
    fn try_again(
        &mut self,
        batch: &mut Batch,
        rows: &[Row],
        mut broken: Box<Broken>,
        fanned_out: &mut bool,
    ) -> Option<Box<Broken>> {
        for pause in RETRY_AFTER {
            let passes = matches!(&broken.why, Why::Fault(fault) if fault.kind == FaultKind::Retryable);
            if !passes {
                break;
            }
            std::thread::sleep(pause);
            self.counts.retries += 1;
            if self.revive().is_err() {
                break;
            }
            // The same rows fill the same call.
            broken = match self.attempt(batch, rows, broken.rows, fanned_out) {
                Ok(_) => return None,
                Err(broken) => broken,
            };
        }
        Some(broken)
    }

    /// Settles a broken part, or makes smaller ones of it.
    fn divide(
        &mut self,
        batch: &mut Batch,
        rows: &[Row],
        broken: Broken,
        search: &mut Search,
    ) -> Result<(), PluginError> {
        let Broken {
            rows: of,
            hint,
            only,
            worked,
            why,
        } = broken;
        // Rows that the guest never got are not in doubt.
        if let Some(only) = only.filter(|_| of.len() > 1) {
            let rows = only..only + 1;
            search.push(rows.end..of.end);
            search.parts.push(Part::Broken(Box::new(Broken {
                rows,
                hint,
                only: Some(only),
                worked,
                why,
            })));
            search.push(of.start..only);
            return Ok(());
        }
        // What an instance has taken in calls before and never given back is no fault of the row at hand.
        if worked && of.len() == 1 && why.is_want_of_memory(self.plugin.limits.memory.0) {
            self.instance.kill();
            search.push(of);
            return Ok(());
        }
        let mut fault = match why {
            Why::Stop(stop) => return Err(stop),
            Why::TooLarge { bytes } => {
                // They are no faults, which are counted: the time alone is a bound, that of all such rows of the batch.
                search.unfit = true;
                let budget = self.plugin.limits.isolation.0;
                if (search.before + search.spent()).reaches(budget) {
                    let message = format!("{bytes} bytes of rows don't fit into its memory");
                    let mut fault = self.instance.failure(FaultKind::Memory, message);
                    fault.row = Some(place(batch, &rows[of.start]));
                    return Err(search.too_long(fault, budget, of.len()));
                }
                if of.len() > 1 {
                    search.halve(of);
                } else {
                    self.refused.base = of.start;
                    let kind = RowErrorKind::TooLarge { bytes };
                    self.refused.add(0, kind, &rows[of.start], &mut self.out);
                }
                return Ok(());
            }
            Why::Fault(fault) => fault,
        };
        // Fewer rows may keep within the bound.
        let is_bound = matches!(fault.kind, FaultKind::Memory | FaultKind::Output);
        let splits = of.len() > 1 && is_bound;
        let blamed = if of.len() == 1 { Some(of.start) } else { hint };
        fault.row = blamed.map(|at| place(batch, &rows[at]));
        if !splits {
            if self.plugin.policies.on_fault == OnFault::Stop {
                return Err(PluginError::Fault(fault));
            }
            if fault.kind == FaultKind::Retryable {
                // It said that it was well, and wasn't.
                self.instance.kill();
            }
            let is_another = of.len() == 1 && search.settled;
            if !search.counted || is_another {
                search.counted = true;
                self.count(&fault)?;
            }
        }
        if of.len() == 1 {
            search.settled = true;
            self.blame(rows, of.start, fault);
            return Ok(());
        }
        let budget = self.plugin.limits.isolation.0;
        if search.spent().reaches(budget) {
            return Err(search.too_long(fault, budget, of.len()));
        }
        let hint = hint.filter(|hint| !splits && !search.misled && of.contains(hint));
        match hint {
            Some(hint) => self.try_alone(batch, rows, of, hint, search)?,
            None => search.halve(of),
        }
        Ok(())
    }

    /// Is it the row that the guest named?
    fn try_alone(
        &mut self,
        batch: &mut Batch,
        rows: &[Row],
        of: Range<usize>,
        hint: usize,
        search: &mut Search,
    ) -> Result<(), PluginError> {
        if self.keeper.keeps() {
            // What keeps something must meet its rows in order, and each once.
            search.misled = true;
            search.push(hint + 1..of.end);
            search.push(hint..hint + 1);
            search.push(of.start..hint);
            return Ok(());
        }
        self.revive()?;
        let before = self.before(batch);
        match self.attempt(batch, rows, hint..hint + 1, &mut false) {
            Ok(_) => {
                // What came of it goes on in its turn.
                self.undo(batch, before);
                search.misled = true;
                search.halve(of);
            }
            Err(broken) => {
                search.push(hint + 1..of.end);
                search.parts.push(Part::Broken(broken));
                search.push(of.start..hint);
            }
        }
        Ok(())
    }

    fn revive(&mut self) -> Result<(), PluginError> {
        match self.instance.is_dead() {
            true => self.renew(),
            false => Ok(()),
        }
    }

    fn count(&mut self, fault: &Fault) -> Result<(), PluginError> {
        self.counts.faults += 1;
        let counted = {
            let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
            breaker.count(Instant::now())
        };
        counted.map_err(|reason| {
            let fault = Box::new(fault.clone());
            PluginError::GaveUp(Box::new(GaveUp { fault, reason }))
        })
    }

    /// The row leaves, or goes by. The plugin's author needs the text of its panic, so the log has it; the plugin alone
    /// decides what is in there.
    fn blame(&mut self, rows: &[Row], at: usize, fault: Box<Fault>) {
        tracing::warn!(
            plugin = fault.plugin,
            hash = fault.hash,
            "the plugin {} on a change: {}",
            fault.kind,
            fault.summary()
        );
        if self.plugin.policies.on_fault == OnFault::Bypass {
            self.out.push(rows[at]);
        }
        self.faulted.push((at, fault));
    }
}

impl Search {
    fn push(&mut self, rows: Range<usize>) {
        if !rows.is_empty() {
            self.parts.push(Part::Untried(rows));
        }
    }

    fn halve(&mut self, rows: Range<usize>) {
        let middle = rows.start + rows.len() / 2;
        self.push(middle..rows.end);
        self.push(rows.start..middle);
    }

    fn spent(&self) -> Spent {
        Spent {
            cpu: thread_cpu_time().saturating_sub(self.cpu),
            wall: self.wall.elapsed(),
        }
    }

    /// The budget is used up, with the part at hand of so many rows still in doubt.
    fn too_long(&self, fault: Box<Fault>, budget: Duration, at_hand: usize) -> PluginError {
        let rows = self.parts.iter().map(Part::rows).sum::<usize>() + at_hand;
        let reason = GaveUpReason::TooLong { budget, rows };
        PluginError::GaveUp(Box::new(GaveUp { fault, reason }))
    }
}
