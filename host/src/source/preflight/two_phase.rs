//! Whether prepared transactions can be received when they are prepared.

use super::{Findings, Request, Server, codes};
use crate::problem::{Exit, Problem};
use crate::source::failure::{headline, shown};
use crate::source::slot::SlotState;

/// The first whose pgoutput has protocol 3.
const VERSION_FIRST: i32 = 150_000;

/// A slot remembers whether it sends a transaction at its PREPARE. One that was asked now so and now otherwise would
/// leave out what was prepared in between, so a slot stays what it was made as.
pub(super) fn check(server: &Server, slot: Option<&SlotState>, request: &Request<'_>, findings: &mut Findings) {
    if server.version < VERSION_FIRST {
        if request.two_phase {
            findings.problem(too_old(server.version));
        }
        return;
    }
    let Some(slot) = slot.filter(|slot| slot.two_phase != request.two_phase) else {
        return;
    };
    let name = shown(&slot.name);
    findings.problem(if slot.two_phase {
        Problem::new(
            codes::SLOT_TWO_PHASE,
            Exit::Preflight,
            headline(format!("replication slot {name} was made with two_phase")),
            "set `two_phase: true` under source.postgres",
        )
        .with_cause("what is prepared while it isn't asked for would be left out once it is asked for again")
    } else {
        Problem::new(
            codes::SLOT_ONE_PHASE,
            Exit::Preflight,
            headline(format!("replication slot {name} was made without two_phase")),
            "take `two_phase: true` out of source.postgres",
        )
        .with_cause("with `two_phase: true` a pipeline needs a slot that was made so")
    });
}

fn too_old(version: i32) -> Problem {
    Problem::new(
        codes::TWO_PHASE_VERSION,
        Exit::Preflight,
        headline(format!(
            "`two_phase` needs PostgreSQL 15, the server's version is {}",
            version / 10_000
        )),
        "take `two_phase: true` out of source.postgres",
    )
    .with_cause("prepared transactions are sent when they commit")
}
