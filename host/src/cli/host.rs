//! The running host of a pipeline: where its console listens, and what it says where it refuses.

use super::codes;
use super::output::Failure;
use crate::config::Pipeline;
use crate::problem::{Exit, Problem, escape};
use serde_json::Value;
use std::net::SocketAddr;

/// Where to ask: the address that was given, else the one in the file. `help` is for a pipeline that has none.
pub(super) fn console(pipeline: &Pipeline, given: Option<SocketAddr>, help: &str) -> Result<SocketAddr, Failure> {
    given.or(pipeline.console.listen).ok_or_else(|| {
        let headline = "this pipeline has no console to ask";
        Problem::new(codes::NO_HOST.code, Exit::Usage, headline, help).into()
    })
}

/// What the host says of it.
pub(super) fn refused(answer: &Value) -> Problem {
    let text = |key: &str| answer[key].as_str().map(escape);
    let headline = text("headline").unwrap_or_else(|| "the host refuses".to_owned());
    let help = text("help").unwrap_or_else(|| "look into the host's log".to_owned());
    let problem = Problem::new(codes::REFUSED.code, Exit::Usage, headline, help);
    match text("cause") {
        Some(cause) => problem.with_cause(cause),
        None => problem,
    }
}
