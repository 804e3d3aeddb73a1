//! What plugins are asked about images that lack something.

use rowmill_plugin::prelude::*;
use rowmill_plugin::row;
use rowmill_plugin::testing::{self, Cell, Outcome, Table};
use rowmill_plugin::types;

mod mask {
    use super::*;

    #[transform(read(email), write(email))]
    pub fn mask(row: &Row, patch: &mut Patch) -> Result<()> {
        if row.text("email")?.is_some() {
            patch.set("email", "***");
        }
        Ok(())
    }
}

mod full_name {
    use super::*;

    #[transform(read(first, last), write(full))]
    pub fn full_name(row: &Row, patch: &mut Patch) -> Result<()> {
        if let (Some(first), Some(last)) = (row.text("first")?, row.text("last")?) {
            patch.set("full", format!("{first} {last}"));
        }
        Ok(())
    }
}

mod both {
    use super::*;

    #[transform(read(email, phone), write(email, phone))]
    pub fn both(row: &Row, patch: &mut Patch) -> Result<()> {
        for masked in [row.text("email")?, row.text("phone")?].into_iter().flatten() {
            assert!(!masked.is_empty());
        }
        patch.set("email", "***");
        patch.set("phone", "***");
        Ok(())
    }
}

mod paid {
    use super::*;

    #[filter(read(status))]
    pub fn paid(row: &Row) -> Result<bool> {
        Ok(matches!(row.text("status")?, Some("paid")))
    }
}

/// Every image of a change is masked, the old ones too.
#[test]
fn new_old_and_key_images_are_masked_alike() {
    let mut plugin = testing::transform::<mask::mask>();
    let row = row! { id: 1, email: "ada@example.org" };
    for image in [
        row.clone(),
        row.clone().updated(),
        row.clone().old(Op::Update),
        row.old_key(Op::Delete),
    ] {
        assert_eq!(plugin.apply(image).row().text("email"), Some("***"));
    }
}

#[test]
fn an_image_with_nothing_to_write_goes_on_as_it_is() {
    let mut plugin = testing::transform::<mask::mask>();
    for row in [
        row! { id: 1, email: Cell::Absent }.old_key(Op::Delete),
        row! { id: 1, email: Cell::Unchanged }.updated(),
        row! { id: 1, email: None::<&str> },
    ] {
        assert_eq!(plugin.apply(row.clone()), Outcome::Row(row));
    }
}

#[test]
fn what_is_computed_from_what_is_missing_is_rejected() {
    let mut plugin = testing::transform::<full_name::full_name>();
    // The written column alone is missing: it can be computed.
    let computed = plugin.apply(row! { first: "Ada", last: "Lovelace", full: Cell::Unchanged }.updated());
    assert_eq!(computed.row().text("full"), Some("Ada Lovelace"));
    // A column that is read is missing.
    let outcome = plugin.apply(row! { first: "Ada", last: Cell::Unchanged, full: Cell::Unchanged }.updated());
    assert!(
        matches!(&outcome, Outcome::Rejected(error) if error.code() == "unchanged" && error.reason().contains("last"))
    );
    // In a key image there is nothing to compute.
    let key = row! { first: "Ada", last: Cell::Absent, full: Cell::Absent }.old_key(Op::Update);
    assert_eq!(plugin.apply(key.clone()), Outcome::Row(key));
}

mod stamp {
    use super::*;

    #[transform(read(note), write(id, note, stamp))]
    pub fn stamp(row: &Row, patch: &mut Patch) -> Result<()> {
        let length = row.text("note")?.map_or(0, str::len);
        patch.set("stamp", length as i64);
        Ok(())
    }
}

/// A column that is written and not read isn't sent; whether an image has it follows from the key.
#[test]
fn what_is_only_written_is_asked_about_where_the_image_has_it() {
    let table = || Table::new("notes").key("id", types::INT8).column("note", types::TEXT);
    let with_stamp = table().column("stamp", types::INT8);
    let mut plugin = testing::transform::<full_name::full_name>();
    let key = row! { first: Cell::Absent, last: "Lovelace", full: Cell::Absent }.old_key(Op::Delete);
    assert_eq!(plugin.apply(key.clone()), Outcome::Row(key));
    // The key is among what is written, and each image has it: the plugin is asked, and lacks what it reads.
    let mut plugin = testing::transform::<stamp::stamp>().with_table(with_stamp).unwrap();
    let key = row! { id: 1, note: Cell::Absent, stamp: Cell::Absent }.old_key(Op::Delete);
    assert!(matches!(plugin.apply(key), Outcome::Rejected(error) if error.code() == "absent"));
    let new = plugin.apply(row! { id: 1, note: "four", stamp: 0 });
    assert_eq!(new.row().get("stamp"), &Cell::from(4i64));
}

/// Never half a mask: rejected rather than sent on.
#[test]
fn an_image_of_which_only_a_part_could_be_masked_is_rejected() {
    let mut plugin = testing::transform::<both::both>();
    let outcome = plugin.apply(row! { email: Cell::Absent, phone: "030 1234" }.old_key(Op::Delete));
    assert!(matches!(outcome, Outcome::Rejected(error) if error.code() == "absent"));
}

#[test]
fn a_filter_is_not_asked_where_it_cannot_know() {
    let mut plugin = testing::filter::<paid::paid>();
    let verdicts = plugin.verdicts(&[
        row! { id: 1, status: "paid" }.old(Op::Update),
        row! { id: 1, status: Cell::Absent }.old_key(Op::Update),
        row! { id: 1, status: "paid" }.updated(),
    ]);
    assert_eq!(verdicts, [Ok(true), Ok(false), Ok(true)]);
}

mod odd {
    use super::*;

    #[transform(read(id))]
    pub fn odd(row: &Row, patch: &mut Patch) -> Result<()> {
        if row.int("id")?.is_some_and(|id| id % 2 == 0) {
            patch.drop_change();
        }
        Ok(())
    }
}

#[test]
fn a_function_that_writes_nothing_is_asked_about_every_image() {
    let mut plugin = testing::transform::<odd::odd>();
    let even = row! { id: 2, note: Cell::Absent };
    assert_eq!(plugin.apply(even.clone()), Outcome::Dropped);
    assert_eq!(plugin.apply(even.old_key(Op::Delete)), Outcome::Dropped);
    let odd = row! { id: 1, note: Cell::Unchanged }.updated();
    assert_eq!(plugin.apply(odd.clone()), Outcome::Row(odd));
    let gap = plugin.apply(row! { id: Cell::Unchanged, note: "" }.updated());
    assert!(matches!(gap, Outcome::Rejected(error) if error.code() == "unchanged"));
}
