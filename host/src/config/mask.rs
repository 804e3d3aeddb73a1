//! Finds passwords in text that is about to be shown.

/// What stands for a secret that was found.
const MASK: &str = "***";
/// A key whose name holds one of these has a secret as its value.
const SECRET_KEYS: &[&str] = &[
    "password",
    "passwd",
    "secret",
    "token",
    "salt",
    "api_key",
    "private_key",
    "credential",
];

/// Whether a connection URL or keyword string holds a password itself, rather than a variable for it.
pub(super) fn has_password(text: &str) -> bool {
    let chars: Vec<char> = text.chars().collect();
    !passwords(&chars).is_empty()
}

/// A line of the file for people to see. What stands before `column` (from 1) keeps its width, so that a caret below
/// the line stays where it belongs.
pub(super) fn mask_line(line: &str, column: usize) -> String {
    let chars: Vec<char> = line.chars().collect();
    let mut ranges = passwords(&chars);
    ranges.extend(values_of_secret_keys(&chars));
    ranges.sort_unstable();
    let mut masked = String::with_capacity(line.len());
    let mut at = 0;
    for (start, end) in ranges {
        if end <= at {
            continue;
        }
        masked.extend(&chars[at..start.max(at)]);
        if end < column {
            masked.extend(std::iter::repeat_n('*', end - start.max(at)));
        } else {
            masked.push_str(MASK);
        }
        at = end;
    }
    masked.extend(&chars[at..]);
    masked
}

/// Ranges of characters: `user:HERE@` after `://`, and what follows `password=`.
fn passwords(chars: &[char]) -> Vec<(usize, usize)> {
    let mut ranges = Vec::new();
    for at in 0..chars.len() {
        let rest = &chars[at..];
        if starts_with(rest, "://") {
            ranges.extend(userinfo(chars, at + 3));
        } else if starts_with(rest, "password") {
            ranges.extend(assigned(chars, at + "password".len()));
        }
    }
    ranges
}

fn userinfo(chars: &[char], start: usize) -> Option<(usize, usize)> {
    let ends = |c: &char| c.is_whitespace() || matches!(c, '"' | '\'');
    let length = chars[start..].iter().take_while(|c| !ends(c)).count();
    let run = &chars[start..start + length];
    // A query may hold an @ as well; a password before the query may hold anything.
    let query = run.iter().position(|c| *c == '?').unwrap_or(run.len());
    let at_sign = run[..query].iter().rposition(|c| *c == '@')?;
    let colon = run[..at_sign].iter().position(|c| *c == ':')?;
    let range = (start + colon + 1, start + at_sign);
    is_literal(&chars[range.0..range.1]).then_some(range)
}

fn assigned(chars: &[char], after_key: usize) -> Option<(usize, usize)> {
    let spaces = |from: usize| chars[from..].iter().take_while(|c| **c == ' ').count();
    let equals = after_key + spaces(after_key);
    if chars.get(equals) != Some(&'=') {
        return None;
    }
    let start = equals + 1 + spaces(equals + 1);
    let length = match chars.get(start) {
        Some('\'') => 2 + chars[start + 1..].iter().take_while(|c| **c != '\'').count(),
        _ => chars[start..]
            .iter()
            .take_while(|c| !c.is_whitespace() && !matches!(c, '&' | '"' | '\''))
            .count(),
    };
    let range = (start, (start + length).min(chars.len()));
    is_literal(&chars[range.0..range.1]).then_some(range)
}

fn values_of_secret_keys(chars: &[char]) -> Vec<(usize, usize)> {
    let mut ranges = Vec::new();
    for colon in 0..chars.len() {
        if chars[colon] != ':' || chars.get(colon + 1).is_some_and(|c| !c.is_whitespace()) {
            continue;
        }
        let part_of_key = |c: &&char| c.is_alphanumeric() || matches!(**c, '_' | '-' | '"' | '\'');
        let length = chars[..colon].iter().rev().take_while(part_of_key).count();
        let key: String = chars[colon - length..colon].iter().collect();
        let key = key.to_lowercase().replace('-', "_");
        if SECRET_KEYS.iter().any(|secret| key.contains(secret)) {
            ranges.extend(value(chars, colon + 1));
        }
    }
    ranges
}

fn value(chars: &[char], start: usize) -> Option<(usize, usize)> {
    let start = start + chars[start..].iter().take_while(|c| c.is_whitespace()).count();
    let length = match chars.get(start)? {
        quote @ ('"' | '\'') => 1 + chars[start + 1..].iter().take_while(|c| *c != quote).count() + 1,
        '{' | '[' | '|' | '>' | '#' => return None,
        _ => chars[start..]
            .iter()
            .take_while(|c| !matches!(c, ',' | '}' | ']'))
            .count(),
    };
    let range = (start, (start + length).min(chars.len()));
    is_literal(&chars[range.0..range.1]).then_some(range)
}

/// Whether it is more than a variable without a default.
fn is_literal(chars: &[char]) -> bool {
    let text: String = chars.iter().collect();
    let text = text.trim().trim_matches(['"', '\'']);
    let is_variable = text
        .strip_prefix("${")
        .and_then(|rest| rest.strip_suffix('}'))
        .is_some_and(|inside| !inside.contains(":-") && !inside.contains('}'));
    !text.is_empty() && !is_variable
}

fn starts_with(chars: &[char], word: &str) -> bool {
    let mut chars = chars.iter();
    word.chars()
        .all(|c| chars.next().is_some_and(|d| d.eq_ignore_ascii_case(&c)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn passwords_are_found_and_variables_are_not() {
        for text in [
            "postgres://app:hunter2@db/shop",
            "postgres://app:hun@ter/2@db/shop",
            "host=db password=hunter2",
            "host=db password = 'hunter 2'",
            "postgres://db/shop?user=app&password=hunter2",
            "postgres://app:${PW:-hunter2}@db/shop",
        ] {
            assert!(has_password(text), "{text}");
            assert!(!mask_line(text, 1).contains("hun"), "{text}");
        }
        for text in [
            "postgres://app@db/shop",
            "postgres://app:${PW}@db/shop",
            "postgres://app:@db/shop",
            "host=db password=${PW}",
            "postgres://db:5432/shop",
            "${DATABASE_URL}",
        ] {
            assert!(!has_password(text), "{text}");
            assert_eq!(mask_line(text, 1), text);
        }
    }

    #[test]
    fn columns_before_the_caret_stay() {
        let line = "a: { url: 'postgres://u:hunter2@h/d', salt: pepper, wrong: 1 }";
        let column = line.find("wrong").expect("it is there") + 1;
        let masked = mask_line(line, column);
        assert_eq!(masked.find("wrong"), line.find("wrong"));
        assert!(!masked.contains("hunter2") && !masked.contains("pepper"), "{masked}");
        assert_eq!(mask_line("  salt: pepper", 3), "  salt: ***");
        assert_eq!(mask_line("  \"api-key\": \"pepper\"", 3), "  \"api-key\": ***");
    }

    proptest! {
        #[test]
        fn nothing_panics(line in "[a-z:/@'\"= ${}?-]{0,60}|\\PC{0,40}", column in 0_usize..80) {
            let _ = mask_line(&line, column);
        }
    }
}
