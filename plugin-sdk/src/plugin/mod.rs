//! The two kinds of plugin.

mod filter;
mod transform;

pub use filter::Filter;
pub use transform::Transform;
