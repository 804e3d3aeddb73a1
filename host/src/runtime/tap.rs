//! Rows as they leave, for whoever watches: rendered only while somebody does.

use super::process::Process;
use crate::decode::straight;
use crate::pipeline::Tap;
use crate::sink::json;
use std::sync::Arc;

/// What the lane calls with each sink's rows.
pub(super) fn tap(process: &Process, system_identifier: u64) -> Tap {
    let watchers = process.tail.clone();
    Box::new(move |batch, rows| {
        if !watchers.is_watched() {
            return;
        }
        let Ok(batch) = straight::as_text(batch, rows) else {
            return;
        };
        for row in rows {
            if let Ok(line) = json::line(&batch, row, system_identifier)
                && let Ok(text) = std::str::from_utf8(&line)
            {
                watchers.show(Arc::from(text.trim_end()));
            }
        }
    })
}
