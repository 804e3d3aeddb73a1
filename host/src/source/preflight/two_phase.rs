//! Whether prepared transactions can be received when they are prepared.

use super::{Findings, Request, Server, codes};
use crate::problem::{Exit, Problem};
use crate::source::failure::{headline, shown};
use crate::source::slot::SlotState;

/// The first whose pgoutput has protocol 3.
const VERSION_FIRST: i32 = 150_000;

/// A slot remembers whether it sends a transaction at its PREPARE. One that doesn't begins to with the first stream that
/// asks for it, and sends what was prepared before at its commit. One that does would leave out what was prepared in
/// between if it were asked now so and now otherwise, so it is never asked otherwise.
pub(super) fn check(server: &Server, slot: Option<&SlotState>, request: &Request<'_>, findings: &mut Findings) {
    if server.version < VERSION_FIRST {
        if request.two_phase {
            findings.problem(too_old(server.version));
        }
        return;
    }
    let Some(slot) = slot.filter(|slot| slot.two_phase && !request.two_phase) else {
        return;
    };
    findings.problem(
        Problem::new(
            codes::SLOT_TWO_PHASE,
            Exit::Preflight,
            headline(format!(
                "replication slot {} was made with two_phase",
                shown(&slot.name)
            )),
            "set `two_phase: true` under source.postgres",
        )
        .with_cause("what is prepared while it isn't asked for would be left out once it is asked for again"),
    );
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
