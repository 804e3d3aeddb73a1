use super::*;
use alloc::string::String;
use alloc::vec;

#[test]
fn integers_come_back() {
    let edges = [
        0,
        1,
        31,
        32,
        33,
        127,
        128,
        255,
        256,
        32_768,
        65_535,
        65_536,
        1 << 31,
        1 << 32,
        i64::MAX,
    ];
    for value in edges.into_iter().flat_map(|value| [value, -value, -value - 1]) {
        let mut writer = Writer::new();
        writer.int(value);
        let mut reader = Reader::new(writer.as_slice());
        assert_eq!(reader.int(), Ok(value));
        assert!(reader.is_at_end());
    }
    let mut writer = Writer::new();
    writer.uint(u64::MAX);
    assert_eq!(Reader::new(writer.as_slice()).uint(), Ok(u64::MAX));
    assert!(Reader::new(writer.as_slice()).int().is_err());
}

#[test]
fn strings_of_every_length_class_come_back() {
    for len in [0, 1, 31, 32, 255, 256, 65_535, 65_536] {
        let text: String = "x".repeat(len);
        let mut writer = Writer::new();
        writer.str(&text);
        writer.bin(text.as_bytes());
        let mut reader = Reader::new(writer.as_slice());
        assert_eq!(reader.str(), Ok(text.as_str()));
        assert_eq!(reader.token(), Ok(Token::Bin(text.as_bytes())));
        assert!(reader.is_at_end());
    }
}

/// What is formatted is never cut: a text of which a part is lost looks like another one.
#[test]
fn formatted_texts_of_every_length_come_back() {
    for len in [0, 1, 255, 65_535, 65_536, 70_000] {
        let text: String = "é".repeat(len / 2) + &"x".repeat(len % 2);
        let mut writer = Writer::new();
        writer.uint(1);
        writer.display(&text);
        writer.nil();
        let mut reader = Reader::new(writer.as_slice());
        assert_eq!(reader.uint(), Ok(1));
        assert_eq!(reader.str(), Ok(text.as_str()), "{len}");
        assert!(reader.take_nil() && reader.is_at_end());
    }
}

#[test]
fn skipping_passes_over_everything_nested() {
    let mut writer = Writer::new();
    let open = writer.open_array();
    writer.map(1);
    writer.str("key");
    writer.array(2);
    writer.f64(1.5);
    writer.empty_ext(ext::ABSENT);
    writer.nil();
    writer.close_array(open, 2);
    writer.bool(true);
    let mut reader = Reader::new(writer.as_slice());
    assert_eq!(reader.skip(), Ok(()));
    assert_eq!(reader.bool(), Ok(true));
    assert!(reader.is_at_end());
}

/// The quick readers say what the others say, or nothing.
#[test]
fn quick_readers_agree() {
    for marker in 0..=u8::MAX {
        for fill in [0x00, 0x01, 0x7f, 0x80, 0xff] {
            for len in [0, 1, 4, 8, 9, 40] {
                let mut bytes = vec![marker];
                bytes.extend(vec![fill; len]);
                let token = Reader::new(&bytes).token();
                if let Some(value) = short_int(&bytes, 0) {
                    assert_eq!(token, Ok(Token::Int(value)), "{marker:#x} {fill:#x}");
                }
                if let Some(value) = short_f64(&bytes, 0) {
                    let bits = |token| match token {
                        Ok(Token::F64(value)) => Some(f64::to_bits(value)),
                        _ => None,
                    };
                    assert_eq!(bits(token), Some(value.to_bits()));
                }
                if let Some(text) = short_str(&bytes, 0) {
                    assert_eq!(token, Ok(Token::Str(text)));
                }
                let is_nested = matches!(token, Ok(Token::Array(_) | Token::Map(_)));
                if let (Some(end), Ok(_), false) = (plain_end(&bytes, 0), token, is_nested) {
                    let mut reader = Reader::new(&bytes);
                    assert_eq!(reader.skip(), Ok(()));
                    assert_eq!(end, reader.position(), "{marker:#x}");
                }
            }
        }
    }
}

/// Whatever the bytes, reading ends, with a value or an error.
#[test]
fn no_bytes_panic() {
    for marker in 0..=u8::MAX {
        for tail in [vec![], vec![0xff; 3], vec![0xff; 16], vec![0; 16]] {
            let mut bytes = vec![marker];
            bytes.extend(tail);
            let _ = Reader::new(&bytes).token();
            let _ = Reader::new(&bytes).skip();
            let _ = Reader::new(&bytes).skip_plain();
            let _ = Reader::new(&bytes).raw();
            let _ = Reader::new(&bytes).array();
            let _ = Reader::new(&bytes).map();
            let _ = Reader::new(&bytes).str();
        }
    }
    // Nested deeper than any stack.
    assert!(Reader::new(&vec![0x91; 1_000_000]).skip().is_err());
    // A length that the bytes can't hold.
    assert!(Reader::new(&[0xdd, 0xff, 0xff, 0xff, 0xff]).array().is_err());
}

/// Short and long values behind seven bytes, which what follows the seventh doesn't change.
#[test]
fn values_behind_others_are_as_they_are_alone() {
    let head = u64::from_le_bytes([0x93, 0xcd, 1, 2, 3, 0x92, 5, 0xff]);
    for len in 0..40 {
        let text: String = "a naïve text of more than 32 bytes"
            .repeat(2)
            .chars()
            .take(len)
            .collect();
        let (mut alone, mut behind) = (Writer::new(), Writer::new());
        alone.raw(&head.to_le_bytes()[..7]);
        alone.str(&text);
        alone.nil();
        behind.short_str_behind(head, &text);
        behind.nil();
        assert_eq!(behind.as_slice(), alone.as_slice(), "{text}");
    }
    let (mut alone, mut behind) = (Writer::new(), Writer::new());
    alone.raw(&head.to_le_bytes()[..7]);
    alone.f64(-1.25);
    behind.f64_behind(head, -1.25);
    assert_eq!(behind.as_slice(), alone.as_slice());
}
