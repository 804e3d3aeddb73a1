//! A table of which keys can't be read again for now, as somebody has a lock on it: the stream goes on meanwhile.

use super::plan::TableCopy;
use std::time::{Duration, Instant};

/// How long it is before they are asked for again, doubled each time: the stream stands still for as long as one asks. So is
/// what one waits for them then (`reread`): whoever always asks for a moment alone may never meet the moment.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// How long it waits before it says so.
const QUIET: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Later {
    since: Instant,
    until: Instant,
    pause: Duration,
    /// How often they were asked for.
    pub(super) tries: u32,
    said: bool,
}

impl Default for Later {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            since: now,
            until: now,
            pause: FIRST_PAUSE,
            tries: 0,
            said: false,
        }
    }
}

impl Later {
    /// It can't be read now: not until this is so.
    pub(super) fn wait(&mut self, copy: &TableCopy, until: &str) {
        let now = Instant::now();
        if self.tries == 0 {
            self.since = now;
        }
        self.until = now + self.pause;
        self.pause = LONGEST_PAUSE.min(self.pause * 2);
        self.tries += 1;
        if self.since.elapsed() > QUIET && !self.said {
            self.said = true;
            let table = copy.relation.full_name();
            tracing::info!(
                table,
                "the copy reads rows of the table again when {until}; the stream goes on"
            );
        }
    }

    /// It could be read.
    pub(super) fn end(&mut self) {
        if self.tries > 0 {
            *self = Self::default();
        }
    }

    /// Whether it isn't time to ask again.
    pub(super) fn waits(&self) -> bool {
        Instant::now() < self.until
    }
}
