//! Rows as they leave, for whoever is looking.

use std::sync::Arc;
use tokio::sync::broadcast;

/// Lines that a slow viewer may fall behind before it misses some.
const LINES: usize = 1024;

/// Hands rendered rows to live views. Nobody is ever waited for: a view that is too slow misses lines and is told
/// how many.
#[derive(Clone, Debug)]
pub struct Tail {
    pub(super) sender: broadcast::Sender<Arc<str>>,
}

impl Default for Tail {
    fn default() -> Self {
        Self::new()
    }
}

impl Tail {
    pub fn new() -> Self {
        let (sender, _) = broadcast::channel(LINES);
        Self { sender }
    }

    /// Whether anybody looks: rows are rendered only then.
    pub fn is_watched(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    /// Shows a row, as one line of JSON without its newline, after the plugins.
    pub fn show(&self, line: Arc<str>) {
        // Without a viewer it goes nowhere, as it should.
        let _ = self.sender.send(line);
    }

    pub fn subscribe(&self) -> broadcast::Receiver<Arc<str>> {
        self.sender.subscribe()
    }
}
