//! Whether a text is a json as Postgres takes it for one. No recursion: it may nest as deep as it is long.

use crate::postgres::scan::Scan;

/// Whether the text, without space around it, is one value.
pub(super) fn is_json(text: &str) -> bool {
    value(&mut Scan::new(text)).is_some()
}

fn value(scan: &mut Scan<'_>) -> Option<()> {
    let mut open = Open::default();
    loop {
        match scan.0.first()? {
            b'{' => {
                scan.eat(b'{');
                open.push(true);
                space(scan);
                if scan.0.first() != Some(&b'}') {
                    name(scan)?;
                    continue;
                }
            }
            b'[' => {
                scan.eat(b'[');
                open.push(false);
                space(scan);
                if scan.0.first() != Some(&b']') {
                    continue;
                }
            }
            b'"' => string(scan)?,
            b'-' | b'0'..=b'9' => number(scan)?,
            _ => {
                let mut words = [b"true".as_slice(), b"false", b"null"].into_iter();
                words.any(|word| scan.eat_all(word)).then_some(())?;
            }
        }
        // Behind a value, or an opening bracket that closes at once: brackets that close, until another value is to come.
        loop {
            let Some(in_object) = open.last() else {
                return scan.is_at_end().then_some(());
            };
            space(scan);
            if scan.eat(b',') {
                space(scan);
                if in_object {
                    name(scan)?;
                }
                break;
            }
            scan.eat(if in_object { b'}' } else { b']' }).then_some(())?;
            open.pop();
        }
    }
}

fn space(scan: &mut Scan<'_>) {
    while let Some((b' ' | b'\t' | b'\n' | b'\r', rest)) = scan.0.split_first() {
        scan.0 = rest;
    }
}

/// A member's name with its colon.
fn name(scan: &mut Scan<'_>) -> Option<()> {
    string(scan)?;
    space(scan);
    scan.eat(b':').then_some(())?;
    space(scan);
    Some(())
}

fn string(scan: &mut Scan<'_>) -> Option<()> {
    scan.eat(b'"').then_some(())?;
    loop {
        let (byte, rest) = scan.0.split_first()?;
        scan.0 = rest;
        match byte {
            b'"' => return Some(()),
            b'\\' => {
                let (escaped, rest) = rest.split_first()?;
                scan.0 = rest;
                match escaped {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                    b'u' => {
                        let (digits, rest) = rest.split_first_chunk::<4>()?;
                        digits.iter().all(u8::is_ascii_hexdigit).then_some(())?;
                        scan.0 = rest;
                    }
                    _ => return None,
                }
            }
            0..b' ' => return None,
            _ => {}
        }
    }
}

fn number(scan: &mut Scan<'_>) -> Option<()> {
    scan.eat(b'-');
    if !scan.eat(b'0') {
        digits(scan)?;
    }
    if scan.eat(b'.') {
        digits(scan)?;
    }
    if scan.eat(b'e') || scan.eat(b'E') {
        let _ = scan.eat(b'-') || scan.eat(b'+');
        digits(scan)?;
    }
    Some(())
}

/// One digit or more.
fn digits(scan: &mut Scan<'_>) -> Option<()> {
    let len = scan.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
    scan.0 = scan.0.get(len..)?;
    (len > 0).then_some(())
}

/// Which of the brackets that are open are braces: a bit for each, the last one the lowest. Nothing is allocated for the
/// first 64.
#[derive(Default)]
struct Open {
    depth: usize,
    last: u64,
    /// The others, 64 of them in each.
    before: Vec<u64>,
}

impl Open {
    fn push(&mut self, is_brace: bool) {
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.before.push(self.last);
        }
        self.last = self.last << 1 | u64::from(is_brace);
        self.depth += 1;
    }

    fn pop(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.last >>= 1;
        if self.depth.is_multiple_of(64)
            && let Some(before) = self.before.pop()
        {
            self.last = before;
        }
    }

    /// Whether the innermost one is a brace.
    fn last(&self) -> Option<bool> {
        (self.depth > 0).then_some(self.last & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_postgres_takes_is_json() {
        for text in [
            "{}",
            "[]",
            r#"{"a":1,"b":[true,false,null,{"c":-1.5e+3}],"":""}"#,
            " [ 1 , 2 ] ",
            r#""\ud800\u0000""#,
            "-0",
            "0.0E-7",
        ] {
            assert!(is_json(text.trim()), "{text}");
        }
        for text in [
            "",
            "{",
            "{,}",
            "{]",
            "[}",
            "[1,]",
            "[,1]",
            r#"{"a":1,}"#,
            r#"{"a":1,,"email":"x"}"#,
            r#"{"a":1;"email":"x"}"#,
            r#"{"a" 1}"#,
            r#"{"a"}"#,
            r#"{a:1}"#,
            "{'a':1}",
            "1 2",
            "{}{}",
            "[]]",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "-",
            "nul",
            "nulll",
            "NaN",
            r#""\x""#,
            r#""\u+041""#,
            r#""\u00""#,
            "\"\n\"",
            "\"",
        ] {
            assert!(!is_json(text), "{text}");
        }
    }

    /// More levels than the stack has room for, and at each number of bits.
    #[test]
    fn depth_is_no_limit_and_brackets_must_match() {
        for depth in (1..=200).chain([100_000]) {
            let brace = |level: usize| level.is_multiple_of(3);
            let opening: String = (0..depth)
                .map(|level| if brace(level) { r#"{"":"# } else { "[" })
                .collect();
            let closing: String = (0..depth)
                .rev()
                .map(|level| if brace(level) { '}' } else { ']' })
                .collect();
            assert!(is_json(&format!("{opening}1{closing}")), "{depth}");
            let swapped = if closing.starts_with('}') { ']' } else { '}' };
            assert!(!is_json(&format!("{opening}1{swapped}{}", &closing[1..])), "{depth}");
            let swapped = if closing.ends_with('}') { ']' } else { '}' };
            assert!(!is_json(&format!("{opening}1{}{swapped}", &closing[1..])), "{depth}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

        /// As another reader of json has it.
        #[test]
        fn others_say_the_same(pieces in prop::collection::vec(prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"", "\"a\"", "\"a\":", "\\", "\\u00e9", "\\ud800", "\\n", "1", "0", "-", ".", "e", "+",
            "true", "null", " ", "\n", "\u{1}", "é", "{\"a\":1}", "[1,2]", "1.5e-3",
        ]), 0..10)) {
            let text = pieces.concat();
            let expected = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            prop_assert_eq!(is_json(text.trim_matches([' ', '\n'])), expected, "{:?}", text);
        }
    }
}
