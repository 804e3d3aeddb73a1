//! Where a process of a build with debug assertions can be told to end by itself.

/// As in `host/src/failpoint.rs`, in the order of the flow.
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
