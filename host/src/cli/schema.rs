//! `rowmill schema`: for editors, which complete and check pipeline.yaml with it.

use super::{DONE, Outcome, Output};
use crate::config;

pub(super) fn run(mut output: Output) -> Outcome {
    // JSON in either format; `{:#}` is for people and parses the same.
    output.line(&format!("{:#}", config::schema()))?;
    Ok(DONE)
}
