//! Problems as people read them on a terminal, and as JSON.
//!
//! ```text
//! error[E0103]: unknown key `urll` in `source.postgres`
//!   --> pipeline.yaml:4:5
//!    |  urll: ${DATABASE_URL}
//!    |  ^^^^ the nearest key is `url`
//!   cause: ...
//!   help:  write `url`
//!   more:  docs/reference/errors.md#e0103
//! ```

use super::{Place, Problem};
use serde_json::json;
use std::fmt::Write as _;
use std::io::IsTerminal;

/// Characters of a line that are shown at most; a longer one is cut around the place.
const EXCERPT_CHARS: usize = 100;
/// Characters kept before the place when the line is cut.
const EXCERPT_BEFORE: usize = 40;
/// Where the text of `cause:`, `help:` and `more:` begins.
const TEXT_INDENT: usize = 9;

/// Whether escape sequences for colour are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    pub colour: bool,
}

impl Style {
    pub const PLAIN: Self = Self { colour: false };

    /// Colour where the stream is a terminal that has it and nobody said otherwise.
    pub fn of(stream: &impl IsTerminal) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self {
            colour: stream.is_terminal() && !refused && !dumb,
        }
    }

    fn paint(self, codes: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{codes}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

const RED: &str = "1;31";
const BLUE: &str = "34";
const GREEN: &str = "32";
const BOLD: &str = "1";

/// The text of one problem, with a newline at its end.
pub fn render(problem: &Problem, style: Style) -> String {
    let mut text = String::new();
    let code = style.paint(RED, &format!("error[{}]", problem.code));
    let headline = style.paint(BOLD, &escape(&problem.headline));
    let _ = writeln!(text, "{code}: {headline}");
    if let Some(place) = &problem.place {
        render_place(&mut text, place, style);
    }
    if let Some(cause) = &problem.cause {
        render_field(&mut text, "cause:", cause, style, BOLD);
    }
    render_field(&mut text, "help:", &problem.help, style, GREEN);
    render_field(&mut text, "more:", &problem.more(), style, BOLD);
    text
}

/// Several problems, an empty line between them.
pub fn render_all(problems: &[Problem], style: Style) -> String {
    let texts: Vec<String> = problems.iter().map(|problem| render(problem, style)).collect();
    texts.join("\n")
}

fn render_place(text: &mut String, place: &Place, style: Style) {
    let arrow = style.paint(BLUE, "-->");
    let bar = style.paint(BLUE, "|");
    let file = escape(&place.file);
    let _ = writeln!(text, "  {arrow} {file}:{}:{}", place.line, place.column);
    let (excerpt, before, width) = cut(place);
    let carets = style.paint(RED, &"^".repeat(width));
    let label = style.paint(RED, &escape(&place.label));
    let _ = writeln!(text, "   {bar}  {excerpt}");
    let line = format!("   {bar}  {:before$}{carets} {label}", "");
    let _ = writeln!(text, "{}", line.trim_end());
}

fn render_field(text: &mut String, name: &str, value: &str, style: Style, colour: &str) {
    let name = format!("  {}{:width$}", style.paint(colour, name), "", width = 7 - name.len());
    let lines: Vec<String> = value.lines().map(escape).collect();
    let separator = format!("\n{:TEXT_INDENT$}", "");
    let _ = writeln!(text, "{name}{}", lines.join(&separator));
}

/// The part of the line that is shown, and where in it the carets stand.
fn cut(place: &Place) -> (String, usize, usize) {
    let line: Vec<char> = place.excerpt.chars().collect();
    let indent = line.iter().take_while(|c| c.is_whitespace()).count();
    let at = place.column.saturating_sub(1).max(indent);
    let long = line.len() - indent > EXCERPT_CHARS;
    let start = if long {
        at.saturating_sub(EXCERPT_BEFORE).max(indent)
    } else {
        indent
    };
    let shown: String = line.iter().skip(start).take(EXCERPT_CHARS).collect();
    let shown = flat(shown.trim_end());
    let before = (at - start).min(shown.chars().count());
    let width = place.width.clamp(1, (shown.chars().count() - before).max(1));
    (shown, before, width)
}

/// One character for each character, so that the carets stay below what they mean.
fn flat(text: &str) -> String {
    let printable = |c: char| match c {
        '\t' => ' ',
        c if is_unprintable(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(printable).collect()
}

/// Characters that would move a terminal's cursor, change its state or turn the reading direction.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// A text from outside, made safe to print on one line: `\x1b` for the escape character.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => escaped.push_str("\\n"),
            '\t' => escaped.push_str("\\t"),
            c if is_unprintable(c) && u32::from(c) < 0x100 => {
                let _ = write!(escaped, "\\x{:02x}", u32::from(c));
            }
            c if is_unprintable(c) => {
                let _ = write!(escaped, "\\u{{{:x}}}", u32::from(c));
            }
            c => escaped.push(c),
        }
    }
    escaped
}

