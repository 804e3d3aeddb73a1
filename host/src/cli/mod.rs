//! (stage under construction)
pub const CODES: &[crate::problem::Code] = &[];
