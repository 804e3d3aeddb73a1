//! The slot, where it is there already.

use super::{Findings, Level, Server, codes};
use crate::batch::Lsn;
use crate::problem::{COPY_ANEW, Exit, Problem};
use crate::source::failure::{headline, shown};
use crate::source::slot::{self, SlotState};

/// What makes a slot unusable comes first; somebody else's slot is not looked at any further.
pub(super) fn check(slot: &SlotState, server: &Server, findings: &mut Findings) {
    if let Some(problem) = foreign(slot) {
        findings.problem(problem);
        return;
    }
    if slot.lost() {
        findings.problem(lost(slot, server));
        return;
    }
    if let Some(consumer) = &slot.active {
        findings.problem(slot::active(&slot.name, Some(consumer)));
    }
    note(slot, server, findings);
}

fn foreign(slot: &SlotState) -> Option<Problem> {
    let name = shown(&slot.name);
    let refuse = |code, text: String, cause: String| {
        let help = "give the pipeline a slot of its own in pipeline.yaml: `slot: NAME_THAT_IS_FREE`";
        Some(Problem::new(code, Exit::Preflight, headline(text), help).with_cause(cause))
    };
    if slot.slot_type != "logical" {
        let cause = format!(
            "cannot use physical replication slot \"{}\" for logical decoding",
            slot.name
        );
        return refuse(
            codes::SLOT_PHYSICAL,
            format!("replication slot {name} is physical"),
            cause,
        );
    }
    let plugin = slot.plugin.as_deref().unwrap_or_default();
    if plugin != "pgoutput" {
        let cause = format!("the plugin of slot \"{}\" is {plugin}, pgoutput is needed", slot.name);
        return refuse(
            codes::SLOT_PLUGIN,
            format!("replication slot {name} has another plugin"),
            cause,
        );
    }
    let database = slot.database.as_deref().unwrap_or_default();
    if database != slot.current_database {
        let cause = format!(
            "replication slot \"{}\" was created in database \"{database}\", not in \"{}\"",
            slot.name, slot.current_database
        );
        let text = format!("replication slot {name} is of another database");
        return refuse(codes::SLOT_DATABASE, text, cause);
    }
    None
}

fn lost(slot: &SlotState, server: &Server) -> Problem {
    let mut cause = format!("cannot read from logical replication slot \"{}\" (55000): ", slot.name);
    match &slot.invalidation_reason {
        Some(reason) => cause.push_str(&format!("invalidated, {reason}")),
        None => cause.push_str("wal_status is lost"),
    }
    if let Some(lsn) = slot.confirmed_flush_lsn {
        cause.push_str(&format!("; changes after {} are gone", Lsn(lsn)));
    }
    cause.push_str(&format!(
        "; max_slot_wal_keep_size is {}",
        server.max_slot_wal_keep_size
    ));
    Problem::new(
        codes::SLOT_LOST,
        Exit::Gap,
        headline(format!("replication slot {} is lost", shown(&slot.name))),
        COPY_ANEW,
    )
    .with_cause(cause)
}

fn note(slot: &SlotState, server: &Server, findings: &mut Findings) {
    let name = shown(&slot.name);
    if slot::is_at_risk(slot.wal_status.as_deref(), slot.safe_wal_size) {
        let left = slot.safe_wal_size.unwrap_or_default().max(0);
        findings.note(
            Level::Warning,
            codes::SLOT_AT_RISK,
            format!("replication slot {name} will soon be lost"),
            Some(format!(
                "wal_status is {}, {left} bytes left, max_slot_wal_keep_size is {}",
                slot.wal_status.as_deref().unwrap_or("unknown"),
                server.max_slot_wal_keep_size
            )),
            Some(slot::KEEP_MORE.into()),
        );
    }
}
