//! No unmasked value leaves in any image.

use super::*;

const FULL: OldImage = OldImage::Full;
const KEY: OldImage = OldImage::Key;

/// Sends one change of `people` through a transform that reads and writes `columns`.
fn masked(
    columns: &[i64],
    reply: Vec<u8>,
    old: Option<(OldImage, &[&str])>,
    new: Option<&[&str]>,
) -> Result<Vec<String>, PluginError> {
    let op = match (old, new) {
        (_, Some(_)) => Op::Update,
        _ => Op::Delete,
    };
    let mut chain = transform(wishes(columns, columns, None), reply).chain()?;
    let mut batch = batch(&people());
    let mut rows = vec![row(&mut batch, op, old, new)];
    chain.process(&mut batch, &mut rows, &mut Processed::default())?;
    Ok(shown(&batch, &rows))
}

#[test]
fn the_whole_old_image_is_masked() {
    let both = actions(&[patch(0, 1, s("old***")), patch(1, 1, s("new***"))]);
    let left = masked(&[1], both, Some((FULL, &["1", "a@b"])), Some(&["1", "c@d"])).unwrap();
    assert_eq!(left, ["update (1 old***) 1 new***"]);
    let left = masked(
        &[1],
        actions(&[patch(0, 1, s("***"))]),
        Some((FULL, &["1", "a@b"])),
        None,
    )
    .unwrap();
    assert_eq!(left, ["delete (1 ***)"]);
}

#[test]
fn what_was_filled_in_goes_through_the_plugin() {
    let both = actions(&[patch(0, 1, s("***")), patch(1, 1, s("***"))]);
    let left = masked(&[1], both, Some((FULL, &["1", "a@b"])), Some(&["1", "~"])).unwrap();
    assert_eq!(left, ["update (1 ***) 1 ***"]);
}

#[test]
fn what_could_not_be_filled_in_stays_unchanged() {
    let left = masked(&[1], actions(&[]), Some((KEY, &["9", "-"])), Some(&["1", "~"])).unwrap();
    assert_eq!(left, ["update (9 -) 1 ~"]);
}

#[test]
fn an_absent_column_is_never_brought_back() {
    let both = actions(&[patch(0, 1, s("***")), patch(1, 1, s("***"))]);
    let left = masked(&[1], both, Some((KEY, &["9", "-"])), Some(&["1", "c@d"])).unwrap();
    assert_eq!(left, ["update (9 -) 1 ***"]);
    let replaced = arr(&[i(0), i(3), i(0), arr(&[i(9), s("***")])]);
    let left = masked(&[0, 1], actions(&[replaced]), Some((KEY, &["9", "-"])), None).unwrap();
    assert_eq!(left, ["delete (9 -)"]);
}

#[test]
fn a_masked_key_is_masked_in_every_image() {
    let both = actions(&[patch(0, 0, i(90)), patch(1, 0, i(10))]);
    let left = masked(&[0], both, Some((KEY, &["9", "-"])), Some(&["1", "a"])).unwrap();
    assert_eq!(left, ["update (90 -) 10 a"]);
    let left = masked(&[0], actions(&[patch(0, 0, i(90))]), Some((KEY, &["9", "-"])), None).unwrap();
    assert_eq!(left, ["delete (90 -)"]);
    // A key that depends on what the image lacks was not judged: it must not leave as it was.
    let new_only = actions(&[patch(1, 0, i(10))]);
    let error = masked(&[0, 1], new_only, Some((KEY, &["9", "-"])), Some(&["1", "a"])).unwrap_err();
    assert!(text_of(&error).contains("id is part of the key"), "{error}");
}

#[test]
fn a_drop_of_either_image_drops_the_change() {
    for image in [0, 1] {
        let reply = actions(&[ints(&[image, 1])]);
        assert!(
            masked(&[1], reply, Some((FULL, &["1", "a"])), Some(&["1", "b"]))
                .unwrap()
                .is_empty()
        );
    }
}

#[test]
fn a_later_plugin_gets_the_mask_and_not_the_value() {
    let mask = transform(
        wishes(&[1], &[1], None),
        actions(&[patch(0, 1, s("m")), patch(1, 1, s("m"))]),
    );
    let idle = transform(wishes(&[1], &[1], None), actions(&[]));
    let versions = [mask.version("mask").unwrap(), idle.version("idle").unwrap()];
    let mut chain = Chain::new(&ENGINE, &versions, FilterMode::Membership, Mode::Live).unwrap();
    let mut batch = batch(&people());
    let mut rows = vec![row(
        &mut batch,
        Op::Update,
        Some((FULL, &["1", "a@b"])),
        Some(&["1", "~"]),
    )];
    chain.process(&mut batch, &mut rows, &mut Processed::default()).unwrap();
    assert_eq!(shown(&batch, &rows), ["update (1 m) 1 m"]);
}

/// One of a megabyte or more that came in binary form stands in the batch as it was received; the guest gives it back as it
/// gives back any other.
#[test]
fn a_bytea_in_binary_form_may_be_repeated_and_no_more() {
    const BYTES: &[u8] = b"\x00\xab\x7f";
    let documents = table(&[("id", INT4, true), ("document", 17, false), ("note", TEXT, false)]);
    let sent = |said: &[u8], fans_out: bool| -> Result<(), PluginError> {
        let values = arr(&[i(1), said.to_vec(), s("seen")]);
        let action = match fans_out {
            true => arr(&[i(0), i(4), arr(&[arr(&[i(0), i(0), values, nil()])])]),
            false => arr(&[i(0), i(3), i(0), values]),
        };
        let mut chain = transform(wishes(&[0, 1, 2], &[2], None), actions(&[action])).chain()?;
        let mut batch = batch(&documents);
        batch.bytes = bytes::Bytes::from_static(BYTES);
        let mut rows = vec![row(&mut batch, Op::Insert, None, Some(&["1", "null", "a"]))];
        batch.set(rows[0].new.unwrap(), 1, Cell::binary(0, BYTES.len()));
        chain.process(&mut batch, &mut rows, &mut Processed::default())?;
        let new = rows[0].new.unwrap();
        assert_eq!(batch.value(new, 1), Value::Binary(BYTES), "as it was received");
        assert_eq!(batch.value(new, 2), Value::Text(b"seen"));
        Ok(())
    };
    for fans_out in [false, true] {
        for said in [bin(BYTES), s("\\x00ab7f")] {
            sent(&said, fans_out).unwrap();
        }
        for said in [
            bin(b"\x00\xab\x7e"),
            bin(b"\x00\xab"),
            bin(b""),
            s("\\x00ab7f00"),
            nil(),
        ] {
            let text = text_of(&sent(&said, fans_out).unwrap_err());
            assert!(text.contains("document, which isn't in its `writes`"), "{text}");
        }
    }
}
