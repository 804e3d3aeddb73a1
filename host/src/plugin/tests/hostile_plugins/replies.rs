//! Replies that are not what the ABI says.

use super::*;

/// A transform that may write the second column and answers all rows with `reply`.
fn answers(reply: Vec<u8>) -> Vec<u8> {
    wat::parse_str(transform(wishes(&[0, 1], &[1], None), reply).wat()).unwrap()
}

/// A filter that answers with `reply`.
fn judges(reply: Vec<u8>) -> Vec<u8> {
    wat::parse_str(filter(wishes(&[0, 1], &[], None), reply).wat()).unwrap()
}

fn nested(depth: usize, inner: Vec<u8>) -> Vec<u8> {
    [vec![0x91; depth], inner].concat()
}

fn acts(parts: &[Vec<u8>]) -> Vec<u8> {
    answers(actions(parts))
}

/// A reply that stops after `bytes`, which claim more.
fn claims(bytes: &[u8]) -> Vec<u8> {
    let head = [vec![0x93, 0, 0, 0x91], vec![0x93, 0, 2, 0x92, 1]].concat();
    answers([head, bytes.to_vec()].concat())
}

macro_rules! replies {
    ($($name:ident: $kind:ident, $told:literal, $module:expr;)*) => {$(
        #[test]
        fn $name() {
            breaks_at_a_row(&$module, FaultKind::$kind, $told);
        }
    )*};
}

/// The first row made into as many inserts, the key as it was.
fn fanned(rows: usize) -> Vec<u8> {
    let row = arr(&[i(0), i(0), arr(&[i(1), s("x")]), nil()]);
    actions(&[arr(&[i(0), i(4), arr(&vec![row; rows])])])
}

replies! {
    // Bytes that are no such MessagePack.
    no_array: BadReply, "an array was expected", answers(vec![0xc0]);
    an_empty_array: BadReply, "an empty array", answers(vec![0x90]);
    an_unknown_status: BadReply, "a number out of range", answers(arr(&[i(3), s("x")]));
    a_failure_without_text: BadReply, "a failure without its message", answers(arr(&[i(1)]));
    the_byte_that_is_never_used: BadReply, "a plain value was expected", claims(&[0xc1]);
    text_that_is_not_utf8: BadReply, "isn't UTF-8", claims(&[0xa1, 0xff]);
    more_behind_its_end: BadReply, "something follows its end", answers([actions(&[]), vec![0]].concat());
    cut_off: BadReply, "ends too early", answers(vec![0x92, 2, 0xa5, b'x']);
    // Lengths that lie.
    an_array_of_4_gib: BadReply, "a length beyond the end", answers(vec![0x93, 0, 0, 0xdd, 0xff, 0xff, 0xff, 0xff]);
    an_array_of_64_kib: BadReply, "a length beyond the end", answers(vec![0x93, 0, 0, 0xdc, 0xff, 0xff]);
    a_patch_of_4_gib: BadReply, "a length beyond the end",
        answers([vec![0x93, 0, 0, 0x91, 0x93, 0, 2], vec![0xdd, 0xff, 0xff, 0xff, 0xfe]].concat());
    a_string_of_4_gib: BadReply, "ends too early", claims(&[0xdb, 0xff, 0xff, 0xff, 0xff]);
    a_string_of_255: BadReply, "ends too early", claims(&[0xd9, 0xff, b'x']);
    bytes_of_4_gib: BadReply, "ends too early", claims(&[0xc6, 0xff, 0xff, 0xff, 0xff]);
    an_ext_of_4_gib: BadReply, "ends too early", claims(&[0xc9, 0xff, 0xff, 0xff, 0xff, 1]);
    a_map_in_place_of_a_value: BadReply, "a plain value was expected", claims(&[0xdf, 0xff, 0xff, 0xff, 0xff]);
    nested_in_place_of_a_value: BadReply, "a plain value was expected", claims(&nested(100_000, nil()));
    nested_in_place_of_a_reply: BadReply, "a plain value was expected", answers(nested(100_000, nil()));
    // Actions.
    an_unknown_default: BadReply, "a number out of range", answers(arr(&[i(0), i(2), arr(&[])]));
    an_unknown_action: BadReply, "a number out of range", acts(&[ints(&[0, 8])]);
    an_action_without_a_kind: BadReply, "an action is", acts(&[ints(&[0])]);
    an_action_with_too_much: BadReply, "wrong number of elements", acts(&[ints(&[0, 0, 0])]);
    a_row_out_of_range: BadReply, "a number out of range", acts(&[ints(&[5, 1])]);
    a_negative_row: BadReply, "a number out of range", acts(&[ints(&[-1, 1])]);
    out_of_order: BadReply, "don't ascend", acts(&[ints(&[3, 0]), ints(&[1, 0])]);
    the_same_row_twice: BadReply, "don't ascend", acts(&[ints(&[1, 0]), ints(&[1, 1])]);
    a_patch_of_half_a_pair: BadReply, "a patch is", acts(&[arr(&[i(0), i(2), arr(&[i(1)])])]);
    a_column_out_of_range: BadReply, "a number out of range", acts(&[patch(0, 2, s("x"))]);
    a_column_undeclared: Breach, "it writes column id", acts(&[patch(2, 0, i(9))]);
    a_replaced_column_undeclared: Breach, "it writes column id",
        acts(&[arr(&[i(2), i(3), i(0), arr(&[i(9), s("x")])])]);
    a_value_of_another_class: Breach, "its value for column email is", acts(&[patch(0, 1, bin(b"x"))]);
    an_unchanged_value_of_an_insert: Breach, "its value for column email is",
        acts(&[patch(0, 1, vec![0xc7, 0, 1])]);
    an_unknown_ext: Breach, "its value for column email is", acts(&[patch(0, 1, vec![0xc7, 0, 99])]);
    too_few_values: BadReply, "not as many values", acts(&[arr(&[i(0), i(3), i(0), arr(&[i(1)])])]);
    an_output_out_of_range: BadReply, "a number out of range", acts(&[arr(&[i(0), i(3), i(1), arr(&[i(1)])])]);
    fan_out_bomb: Breach, "1001 rows of one; 1000 are allowed", answers(fanned(1_001));
    fan_out_of_a_truncate: Breach, "an operation that has no row",
        acts(&[arr(&[i(0), i(4), arr(&[arr(&[i(3), i(0), arr(&[i(1), s("x")]), nil()])])])]);
    // Verdicts.
    a_short_bitmap: BadReply, "a bitmap of the wrong length", judges(arr(&[i(0), bin(&[]), nil()]));
    a_long_bitmap: BadReply, "a bitmap of the wrong length", judges(arr(&[i(0), bin(&[0; 1000]), nil()]));
    a_verdict_that_is_a_number: BadReply, "a verdict is", judges(arr(&[i(0), i(1), nil()]));
    a_reject_out_of_range: BadReply, "a number out of range",
        judges(arr(&[i(0), yes(true), arr(&[arr(&[i(5), i(1), nil()])])]));
    // Failures, for ever.
    retryable_for_ever: Retryable, "again", answers(arr(&[i(1), s("again")]));
    fatal_for_ever: Fatal, "never", answers(arr(&[i(2), s("never")]));
}