impl Problem {
    /// Where its explanation stands.
    pub fn more(&self) -> String {
        format!("docs/reference/errors.md#{}", self.code.to_lowercase())
    }

    /// The same as an object, for `--output json` and for logs.
    pub fn to_json(&self) -> serde_json::Value {
        let place = self.place.as_ref().map(|place| {
            json!({
                "file": place.file,
                "line": place.line,
                "column": place.column,
                "excerpt": place.excerpt,
                "label": place.label,
            })
        });
        json!({
            "code": self.code,
            "exit": self.exit as u8,
            "headline": self.headline,
            "place": place,
            "cause": self.cause,
            "help": self.help,
            "more": self.more(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Exit;

    fn lost() -> Problem {
        Problem::new(
            "E0207",
            Exit::Gap,
            "replication slot `cdc` is lost",
            "drop it: `rowmill slot drop cdc`",
        )
        .with_cause("cannot read from logical replication slot \"cdc\" (55000)\nsecond line")
        .with_place(Place {
            file: "pipeline.yaml".to_owned(),
            line: 4,
            column: 11,
            excerpt: "    slot: cdc".to_owned(),
            width: 3,
            label: "invalidated".to_owned(),
        })
    }

    #[test]
    fn it_looks_as_promised() {
        let expected = "\
error[E0207]: replication slot `cdc` is lost
  --> pipeline.yaml:4:11
   |  slot: cdc
   |        ^^^ invalidated
  cause: cannot read from logical replication slot \"cdc\" (55000)
         second line
  help:  drop it: `rowmill slot drop cdc`
  more:  docs/reference/errors.md#e0207
";
        assert_eq!(render(&lost(), Style::PLAIN), expected);
    }

    #[test]
    fn colour_adds_escapes_and_nothing_else() {
        let coloured = render(&lost(), Style { colour: true });
        let mut plain = String::new();
        let mut rest = coloured.as_str();
        while let Some((before, after)) = rest.split_once('\x1b') {
            plain.push_str(before);
            rest = after.split_once('m').expect("a colour ends with m").1;
        }
        plain.push_str(rest);
        assert_eq!(plain, render(&lost(), Style::PLAIN));
    }

    #[test]
    fn x8_terminal_escapes_never_pass() {
        let mut problem = lost();
        problem.headline = "table `a\x1b]0;x\x07b\u{202e}`".to_owned();
        let place = problem.place.as_mut().expect("it has a place");
        place.excerpt = "slot:\t\x1b[2Jcdc".to_owned();
        let text = render(&problem, Style::PLAIN);
        assert!(text.contains("`a\\x1b]0;x\\x07b\\u{202e}`"), "{text}");
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text}");
    }

    #[test]
    fn places_beyond_the_line_and_long_lines_are_bounded() {
        let mut problem = lost();
        let place = problem.place.as_mut().expect("it has a place");
        place.excerpt = "x".repeat(10_000);
        place.column = 5_000;
        place.width = 9_000;
        let text = render(&problem, Style::PLAIN);
        assert!(text.lines().all(|line| line.chars().count() < 130), "{text}");
        let place = problem.place.as_mut().expect("it has a place");
        place.excerpt = String::new();
        assert!(render(&problem, Style::PLAIN).contains('^'));
    }

    #[test]
    fn the_json_form_has_the_same_fields() {
        let json = lost().to_json();
        assert_eq!(json["code"], "E0207");
        assert_eq!(json["exit"], 4);
        assert_eq!(json["place"]["line"], 4);
        assert_eq!(json["more"], "docs/reference/errors.md#e0207");
    }
}
