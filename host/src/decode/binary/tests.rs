//! What no server sends. What servers send is compared with their own text in tests/binary.rs.

use super::*;
use proptest::prelude::*;

fn text(types: &Types, oid: u32, value: &[u8]) -> Result<String, Bad> {
    let mut arena = b"before".to_vec();
    let cell = cell(types, types.form(oid), value, 0, &mut arena)?;
    let mut batch = crate::batch::Batch {
        bytes: value.to_vec().into(),
        arena,
        ..crate::batch::Batch::default()
    };
    let tuple = batch.push_tuple([cell]);
    match batch.value(tuple, 0) {
        crate::batch::Value::Text(text) => Ok(String::from_utf8_lossy(text).into_owned()),
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn any_bytes_have_a_text_or_none(oid in 0..Types::FORMS + 2, value in proptest::collection::vec(any::<u8>(), 0..80)) {
        for version in [150_000, 180_000] {
            let _ = text(&Types::of_every_form(version), oid, &value);
        }
    }

    /// Small numbers where lengths and counts are.
    #[test]
    fn bytes_that_are_nearly_right_have_a_text_or_none(
        oid in 0..Types::FORMS + 2,
        fields in proptest::collection::vec(prop_oneof![0..4_i32, Just(-1), 0..70_i32, any::<i32>()], 0..20),
        cut in 0..4_usize,
    ) {
        let mut value: Vec<u8> = fields.into_iter().flat_map(i32::to_be_bytes).collect();
        value.truncate(value.len().saturating_sub(cut));
        let _ = text(&Types::of_every_form(180_000), oid, &value);
    }
}

/// The numbers that `of_every_form` gives.
fn numbered(types: &Types, form: Form) -> u32 {
    (1..=Types::FORMS).find(|oid| types.form(*oid) == form).unwrap()
}

#[test]
fn values_deep_in_one_another_end() {
    let types = Types::of_every_form(150_000);
    let record = numbered(&types, Form::Record);
    let mut value = vec![];
    for _ in 0..10_000 {
        let mut outer = 1_i32.to_be_bytes().to_vec();
        outer.extend_from_slice(&record.to_be_bytes());
        outer.extend_from_slice(&(value.len() as i32).to_be_bytes());
        outer.extend_from_slice(&value);
        value = outer;
    }
    assert_eq!(text(&types, record, &value), Err(Bad::Malformed));
}

#[test]
fn a_type_that_is_not_known_is_named() {
    let types = Types::of_every_form(150_000);
    let unknown = Types::FORMS + 1;
    assert_eq!(text(&types, unknown, b"x"), Err(Bad::Unknown(0)));
    let mut array = Vec::new();
    for field in [1, 0, unknown as i32, 1, 1, 1] {
        array.extend_from_slice(&i32::to_be_bytes(field));
    }
    array.push(b'x');
    let array_oid = numbered(&types, Form::Array);
    assert_eq!(text(&types, array_oid, &array), Err(Bad::Unknown(unknown)));
}

#[test]
fn a_long_bytea_stays_as_it_is() {
    let types = Types::of_every_form(150_000);
    let bytes = vec![0xAB; BINARY_BYTES_MIN];
    let mut arena = Vec::new();
    let mut taken = |len: usize| {
        let taken = cell(&types, Form::Bytea, &bytes[..len], 7, &mut arena).unwrap();
        (taken, arena.len())
    };
    assert_eq!(taken(bytes.len()), (Cell::binary(7, bytes.len()), 0));
    let short = BINARY_BYTES_MIN - 1;
    assert_eq!(taken(short), (Cell::arena(0, 2 + 2 * short), 2 + 2 * short));
}

/// The interval of all bounds is one on older servers; from 17 on it is infinite.
#[test]
fn what_depends_on_the_server_follows_it() {
    let mut longest = i64::MAX.to_be_bytes().to_vec();
    longest.extend_from_slice(&i32::MAX.to_be_bytes());
    longest.extend_from_slice(&i32::MAX.to_be_bytes());
    for (version, expected) in [
        (
            150_000,
            "178956970 years 7 mons 2147483647 days 2562047788:00:54.775807",
        ),
        (170_000, "infinity"),
    ] {
        let types = Types::of_every_form(version);
        assert_eq!(
            text(&types, numbered(&types, Form::Interval), &longest).unwrap(),
            expected
        );
    }
    let types = Types::of_every_form(160_000);
    assert_eq!(text(&types, numbered(&types, Form::Char), &[0xE4]).unwrap(), "\\344");
}
