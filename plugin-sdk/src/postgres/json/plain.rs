//! Strings and numbers as they are meant, whatever way they are written.

use std::borrow::Cow;

/// A string's content without its escapes; borrowed where there are none.
pub(super) fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, escaped)) = rest.split_once('\\') {
        plain.push_str(before);
        let mut characters = escaped.chars();
        let made = match characters.next() {
            Some('n') => '\n',
            Some('t') => '\t',
            Some('r') => '\r',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('u') => {
                let (character, len) = code_point(escaped);
                plain.push(character);
                rest = escaped.get(len..).unwrap_or_default();
                continue;
            }
            Some(other) => other,
            None => break,
        };
        plain.push(made);
        rest = characters.as_str();
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

/// The character of `uXXXX`, or of two of them that are a surrogate pair, and how long that is. What no text of Postgres'
/// can hold is replaced.
fn code_point(escaped: &str) -> (char, usize) {
    const LEN: usize = "u0000".len();
    let Some(high) = unit(escaped) else {
        return (char::REPLACEMENT_CHARACTER, 1);
    };
    if (0xd800..0xdc00).contains(&high) {
        let behind = escaped.get(LEN..).and_then(|rest| rest.strip_prefix('\\'));
        let low = behind.and_then(unit).and_then(|low| low.checked_sub(0xdc00));
        if let Some(low) = low.filter(|low| *low < 0x400)
            && let Some(pair) = char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + low)
        {
            return (pair, 2 * LEN + 1);
        }
    }
    let alone = char::from_u32(high).filter(|character| *character != '\0');
    (alone.unwrap_or(char::REPLACEMENT_CHARACTER), LEN)
}

/// The four digits behind a `u`.
fn unit(escaped: &str) -> Option<u32> {
    let digits = escaped.strip_prefix('u')?.get(..4)?;
    digits
        .chars()
        .try_fold(0, |unit, digit| Some(unit << 4 | digit.to_digit(16)?))
}

/// The integer that a number with a point or an exponent is; `None` where it isn't one, or is too large.
pub(super) fn whole(number: &str) -> Option<i64> {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (before, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [before, fraction].concat();
    let significant = digits.trim_end_matches('0');
    if matches!(significant, "" | "-") {
        return Some(0);
    }
    let shift = (digits.len() - significant.len()) as i64 - fraction.len() as i64;
    let shift = exponent.parse::<i64>().ok()?.checked_add(shift)?;
    // The last digit isn't 0: where it stands behind the point, there is a fraction.
    let power = 10i64.checked_pow(u32::try_from(shift).ok()?)?;
    significant.parse::<i64>().ok()?.checked_mul(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_become_what_they_mean() {
        for (escaped, plain) in [
            ("plain", "plain"),
            (r#"\"\\\/\b\f\n\r\t"#, "\"\\/\u{8}\u{c}\n\r\t"),
            (r"\u00e9\u20AC", "é€"),
            (r"\ud83e\udd80", "🦀"),
            // Halves of pairs, and NUL.
            (r"\ud800", "\u{fffd}"),
            (r"\udc00", "\u{fffd}"),
            (r"\ud800x", "\u{fffd}x"),
            (r"\ud800\n", "\u{fffd}\n"),
            (r"\ud800\u0061", "\u{fffd}a"),
            (r"\ud800\ud83e\udd80", "\u{fffd}🦀"),
            (r"a\u0000b", "a\u{fffd}b"),
        ] {
            assert_eq!(unescape(escaped), plain, "{escaped}");
        }
        // What Postgres never writes ends in something, too.
        for broken in ["\\", "\\u", "\\u12", "\\u+041", "\\ué000", "\\é"] {
            unescape(broken);
        }
    }

    #[test]
    fn integers_are_read_however_they_are_written() {
        for (number, expected) in [
            ("1e3", Some(1_000)),
            ("1E+3", Some(1_000)),
            ("-1.50e2", Some(-150)),
            ("100e-2", Some(1)),
            ("100.00", Some(100)),
            ("0.5", None),
            ("150e-2", None),
            ("0.0", Some(0)),
            ("-0.0e99999999999999999999", Some(0)),
            ("0.07e2", Some(7)),
            ("9223372036854775807.0", Some(i64::MAX)),
            ("-9223372036854775808.0", Some(i64::MIN)),
            ("9223372036854775808.0", None),
            ("1e19", None),
            ("1e99999999999999999999", None),
            ("1e-99999999999999999999", None),
        ] {
            assert_eq!(whole(number), expected, "{number}");
        }
        let zeros = "0".repeat(100);
        assert_eq!(whole(&format!("7.{zeros}")), Some(7));
        assert_eq!(whole(&format!("7{zeros}e-100")), Some(7));
        assert_eq!(whole(&format!("0.{zeros}7e101")), Some(7));
    }
}
