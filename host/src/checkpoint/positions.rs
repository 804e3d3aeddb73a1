//! The three positions that are compared before anything streams: ours, the slot's and the server's.
//!
//! ```text
//!              A           B              C
//!   -----------|-----------|--------------|-----> WAL
//!   slot       confirmed_flush_lsn                what the server would send next
//!   ours                   stored                 everything before is durable everywhere
//!   server                                flushed
//! ```
//!
//! A <= B <= C is the normal case: the position is stored before it is acknowledged, so the slot may be behind, and
//! starting at B sends nothing twice. A > B means that the server has let go of changes that nobody has: a gap.
//! B > C means that the server has lost what we have. Anything that can't be this slot of this cluster is refused.
//! A lost or missing slot is never made again on the quiet.

use super::Identity;
use crate::batch::Lsn;
use crate::problem::{COPY_ANEW, Exit, Problem};

/// The logical decoding plugin whose output is understood.
const OUTPUT_PLUGIN: &str = "pgoutput";

/// What the state store says.
#[derive(Clone, Debug)]
pub struct Stored {
    pub identity: Identity,
    pub lsn: Lsn,
}

/// `wal_status` of `pg_replication_slots`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalStatus {
    Reserved,
    Extended,
    /// Beyond `max_slot_wal_keep_size`: the next checkpoint may take it.
    Unreserved,
    Lost,
}

impl WalStatus {
    /// As the server writes it; NULL and texts of later versions are `None`.
    pub fn from_text(text: &str) -> Option<Self> {
        match text {
            "reserved" => Some(Self::Reserved),
            "extended" => Some(Self::Extended),
            "unreserved" => Some(Self::Unreserved),
            "lost" => Some(Self::Lost),
            _ => None,
        }
    }
}

/// The slot as the server has it.
#[derive(Clone, Debug)]
pub struct SlotState {
    pub confirmed_flush: Lsn,
    /// NULL where the server has given the slot's WAL away.
    pub restart_lsn: Option<Lsn>,
    pub wal_status: Option<WalStatus>,
    pub plugin: String,
    pub database: String,
}

/// The server as IDENTIFY_SYSTEM has it.
#[derive(Clone, Debug)]
pub struct ServerState {
    pub system_identifier: u64,
    pub timeline: u32,
    /// How far its WAL is flushed.
    pub lsn: Lsn,
    pub database: String,
    /// Where the present timeline parts from the stored one (TIMELINE_HISTORY). `None` where both are the same, or the present one
    /// doesn't come from it.
    pub parts_at: Option<Lsn>,
}

/// Worth a WARN, and no reason to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warning {
    /// The server was promoted; our position is on the common part of its history.
    NewTimeline { stored: u32, server: u32 },
    /// There is a slot of our name and no state of ours: its position is where the stream begins.
    AdoptedSlot,
    /// The server may give the slot's WAL away at its next checkpoint.
    WalAtRisk,
}

/// Where the stream begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartAt {
    /// `None`: there is no slot yet; it has to be made and the stream begins at its consistent point.
    pub lsn: Option<Lsn>,
    pub first_run: bool,
    pub warnings: Vec<Warning>,
}

/// Decides where to start, or says why not. `slot_name` is for the texts.
pub fn compare(
    slot_name: &str,
    stored: Option<&Stored>,
    slot: Option<&SlotState>,
    server: &ServerState,
) -> Result<StartAt, Problem> {
    if let Some(stored) = stored {
        same_cluster(stored, server)?;
    }
    if let Some(slot) = slot {
        same_kind(slot_name, slot, server)?;
    }
    let mut warnings = Vec::new();
    let lsn = match (stored, slot) {
        (None, None) => None,
        (None, Some(slot)) => {
            still_there(slot_name, slot, slot.confirmed_flush, server)?;
            warnings.push(Warning::AdoptedSlot);
            Some(slot.confirmed_flush)
        }
        (Some(stored), slot) => {
            // First: where the server never had what the sinks have, no slot makes up for it, and they would take what
            // commits below their positions for what is there already.
            on_this_timeline(stored, server, &mut warnings)?;
            within_the_wal(stored, server)?;
            let slot = slot.ok_or_else(|| slot_missing(slot_name, stored, server))?;
            still_there(slot_name, slot, stored.lsn, server)?;
            not_beyond(slot_name, slot, stored)?;
            Some(stored.lsn)
        }
    };
    if slot.is_some_and(|slot| slot.wal_status == Some(WalStatus::Unreserved)) {
        warnings.push(Warning::WalAtRisk);
    }
    Ok(StartAt {
        lsn,
        first_run: stored.is_none(),
        warnings,
    })
}

