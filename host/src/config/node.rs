//! The YAML text as a tree whose every node knows where it stands.
//!
//! A tree of our own, rather than serde's structs: serde ends at the first mistake, and we want all of them. Values
//! stay the text that was written; what they mean is decided where the expected type is known.

use serde_saphyr::granit_parser::{
    Event, Marker, Options, Parser, ScalarStyle, ScanError, Span as ParserSpan, StrInput,
};
use std::collections::HashMap;

/// Blocks within blocks; a pipeline needs about eight.
const MAX_DEPTH: usize = 32;
/// Nodes of a file with its aliases followed, against files that grow when read.
const MAX_NODES: usize = 100_000;

/// Where something stands: line and column counted from 1, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Span {
    pub line: usize,
    pub column: usize,
    /// Characters on that line, at least 1.
    pub width: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub span: Span,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Scalar {
        text: String,
        /// Written without quotes, so that `5`, `true` and `null` may be more than text.
        plain: bool,
    },
    List(Vec<Node>),
    /// In the order of the file; a key that stands twice is there twice.
    Map(Vec<(Node, Node)>),
}

/// Why the text is no tree.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub span: Span,
    pub message: String,
}

impl Node {
    /// Its text, where it is a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } => Some(text),
            Kind::List(_) | Kind::Map(_) => None,
        }
    }

    /// Whether it was left empty, or written `null` or `~`.
    pub fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null"))
    }
}

/// Reads the one document of a text. An empty text is an empty mapping.
pub(super) fn parse(text: &str) -> Result<Node, SyntaxError> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    let shielded = shield(text);
    let mut builder = Builder {
        parser: Parser::new_from_str_with_options(&shielded, options),
        anchors: HashMap::new(),
        nodes: 0,
    };
    builder.document()
}

/// Characters for private use that stand in for the braces of `${VAR}` while YAML is read, which gives braces another
/// meaning in `{ url: ${VAR} }`. One for one, so that every place stays what it is.
const OPEN: char = '\u{f8f0}';
const CLOSE: char = '\u{f8f1}';

fn shield(text: &str) -> String {
    let mut shielded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, reference)) = rest.split_once("${") {
        let inside = reference.split_once('}').filter(|(inside, _)| !inside.contains('\n'));
        shielded.push_str(before);
        shielded.push('$');
        match inside {
            Some((inside, after)) => {
                shielded.push(OPEN);
                shielded.push_str(inside);
                shielded.push(CLOSE);
                rest = after;
            }
            None => {
                shielded.push('{');
                rest = reference;
            }
        }
    }
    shielded.push_str(rest);
    shielded
}

fn unshield(text: &str) -> String {
    text.replace(OPEN, "{").replace(CLOSE, "}")
}

struct Builder<'a> {
    parser: Parser<'a, StrInput<'a>>,
    /// What each anchor stands for, with how many nodes it has.
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
}

