//! The text of the page.

use super::changes::{Kind, Pair};
use super::swap::{FIRST, Phase, SECOND};
use super::view::{PluginView, Rates, View};
use crate::problem::Style;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Narrower than this nothing can be told apart; wider than that the eye loses the line.
const COLUMNS: std::ops::RangeInclusive<usize> = 72..=116;

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const CYAN: &str = "36";

/// What stays the same, and how far the swap is.
pub(super) struct Place {
    pub seconds: Option<u64>,
    pub feed: PathBuf,
    pub sockets: PathBuf,
    pub console: Option<SocketAddr>,
    /// Files whose change takes effect.
    pub watched: Vec<PathBuf>,
    pub phase: Phase,
    pub swaps: bool,
}

/// All lines, each at most as wide as the terminal or cut by it.
pub(super) fn lines(
    place: &Place,
    elapsed: Duration,
    view: &View,
    rates: &Rates,
    rows: &BTreeMap<Kind, Pair>,
    columns: usize,
    style: Style,
) -> Vec<String> {
    let columns = columns.clamp(*COLUMNS.start(), *COLUMNS.end());
    let mut lines = vec![title(place, elapsed, view, columns, style), String::new()];
    lines.extend(changes(rows, columns, style));
    lines.push(String::new());
    lines.extend(numbers(view, rates, style));
    lines.push(String::new());
    lines.extend(view.plugins.iter().map(|plugin| of_plugin(plugin, place, style)));
    lines.push(String::new());
    lines.extend(places(place, style));
    lines
}

fn title(place: &Place, elapsed: Duration, view: &View, columns: usize, style: Style) -> String {
    let time = match place.seconds {
        Some(seconds) => format!("{} of {seconds} s", elapsed.as_secs().min(seconds)),
        None => format!("{} s, Ctrl-C ends it", elapsed.as_secs()),
    };
    let state = if view.state == "streaming" && !view.is_copied() {
        "copying and streaming"
    } else {
        &view.state
    };
    let right = format!("{state} · {time}");
    let left = "rowmill demo: a shop's Postgres → plugins → a feed and a warehouse";
    let gap = columns.saturating_sub(width(left) + width(&right)).max(2);
    format!("{}{:gap$}{right}", paint(style, BOLD, left), "")
}

fn changes(rows: &BTreeMap<Kind, Pair>, columns: usize, style: Style) -> Vec<String> {
    let half = (columns - 4) / 2;
    let head = format!("{}    {}", fit("committed in the shop", half), "left after the plugins");
    let mut lines = vec![paint(style, DIM, head.trim_end())];
    for (of_customers, table) in [(true, "customers → mask_pii"), (false, "orders → paid_only")] {
        lines.push(paint(style, CYAN, table));
        let kinds = Kind::ALL.into_iter().filter(|kind| kind.is_customers() == of_customers);
        for kind in kinds {
            let Some(pair) = rows.get(&kind) else {
                lines.push(paint(style, DIM, "  …"));
                continue;
            };
            let out = match &pair.out {
                Some(out) => paint(style, GREEN, fit(out, half).trim_end()),
                None => paint(style, DIM, "kept back"),
            };
            lines.push(format!("  {}  → {out}", fit(&pair.raw, half - 2)));
        }
    }
    lines
}

fn numbers(view: &View, rates: &Rates, style: Style) -> Vec<String> {
    let (rate_in, rate_out) = rates.per_second();
    let copies: Vec<String> = view.copies.iter().map(of_copy).collect();
    let sinks: Vec<String> = view.sinks.iter().map(of_sink).collect();
    let bold = |text: String| paint(style, BOLD, &text);
    let line = |name: &str, number: String, rate: String, more: String| {
        let text = format!("{name:<10}{}{rate:>12}   {more}", bold(format!("{number:>9}")));
        text.trim_end().to_owned()
    };
    let seen = &view.seen;
    vec![
        line(
            "rows in",
            grouped(view.rows_in()),
            format!("{rate_in}/s"),
            format!("copied first: {}", copies.join(", ")),
        ),
        line(
            "rows out",
            grouped(view.rows_out()),
            format!("{rate_out}/s"),
            sinks.join(", "),
        ),
        line(
            "kept back",
            grouped(view.kept_back()),
            String::new(),
            "by the filter".to_owned(),
        ),
        line(
            "lag",
            millis(seen.lag),
            String::new(),
            format!(
                "highest {}: from the shop's statement to behind the plugins",
                millis(seen.lag_highest)
            ),
        ),
    ]
}

