//! The terminal: a page that is drawn over itself, or a line per second where standard output is no terminal.

use super::changes::{Kind, Pair};
use super::page::{Place, lines, one_line};
use super::view::{Rates, View};
use crate::problem::Style;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// The other screen, so that nothing of the user's is lost; no cursor, no wrapping of long lines.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
/// How long the shown rows stay, to be read.
const ROWS_STAY: Duration = Duration::from_secs(1);
const LINE_INTERVAL: Duration = Duration::from_secs(1);
const COLUMNS_DEFAULT: usize = 100;

pub(super) enum Screen {
    Page(Page),
    Lines(Lines),
    /// Results alone are wanted.
    Silent,
}

pub(super) struct Page {
    style: Style,
    rows: BTreeMap<Kind, Pair>,
    rows_since: Option<Instant>,
}

#[derive(Default)]
pub(super) struct Lines {
    last: Option<Instant>,
}

impl Screen {
    pub(super) fn open(quiet: bool) -> Self {
        if quiet {
            return Self::Silent;
        }
        if !io::stdout().is_terminal() {
            return Self::Lines(Lines::default());
        }
        write(ENTER);
        Self::Page(Page {
            style: Style::of(&io::stdout()),
            rows: BTreeMap::new(),
            rows_since: None,
        })
    }

    pub(super) fn draw(&mut self, place: &Place, elapsed: Duration, view: &View, rates: &Rates) {
        match self {
            Self::Page(page) => page.draw(place, elapsed, view, rates),
            Self::Lines(lines) => lines.draw(place, elapsed, view, rates),
            Self::Silent => {}
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if let Self::Page(_) = self {
            write(LEAVE);
        }
    }
}

impl Page {
    fn draw(&mut self, place: &Place, elapsed: Duration, view: &View, rates: &Rates) {
        if self.rows_since.is_none_or(|since| since.elapsed() >= ROWS_STAY) {
            self.rows.clone_from(&view.seen.latest);
            self.rows_since = Some(Instant::now());
        }
        let columns = columns();
        let mut text = String::new();
        for (at, line) in lines(place, elapsed, view, rates, &self.rows, columns, self.style)
            .iter()
            .enumerate()
        {
            // By its place, so that a low terminal shows the end of the page and never scrolls.
            text.push_str(&format!("\x1b[{};1H{line}\x1b[K", at + 1));
        }
        text.push_str("\x1b[J");
        write(&text);
    }
}

impl Lines {
    fn draw(&mut self, place: &Place, elapsed: Duration, view: &View, rates: &Rates) {
        if self.last.is_some_and(|last| last.elapsed() < LINE_INTERVAL) {
            return;
        }
        self.last = Some(Instant::now());
        write(&one_line(place, elapsed, view, rates));
    }
}

/// Where nobody reads any more the demo goes on to its end, which then says so.
fn write(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

fn columns() -> usize {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    #[expect(unsafe_code, reason = "the standard library can't ask a terminal for its size")]
    // SAFETY: the request writes one winsize, and the pointer is that of a live one.
    let result = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    match size.ws_col {
        columns if result == 0 && columns > 0 => usize::from(columns),
        _ => COLUMNS_DEFAULT,
    }
}
