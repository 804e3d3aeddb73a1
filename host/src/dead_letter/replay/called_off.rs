//! A request that is called off: its letters stay, and are sent again only where somebody asks for it.
//!
//! Some of them may have arrived by then: at another sink of their route, or at the one that stopped, which commits what comes before the
//! letter that it refuses. What no sink lacks is gone. The others keep the request's number, so that whoever has one of
//! them knows it by its id when it is sent again.

use super::{DeadLetters, Ticket, done};
use crate::dead_letter::line::{Gone, Record, Why};
use crate::dead_letter::store::{RouteId, State, now_us};
use crate::problem::Problem;
use std::collections::BTreeSet;

impl DeadLetters {
    /// A round that the plugins can't take at all, for the table's or their own sake: the request that it is of is called off,
    /// durably, or each start would end where this one does. Its letters stay.
    pub fn call_off(&self, ticket: Ticket) -> Result<(), Box<Problem>> {
        self.with(|state| state.call_off(ticket, &[]))
    }

    /// A sink stops at `letter`, which is under way: the request is called off as where plugins can't take it. What came
    /// before the letter is at the sink; it is gone where its route is one of `alone`, which lead to no other sink.
    #[must_use]
    pub fn met(&self, letter: u64, alone: &[RouteId], problem: Box<Problem>) -> Box<Problem> {
        let called_off = self.with(|state| {
            let (ticket, arrived) = state.arrived_before(letter, alone)?;
            Some(state.call_off(ticket, &arrived))
        });
        match called_off {
            None | Some(Ok(())) => called_off_for(problem),
            Some(Err(worse)) => worse,
        }
    }
}

impl State {
    /// The letters of the round under way that a sink has committed before it stopped at `letter`, and that nobody lacks.
    fn arrived_before(&self, letter: u64, alone: &[RouteId]) -> Option<(Ticket, Vec<u64>)> {
        let flight = self.flight.as_ref()?;
        let is_alone = |number: &u64| {
            let entry = self.index.entries.get(number);
            entry.is_some_and(|entry| alone.contains(&RouteId(entry.route)))
        };
        let before = flight.letters.iter().take_while(|number| **number != letter);
        let arrived: Vec<u64> = match flight.has(letter) && !flight.counted {
            true => before.copied().filter(is_alone).collect(),
            false => Vec::new(),
        };
        Some((flight.ticket, arrived))
    }

    /// `arrived` of the round's letters are gone, all others of the request stay.
    fn call_off(&mut self, ticket: Ticket, arrived: &[u64]) -> Result<(), Box<Problem>> {
        let Some(flight) = self.flight.take_if(|flight| flight.ticket == ticket) else {
            return Ok(());
        };
        let mut left: BTreeSet<u64> = flight.letters.iter().copied().collect();
        let mut records = Vec::new();
        let mut superseded = Vec::new();
        let of_flight = self
            .requests
            .iter()
            .position(|request| request.number == flight.request);
        if let Some(request) = of_flight.and_then(|at| self.requests.remove(at)) {
            left.extend(request.letters.iter().chain(&request.failed));
            if request.force {
                superseded = self.overtaken(&flight, arrived);
            }
        }
        if !arrived.is_empty() {
            records.push(Record::Gone(Gone {
                letters: arrived.to_vec(),
                why: Why::Replayed,
                at_us: now_us(),
            }));
        }
        arrived.iter().for_each(|number| {
            left.remove(number);
        });
        let kept = self.index.keep_number(flight.request, left);
        records.push(done(flight.request, kept));
        if !superseded.is_empty() {
            let letters = superseded.clone();
            records.push(Record::Superseded { letters });
        }
        self.append(records)?;
        self.take_out(arrived, superseded);
        if !arrived.is_empty() {
            let (request, letters) = (flight.request, arrived.len());
            tracing::info!(request, letters, "dead letters were delivered before one that wasn't");
        }
        Ok(())
    }
}

/// What letters that are sent again have met is told once, and not at each start.
pub fn called_off_for(mut problem: Box<Problem>) -> Box<Problem> {
    let cause = problem.cause.map_or_else(String::new, |cause| format!("{cause}; "));
    problem.cause = Some(format!(
        "{cause}dead letters that were sent again have met this: they stay, and the next start doesn't send them"
    ));
    problem
}
