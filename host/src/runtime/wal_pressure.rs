//! The slot's WAL while the pipeline runs: what the server says of it is told once where it changes.
//!
//! A slot beyond `max_slot_wal_keep_size` is lost at one of the next checkpoints, whether or not somebody streams from
//! it, and nothing of it is said on the stream before.

use super::detach::{self, Looks};
use super::process::Process;
use crate::config::OnWalPressure;
use crate::source::monitor::SlotHealth;
use crate::source::preflight::codes;
use crate::source::slot;

/// How the slot's WAL is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum SlotRisk {
    #[default]
    None,
    /// One of the next checkpoints may take it.
    AtRisk,
    Lost,
}

impl SlotRisk {
    /// `None` where the server hasn't said anything.
    fn of(health: &SlotHealth) -> Option<Self> {
        let status = health.wal_status.as_deref();
        Some(match status {
            _ if !health.present => return None,
            Some("lost") => Self::Lost,
            _ if slot::is_at_risk(status, health.safe_wal_size) => Self::AtRisk,
            _ => Self::None,
        })
    }
}

/// Tells each change, and leaves out sinks that are stuck where the file says so, for as long as it is polled.
pub(super) async fn watch(process: &Process) {
    let mut reports = process.status.health_reports().subscribe();
    let mut looks = Looks::default();
    loop {
        let health = reports.borrow_and_update().clone();
        if let Some(risk) = SlotRisk::of(&health)
            && process.status.slot_is(risk)
        {
            tell(process, risk, &health);
        }
        if SlotRisk::of(&health) == Some(SlotRisk::AtRisk)
            && process.config().source.on_wal_pressure == OnWalPressure::DetachSink
        {
            let stuck = looks.stuck(&process.status.sinks());
            if !stuck.is_empty()
                && let Err(problem) = detach::detach(process, &stuck)
            {
                tracing::warn!(
                    code = problem.code,
                    help = problem.help,
                    "no sink is detached: {}",
                    problem.headline
                );
            }
        }
        if reports.changed().await.is_err() {
            return;
        }
    }
}

fn tell(process: &Process, risk: SlotRisk, health: &SlotHealth) {
    let (slot, code) = (process.slot(), codes::SLOT_AT_RISK);
    let (wal_status, bytes_left, retained_bytes) = (&health.wal_status, health.safe_wal_size, health.retained);
    match risk {
        SlotRisk::None => tracing::info!(slot, wal_status, bytes_left, "the slot's WAL is safe again"),
        SlotRisk::AtRisk => {
            let help = slot::KEEP_MORE;
            tracing::warn!(
                code,
                slot,
                wal_status,
                bytes_left,
                retained_bytes,
                help,
                "the slot will soon be lost"
            );
        }
        SlotRisk::Lost => {
            let help = "stop the pipeline: the next start says what can be done";
            tracing::error!(
                code = codes::SLOT_LOST,
                slot,
                help,
                "the slot is lost: the server has given its WAL away"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_at_risk_before_it_is_lost() {
        let of = |wal_status: &str, safe_wal_size| {
            SlotRisk::of(&SlotHealth {
                present: true,
                wal_status: Some(wal_status.to_owned()),
                safe_wal_size,
                ..SlotHealth::default()
            })
        };
        assert_eq!(of("reserved", None), Some(SlotRisk::None));
        assert_eq!(of("extended", Some(1 << 30)), Some(SlotRisk::None));
        assert_eq!(of("extended", Some(1 << 20)), Some(SlotRisk::AtRisk));
        assert_eq!(of("unreserved", Some(-5)), Some(SlotRisk::AtRisk));
        assert_eq!(of("lost", None), Some(SlotRisk::Lost));
        assert_eq!(SlotRisk::of(&SlotHealth::default()), None);
    }
}
