//! Where rows come from: what the database holds, what it allows, and the objects that the stream needs there.
//!
//! [`catalog`] reads the selected tables, [`preflight`] says all that stands in the way and changes nothing,
//! [`publication`] makes what is missing, [`slot`] and [`monitor`] tell how the slot fares, [`remove`] takes it all
//! down again.

pub mod catalog;
pub mod preflight;
pub mod publication;
pub mod slot;
pub mod monitor;
pub mod remove;
mod failure;
#[cfg(test)]
mod testing;
