//! Tells people of changes that are set aside, without telling the same thing a thousand times a second.

use crate::dead_letter;
use crate::plugin::{Aside, AsideCause};
use std::time::{Duration, Instant};

/// Lines in a window: a table of which every row is poison must not drown the log. Every change has its letter.
const LINES_MAX: u32 = 10;
const WINDOW: Duration = Duration::from_secs(10);

pub(super) struct Notices {
    since: Instant,
    lines: u32,
    untold: u64,
}

impl Default for Notices {
    fn default() -> Self {
        let since = Instant::now();
        Self {
            since,
            lines: 0,
            untold: 0,
        }
    }
}

impl Notices {
    /// Logs them, and passes them on as the dead letters take them.
    pub(super) fn tell(&mut self, asides: Vec<Aside>) -> Vec<dead_letter::Aside> {
        for aside in &asides {
            self.line(aside);
        }
        asides.into_iter().map(dead_letter::Aside::from).collect()
    }

    fn line(&mut self, aside: &Aside) {
        if self.since.elapsed() >= WINDOW {
            if self.untold > 0 {
                tracing::warn!(
                    changes = self.untold,
                    "more changes were set aside: `rowmill dead-letter list`"
                );
            }
            (self.since, self.lines, self.untold) = (Instant::now(), 0, 0);
        }
        if self.lines >= LINES_MAX {
            self.untold += 1;
            return;
        }
        self.lines += 1;
        let problem = aside.problem();
        let (plugin, place) = (&aside.plugin, &aside.place);
        let cause = problem.cause.as_deref().unwrap_or_default();
        // An author has to act on a fault; a rejected row is what the plugin meant to do.
        match &aside.cause {
            AsideCause::Fault(_) => {
                tracing::error!(code = problem.code, plugin, %place, cause, "a change is set aside: the plugin breaks on it");
            }
            AsideCause::Row(_) => {
                tracing::warn!(code = problem.code, plugin, %place, cause, "a change is set aside");
            }
        }
    }
}
