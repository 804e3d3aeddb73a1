//! Parts of the way of a row by themselves, for benchmarks and for counting instructions. No interface: it changes with
//! what it measures.

pub use crate::plugin::measuring::{GuestRows, Reply};
pub use crate::sink::measuring::copy_lines;
pub use crate::source::replication::measuring::frame_bytes;
