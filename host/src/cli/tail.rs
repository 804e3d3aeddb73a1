//! `rowmill tail`: rows as they leave a running host, after the plugins, until interrupted.

use super::client::{Args, get, unusable};
use super::output::{Failure, Format};
use super::{DONE, Outcome, Output, block_on};
use crate::problem::escape;
use tokio::io::AsyncBufReadExt;

pub(super) fn run(args: &Args, mut output: Output) -> Outcome {
    block_on(async {
        let mut rows = get(args.console, "/api/tail").await?;
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = rows.read_until(b'\n', &mut line).await;
            if length.map_err(|error| unusable(args.console, &error.to_string()))? == 0 {
                return Ok(DONE);
            }
            show(&mut output, &line)?;
        }
    })
}

fn show(output: &mut Output, line: &[u8]) -> Result<(), Failure> {
    let line = String::from_utf8_lossy(line);
    let line = line.trim_end();
    match output.format() {
        // Written to keep the connection alive; it also tells whether anybody still reads.
        _ if line.is_empty() => Ok(()),
        Format::Json => output.line(line),
        // JSON escapes control characters below 0x20, but none of those that turn the reading direction.
        Format::Text => output.line(&escape(line)),
    }
}
