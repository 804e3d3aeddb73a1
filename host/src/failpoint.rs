//! Points, in the order of the flow, at which a test has the process end as if it were killed there.
//!
//! `ROWMILL_FAILPOINT=after_decode:7` aborts when that point is reached for the seventh time. Only builds with debug
//! assertions have them: a release knows nothing of the variable.

/// All points, from the server to the report back to it.
pub const ALL: [&str; 15] = [
    AFTER_PUBLICATION_ALTERED,
    AFTER_SLOT_MADE,
    AFTER_RECEIVE,
    AFTER_DECODE,
    AFTER_STAGE,
    BEFORE_SINK_WRITE,
    AFTER_SINK_WRITE,
    AFTER_SINK_FLUSH,
    BEFORE_CHECKPOINT,
    IN_CHECKPOINT,
    AFTER_CHECKPOINT,
    BEFORE_FEEDBACK,
    AFTER_FEEDBACK,
    AFTER_COPY_PLANNED,
    AFTER_COPY_JOINED,
];

/// The publication was made, or got the tables that it lacked, and none of their copies is planned.
pub(crate) const AFTER_PUBLICATION_ALTERED: &str = "after_publication_altered";
/// The slot was made, and no position in it is stored.
pub(crate) const AFTER_SLOT_MADE: &str = "after_slot_made";
/// Bytes were received.
pub(crate) const AFTER_RECEIVE: &str = "after_receive";
/// They are a batch.
pub(crate) const AFTER_DECODE: &str = "after_decode";
/// It went through the plugins.
pub(crate) const AFTER_STAGE: &str = "after_stage";
/// A sink is about to get it.
pub(crate) const BEFORE_SINK_WRITE: &str = "before_sink_write";
/// A sink has it.
pub(crate) const AFTER_SINK_WRITE: &str = "after_sink_write";
/// A sink has made it durable.
pub(crate) const AFTER_SINK_FLUSH: &str = "after_sink_flush";
/// The position is about to be stored.
pub(crate) const BEFORE_CHECKPOINT: &str = "before_checkpoint";
/// It is written and not committed.
pub(crate) const IN_CHECKPOINT: &str = "in_checkpoint";
/// It is stored, and the server doesn't know.
pub(crate) const AFTER_CHECKPOINT: &str = "after_checkpoint";
/// The server is about to be told.
pub(crate) const BEFORE_FEEDBACK: &str = "before_feedback";
/// It was told.
pub(crate) const AFTER_FEEDBACK: &str = "after_feedback";
/// A copy that begins beside the stream is in the ledger, and has yet to join it.
pub(crate) const AFTER_COPY_PLANNED: &str = "after_copy_planned";
/// It has joined, and what empties the targets is on its way.
pub(crate) const AFTER_COPY_JOINED: &str = "after_copy_joined";

/// Passes a point.
#[inline]
pub(crate) fn pass(point: &'static str) {
    #[cfg(debug_assertions)]
    armed::pass(point);
    #[cfg(not(debug_assertions))]
    let _ = point;
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Armed {
        point: String,
        /// How often it is passed before the process ends.
        left: AtomicU64,
    }

    fn armed() -> Option<&'static Armed> {
        static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
        let read = || {
            let text = std::env::var("ROWMILL_FAILPOINT").ok()?;
            let (point, hit) = text.split_once(':')?;
            let left = AtomicU64::new(hit.parse().ok()?);
            let point = point.to_owned();
            Some(Armed { point, left })
        };
        ARMED.get_or_init(read).as_ref()
    }

    pub(super) fn pass(point: &str) {
        let Some(armed) = armed().filter(|armed| armed.point == point) else {
            return;
        };
        if armed.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            // Neither destructors nor buffers: as with kill -9.
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ALL;

    /// What tests end a process at is a point, and they are in the same order.
    #[test]
    fn the_points_of_the_tests_are_points() {
        let mut all = ALL.iter();
        for point in rowmill_tests::POINTS {
            assert!(all.any(|one| *one == point), "{point}");
        }
    }
}
