//! Chaos: a schedule of faults that follows from a seed, on a pipeline of real processes, before the judge of
//! [`crate::oracle`]. Rounds of faults under load, then healing: everything must have arrived, and fresh rows pass.

mod act;
mod live;
mod plugin_file;
mod receiving;
mod run;
mod schedule;
mod shelves;
mod stage;

pub use receiving::Receiving;
pub use run::{Report, run};
pub use schedule::{Act, Altered, Lasting, Round, Step};