fn of_copy(copy: &super::view::Copied) -> String {
    let table = copy.table.strip_prefix("public.").unwrap_or(&copy.table);
    let done = if copy.done { "✓" } else { "…" };
    format!("{table} {} {done}", grouped(copy.rows))
}

fn of_sink(sink: &super::view::SinkView) -> String {
    let state = if sink.state == "running" { "" } else { &sink.state };
    format!("{} {} {state}", sink.name, grouped(sink.rows))
        .trim_end()
        .to_owned()
}

fn of_plugin(plugin: &PluginView, place: &Place, style: Style) -> String {
    let mut line = format!(
        "{:<10}{} · reloads {}",
        plugin.name,
        paint(style, BOLD, &plugin.hash),
        plugin.reloads
    );
    if let Some(reason) = &plugin.refused {
        line.push_str(&paint(style, YELLOW, &format!(" · newest refused: {reason}")));
    } else if plugin.name == FIRST && place.swaps {
        line.push_str(&paint(style, YELLOW, &swap_text(place.phase)));
    }
    line
}

fn swap_text(phase: Phase) -> String {
    match phase {
        Phase::First => format!(" · will be swapped for {SECOND} while it runs"),
        Phase::Waiting { .. } => format!(" · {SECOND} is being tried beside it"),
        Phase::Done { at, .. } => format!(" · is {SECOND} since {} s: shipped orders leave too", at.as_secs()),
        Phase::ByHand => " · the version that you have built".to_owned(),
    }
}

fn places(place: &Place, style: Style) -> Vec<String> {
    let mut lines = vec![
        format!("feed      tail -f {}", place.feed.display()),
        format!(
            "look in   psql -h {} -U postgres shop   (or warehouse)",
            place.sockets.display()
        ),
    ];
    if let Some(console) = place.console {
        lines.push(format!("console   http://{console}/api/status   /api/tail   /metrics"));
    }
    if !place.watched.is_empty() {
        let folder = place.watched[0].parent().map(|folder| folder.display().to_string());
        let names = place.watched.iter().filter_map(|file| file.file_name());
        let names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
        lines.push(format!(
            "try it    edit {}, run {} beside it",
            paint(style, BOLD, "plugins/paid_only/src/lib.rs"),
            paint(style, BOLD, "cargo xtask plugins")
        ));
        let folder = folder.unwrap_or_default();
        lines.push(paint(
            style,
            DIM,
            &format!("          watched in {folder}: {}", names.join(", ")),
        ));
    }
    lines
}

/// The same, a line long.
pub(super) fn one_line(place: &Place, elapsed: Duration, view: &View, rates: &Rates) -> String {
    let (rate_in, rate_out) = rates.per_second();
    let plugins: Vec<String> = view
        .plugins
        .iter()
        .map(|plugin| format!("{} {}", plugin.name, plugin.hash.get(..8).unwrap_or("-")))
        .collect();
    let swapped = if matches!(place.phase, Phase::Done { .. }) {
        format!(" (now {SECOND})")
    } else {
        String::new()
    };
    let state = if view.state == "streaming" && !view.is_copied() {
        "copying"
    } else {
        &view.state
    };
    format!(
        "{:>3} s  {state}  in {} ({rate_in}/s)  out {} ({rate_out}/s)  kept back {}  lag {}  {}{swapped}\n",
        elapsed.as_secs(),
        grouped(view.rows_in()),
        grouped(view.rows_out()),
        grouped(view.kept_back()),
        millis(view.seen.lag),
        plugins.join("  "),
    )
}

pub(super) fn millis(duration: Duration) -> String {
    match duration.as_micros() {
        micros if micros < 10_000 => format!("{:.1} ms", micros as f64 / 1e3),
        micros => format!("{} ms", grouped((micros / 1000) as u64)),
    }
}

/// 12,345
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// Cut or padded to a width.
fn fit(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return format!("{text:<columns$}");
    }
    let start: String = text.chars().take(columns.saturating_sub(1)).collect();
    format!("{start}…")
}

fn paint(style: Style, codes: &str, text: &str) -> String {
    if style.colour {
        format!("\x1b[{codes}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_texts_cut() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(fit("kettle", 4), "ket…");
        assert_eq!(fit("ket", 4), "ket ");
    }
}
