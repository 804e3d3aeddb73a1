//! Where a process of a build with debug assertions can be told to end by itself.

/// Those of `host/src/failpoint.rs` that every run passes, in the order of the flow; the four of slots, publications and
/// live copies have tests of their own.
pub const POINTS: [&str; 11] = [
    "after_receive",
    "after_decode",
    "after_stage",
    "before_sink_write",
    "after_sink_write",
    "after_sink_flush",
    "before_checkpoint",
    "in_checkpoint",
    "after_checkpoint",
    "before_feedback",
    "after_feedback",
];