#[test]
fn a_failure_as_long_as_a_novel_is_cut() {
    let text = "\u{1b}".repeat(100_000);
    let fault = breaks_at_a_row(&answers(arr(&[i(2), s(&text)])), FaultKind::Fatal, "\\u{1b}");
    assert!(fault.message.ends_with("..."));
}

/// As many as are allowed, of each row.
#[test]
fn a_fan_out_within_the_limit_goes_on() {
    let mut chain = chain(&answers(fanned(1_000))).unwrap();
    let (processed, left) = sent_through(&mut chain);
    processed.unwrap();
    assert_eq!(left.len(), 1_004);
}

fn starts_with(init: Vec<u8>) -> Vec<u8> {
    let honest = transform(wishes(&[0], &[], None), actions(&[]));
    wat::parse_str(Guest { init, ..honest }.wat()).unwrap()
}

#[test]
fn init_nests_deep() {
    let deep = arr(&[i(0), nested(9, nil())]);
    breaks_at_start(&starts_with(deep), FaultKind::BadReply, "nests too deep");
    let deeper = arr(&[i(0), nested(800, nil())]);
    breaks_at_start(&starts_with(deeper), FaultKind::BadReply, "nests too deep");
}

#[test]
fn init_claims_a_map_of_4_gib() {
    let lie = vec![0x92, 0, 0xdf, 0xff, 0xff, 0xff, 0xff];
    breaks_at_start(&starts_with(lie), FaultKind::BadReply, "a length beyond the end");
}

macro_rules! schemas {
    ($($name:ident: $code:literal, $told:literal, $reply:expr;)*) => {$(
        #[test]
        fn $name() {
            let guest = transform($reply, actions(&[]));
            let mut chain = guest.chain().unwrap();
            let text = text_of(&chain.relation(&people()).unwrap_err());
            assert!(text.contains($code) && text.contains($told), "{text}");
            others_go_on();
        }
    )*};
}

schemas! {
    a_schema_of_nothing: "E0310", "no action", arr(&[i(0)]);
    an_unknown_schema_action: "E0310", "a number out of range", arr(&[i(0), i(4)]);
    reads_a_column_out_of_range: "E0310", "a number out of range", wishes(&[2], &[], None);
    writes_a_column_out_of_range: "E0307", "it writes column 2", wishes(&[0], &[2], None);
    reads_4_gib_of_columns: "E0310", "a length beyond the end",
        vec![0x96, 0, 0, 0xdd, 0xff, 0xff, 0xff, 0xff];
    reads_a_column_2000_times: "E0310", "too many columns", arr(&[i(0), i(0), ints(&[0; 2_000]), nil(), i(0), nil()]);
    no_outputs_at_all: "E0310", "no output relation", wishes(&[0], &[], Some(arr(&[])));
    outputs_65: "E0310", "no output relation, or too many", wishes(&[0], &[], Some(arr(&vec![made("t", 1); 65])));
    an_output_without_columns: "E0310", "an output without columns", wishes(&[0], &[], Some(arr(&[made("t", 0)])));
    an_output_of_1601_columns: "E0310", "too many", wishes(&[0], &[], Some(arr(&[made("t", 1_601)])));
    an_output_without_a_name: "E0310", "a name that is empty", wishes(&[0], &[], Some(arr(&[made("", 1)])));
    an_output_with_a_nul: "E0310", "a name that is empty", wishes(&[0], &[], Some(arr(&[made("a\0b", 1)])));
    an_output_with_a_long_name: "E0310", "too long", wishes(&[0], &[], Some(arr(&[made(&"n".repeat(256), 1)])));
    refuses_with_a_novel: "E0307", "...", arr(&[i(0), i(3), s(&"\u{1b}".repeat(10_000))]);
}

/// `[schema, table, [[name, type_oid, type_name, key], ...]]`
fn made(table: &str, columns: usize) -> Vec<u8> {
    let column = |at: usize| arr(&[s(&format!("c{at}")), i(25), s("text"), yes(at == 0)]);
    // What is too long is refused by its length: its elements needn't be columns.
    let columns = match columns {
        0..=1_600 => (0..columns).map(column).collect(),
        _ => vec![nil(); columns],
    };
    arr(&[s("public"), s(table), arr(&columns)])
}
