//! Where rows come from: what the database holds, what it allows, the objects that the stream needs there, and the
//! stream itself.
//!
//! [`catalog`] reads the selected tables, [`preflight`] says all that stands in the way and changes nothing,
//! [`publication`] makes what is missing, [`slot`] and [`monitor`] tell how the slot fares, [`replication`] receives
//! the stream, [`history`] what the slot would send before a position, [`remove`] takes it all down again.

pub mod catalog;
pub mod ddl_trigger;
pub mod history;
pub mod preflight;
pub mod publication;
pub mod slot;
pub mod replication;
pub mod monitor;
pub mod remove;
mod failure;

pub(crate) use failure::{server_text, server_text_of_rows};

#[cfg(test)]
mod testing;