fn same_cluster(stored: &Stored, server: &ServerState) -> Result<(), Problem> {
    let identity = &stored.identity;
    if identity.system_identifier != server.system_identifier {
        let headline = "the server is another cluster than the one that the state belongs to";
        let help = "correct `source.postgres.url` in pipeline.yaml";
        let cause = format!(
            "system identifier expected {}, found {}",
            identity.system_identifier, server.system_identifier
        );
        return Err(Problem::new("E0511", Exit::Preflight, headline, help).with_cause(cause));
    }
    if identity.database != server.database {
        let headline = "the database is another one than the state belongs to";
        let help = format!("name database `{}` in `source.postgres.url`", identity.database);
        let cause = format!("database expected `{}`, found `{}`", identity.database, server.database);
        return Err(Problem::new("E0515", Exit::Preflight, headline, help).with_cause(cause));
    }
    Ok(())
}

fn same_kind(slot_name: &str, slot: &SlotState, server: &ServerState) -> Result<(), Problem> {
    let cause = if slot.plugin != OUTPUT_PLUGIN {
        format!("output plugin expected `{OUTPUT_PLUGIN}`, found `{}`", slot.plugin)
    } else if slot.database != server.database {
        format!("database expected `{}`, found `{}`", server.database, slot.database)
    } else {
        return Ok(());
    };
    let headline = format!("slot `{slot_name}` belongs to something else");
    let help = "give `source.postgres.slot` a name that is free";
    Err(Problem::new("E0516", Exit::Preflight, headline, help).with_cause(cause))
}

fn still_there(slot_name: &str, slot: &SlotState, from: Lsn, server: &ServerState) -> Result<(), Problem> {
    if slot.wal_status != Some(WalStatus::Lost) && slot.restart_lsn.is_some() {
        return Ok(());
    }
    let headline = format!("slot `{slot_name}` is lost: the server has removed its WAL");
    let cause = format!("changes from {from} to {} can't be streamed any more", server.lsn);
    Err(gap("E0514", headline, cause))
}

fn slot_missing(slot_name: &str, stored: &Stored, server: &ServerState) -> Problem {
    let headline = format!("slot `{slot_name}` is gone, and the state has a position in it");
    let moved = if stored.identity.timeline == server.timeline {
        ""
    } else {
        "; the server was promoted, and the slot is not on the new primary"
    };
    let cause = format!(
        "changes from {} to {} can't be streamed any more{moved}",
        stored.lsn, server.lsn
    );
    gap("E0513", headline, cause)
}

/// A timeline is left at its switch: what we have from beyond it never happened on the new one.
fn on_this_timeline(stored: &Stored, server: &ServerState, warnings: &mut Vec<Warning>) -> Result<(), Problem> {
    let (ours, theirs) = (stored.identity.timeline, server.timeline);
    if ours == theirs && server.parts_at.is_none() {
        return Ok(());
    }
    let has_it = server.parts_at.is_some_and(|switch| stored.lsn <= switch);
    if theirs < ours || !has_it {
        let headline = match ours == theirs {
            true => format!("the server's timeline {theirs} is another of that number than ours"),
            false => format!("the server's timeline {theirs} doesn't have our position on timeline {ours}"),
        };
        let part = match server.parts_at {
            Some(switch) => format!("the timelines part at {switch}"),
            None => format!("timeline {theirs} doesn't come from {ours}"),
        };
        let cause = format!("our position is {}, {part}", stored.lsn);
        return Err(gap("E0517", headline, cause));
    }
    warnings.push(Warning::NewTimeline {
        stored: ours,
        server: theirs,
    });
    Ok(())
}

fn within_the_wal(stored: &Stored, server: &ServerState) -> Result<(), Problem> {
    if stored.lsn > server.lsn {
        let headline = format!("our position {} is beyond the server's WAL", stored.lsn);
        let cause = format!(
            "the server's WAL ends at {}: it was restored or has failed over",
            server.lsn
        );
        return Err(gap("E0512", headline, cause));
    }
    Ok(())
}

fn not_beyond(slot_name: &str, slot: &SlotState, stored: &Stored) -> Result<(), Problem> {
    if slot.confirmed_flush > stored.lsn {
        let headline = format!("gap from {} to {}", stored.lsn, slot.confirmed_flush);
        let cause = format!("slot `{slot_name}` was advanced beyond our position by something else");
        return Err(gap("E0510", headline, cause));
    }
    Ok(())
}

pub(super) fn gap(code: &'static str, headline: String, cause: String) -> Problem {
    Problem::new(code, Exit::Gap, headline, COPY_ANEW).with_cause(cause)
}

#[cfg(test)]
#[path = "positions_tests.rs"]
mod tests;