impl<'a> Builder<'a> {
    fn document(&mut self) -> Result<Node, SyntaxError> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(..) if root.is_some() => {
                    return Err(error(
                        span,
                        "a second document begins here; one file holds one pipeline",
                    ));
                }
                Event::DocumentStart(..) => {}
                event => root = Some(self.node(event, span, 0)?),
            }
        }
        let empty = Node {
            span: Span {
                line: 1,
                column: 1,
                width: 1,
            },
            kind: Kind::Map(Vec::new()),
        };
        Ok(root.filter(|node| !node.is_null()).unwrap_or(empty))
    }

    fn next(&mut self) -> Result<(Event<'a>, ParserSpan), SyntaxError> {
        match self.parser.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(scan)) => Err(scan_error(&scan)),
            None => Ok((Event::StreamEnd, ParserSpan::default())),
        }
    }

    fn node(&mut self, event: Event<'a>, span: ParserSpan, depth: usize) -> Result<Node, SyntaxError> {
        self.count(1, span)?;
        if depth > MAX_DEPTH {
            return Err(error(span, &format!("blocks are nested more than {MAX_DEPTH} deep")));
        }
        let before = self.nodes;
        let (anchor, kind) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
                let plain = style == ScalarStyle::Plain && !is_text;
                let text = unshield(&text);
                (anchor, Kind::Scalar { text, plain })
            }
            Event::SequenceStart(_, anchor, _) => (anchor, Kind::List(self.list(depth)?)),
            Event::MappingStart(_, anchor, _) => (anchor, Kind::Map(self.map(depth)?)),
            Event::Alias(id) => return self.alias(id, span),
            _ => return Err(error(span, "a value was expected here")),
        };
        let span = one_line(span);
        let node = Node { span, kind };
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), self.nodes - before + 1));
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, SyntaxError> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(items);
            }
            items.push(self.node(event, span, depth + 1)?);
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<(Node, Node)>, SyntaxError> {
        let mut entries = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(entries);
            }
            let key = self.node(event, span, depth + 1)?;
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            entries.push((key, value));
        }
    }

    /// The node again that the anchor stands for; places inside it are those of the anchor.
    fn alias(&mut self, id: usize, span: ParserSpan) -> Result<Node, SyntaxError> {
        let Some((node, count)) = self.anchors.get(&id).cloned() else {
            return Err(error(
                span,
                "this alias stands for nothing, or for a block that holds it",
            ));
        };
        self.count(count, span)?;
        Ok(node)
    }

    fn count(&mut self, nodes: usize, span: ParserSpan) -> Result<(), SyntaxError> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return Err(error(span, &format!("the file grows beyond {MAX_NODES} values")));
        }
        Ok(())
    }
}

fn one_line(span: ParserSpan) -> Span {
    let (start, end) = (span.start, span.end);
    let width = if start.line() == end.line() {
        end.col().saturating_sub(start.col())
    } else {
        1
    };
    at(&start, width.max(1))
}

fn at(mark: &Marker, width: usize) -> Span {
    Span {
        line: mark.line().max(1),
        column: mark.col() + 1,
        width,
    }
}

fn error(span: ParserSpan, message: &str) -> SyntaxError {
    SyntaxError {
        span: one_line(span),
        message: message.to_owned(),
    }
}

fn scan_error(scan: &ScanError) -> SyntaxError {
    SyntaxError {
        span: at(scan.marker(), 1),
        message: scan.info(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(text: &str) -> Vec<(Node, Node)> {
        match parse(text).expect("it is YAML").kind {
            Kind::Map(entries) => entries,
            other => panic!("no mapping: {other:?}"),
        }
    }

    #[test]
    fn places_are_counted_from_one_in_characters() {
        let entries = map("é: x\nb: [1, 'no']\n");
        assert_eq!((entries[0].1.span.line, entries[0].1.span.column), (1, 4));
        let Kind::List(items) = &entries[1].1.kind else {
            panic!("no list")
        };
        assert_eq!(
            (items[1].span.line, items[1].span.column, items[1].span.width),
            (2, 8, 4)
        );
        assert!(matches!(&items[1].kind, Kind::Scalar { text, plain: false } if text == "no"));
    }

    #[test]
    fn an_alias_is_what_its_anchor_is_and_bombs_are_refused() {
        let entries = map("a: &a [1, 2]\nb: *a\n");
        assert!(matches!(&entries[1].1.kind, Kind::List(items) if items.len() == 2));
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..9 {
            let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
        }
        let error = parse(&bomb).expect_err("it grows too large");
        assert!(error.message.contains("grows"), "{}", error.message);
    }

    #[test]
    fn depth_is_bounded() {
        let text = format!("{}{}", "[".repeat(100), "]".repeat(100));
        assert!(parse(&text).is_err());
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[a-z0-9:&*\\[\\]{}\"'#|>!, \\n\\t-]{0,80}") {
            let _ = parse(&text);
        }
    }
}
