//! A chain that changes tuples in place makes of every batch what one makes that copies them, and the rows can be had as
//! they came, whatever breaks on the way.

use super::isolation::{Hint, letters_guest_saying};
use super::*;
use crate::batch::Batch;

/// The same numbers in every run.
struct Noise(u64);

impl Noise {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % limit
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

/// Inserts, updates with each kind of old image, and deletes. The letter says what a guest does that breaks.
fn changes(noise: &mut Noise, letters: &[&'static str]) -> (Batch, Vec<Row>) {
    let mut relation = Relation::clone(&people());
    // One byte on the wire, for guests that walk over their rows.
    relation.index = 100;
    let mut batch = batch(&Arc::new(relation));
    let count = 1 + noise.below(60);
    let rows = (0..count).map(|ordinal| {
        let id = ordinal.to_string();
        let (new, was) = (noise.of(letters), noise.of(letters));
        let (full, key) = ([id.as_str(), was], [id.as_str(), "absent"]);
        let new = [id.as_str(), new];
        let made = match noise.below(6) {
            0 => row(&mut batch, Op::Update, Some((OldImage::Full, &full)), Some(&new)),
            1 => row(&mut batch, Op::Update, Some((OldImage::Key, &key)), Some(&new)),
            2 => row(&mut batch, Op::Delete, Some((OldImage::Full, &full)), None),
            _ => row(&mut batch, Op::Insert, None, Some(&new)),
        };
        Row { ordinal, ..made }
    });
    let rows = rows.collect();
    (batch, rows)
}

/// What a transform says: mostly a patch of one image after the other, among them what a plugin should not say.
fn said(noise: &mut Noise, images: usize) -> Vec<u8> {
    let usual = noise.below(3);
    let wrong = noise.below(3) == 0;
    let mut all = Vec::new();
    for image in 0..images {
        let at = image as i64;
        let kind = if noise.below(4) > 0 { usual } else { noise.below(13) };
        all.push(match kind {
            0 | 1 => {
                let [high, low] = (image as u16).to_be_bytes();
                [&[0x93, 0xcd, high, low, 2, 0x92, 1], s("*").as_slice()].concat()
            }
            2 => patch(at, 1, s("+")),
            3 => arr(&[i(at), i(2), arr(&[i(1), s("a"), i(1), s("b")])]),
            4 => ints(&[at, 1]),
            5 => arr(&[i(at), i(3), i(0), arr(&[i(at), s("r")])]),
            6 => arr(&[i(at), i(6), i(1), s("rejected")]),
            7 => {
                let one = |text: &str| arr(&[i(0), i(0), arr(&[i(at), s(text)]), nil()]);
                arr(&[i(at), i(4), arr(&[one("x"), one("y")])])
            }
            8 => arr(&[i(at), i(5), s("elsewhere"), arr(&[i(1), s("e")])]),
            9 if wrong => patch(at, 1, s("nul\0")),
            10 if wrong => arr(&[i(at), i(2), arr(&[i(1), s("half"), i(0), s("key")])]),
            _ => continue,
        });
    }
    let mut reply = actions(&all);
    if noise.below(16) == 0 {
        // Its last byte is missing: all of it has been looked at by then.
        reply.pop();
    }
    reply
}

/// What came of it: rows, changes that left as they came, counts, or the error's code.
type Made = (Vec<String>, Vec<String>, String);

fn made(versions: &[PluginVersion], mut batch: Batch, rows: &[Row], in_place: bool) -> (Made, Batch) {
    let mut chain = Chain::new(&ENGINE, versions, FilterMode::Membership, Mode::Live).unwrap();
    let (mut left, mut processed) = (rows.to_vec(), Processed::default());
    let done = match in_place {
        true => chain.process_in_place(&mut batch, &mut left, &mut processed),
        false => chain.process(&mut batch, &mut left, &mut processed),
    };
    let asides: Vec<Row> = processed.aside.iter().map(|aside| aside.row).collect();
    let asides = shown(&batch.as_it_came(), &asides);
    let end = match done {
        Ok(()) => format!("{:?}", processed.counts),
        Err(error) => error.problem().to_string(),
    };
    ((shown(&batch, &left), asides, end), batch)
}

#[test]
fn in_place_is_as_by_copies_and_the_rows_can_be_had_as_they_came() {
    let (mut patched, mut isolated, mut stopped, mut aside) = (0, 0, 0, 0);
    for seed in 0..160 {
        let mut noise = Noise(seed);
        let breaks = noise.below(2) == 0;
        let letters: &[_] = if breaks {
            &[".", ".", ".", "t", "a"]
        } else {
            &[".", ",", "null"]
        };
        let (batch, rows) = changes(&mut noise, letters);
        let images = rows
            .iter()
            .map(|row| usize::from(row.new.is_some()) + usize::from(row.old.is_some()))
            .sum();
        let policies = Policies {
            on_error: noise.of(&[OnError::DeadLetter, OnError::Pass, OnError::Drop, OnError::Stop]),
            on_fault: noise.of(&[OnFault::Isolate, OnFault::Isolate, OnFault::Bypass, OnFault::Stop]),
            max_faults: 1000,
        };
        let mut versions = Vec::new();
        for at in 0..1 + noise.below(3) {
            let guest = match breaks && noise.below(2) == 0 {
                // What it says of the first image it says in every part of a call that is tried again.
                true => letters_guest_saying(
                    noise.of(&[Hint::Global, Hint::None, Hint::Wrong(0)]),
                    policies,
                    &[patch(0, 1, s("!"))],
                ),
                false => Guest {
                    policies,
                    ..transform(wishes(&[1], &[1], None), said(&mut noise, images))
                },
            };
            versions.push(guest.version(&format!("guest{at}")).unwrap());
        }
        let came = shown(&batch, &rows);
        let (copied, _) = made(&versions, batch.clone(), &rows, false);
        let (in_place, mut after) = made(&versions, batch.clone(), &rows, true);
        assert_eq!(in_place, copied, "seed {seed}");
        assert_eq!(shown(&after.as_it_came(), &rows), came, "seed {seed}");
        patched += usize::from(after.changes() > 0);
        isolated += usize::from(copied.2.contains("faults: ") && !copied.2.contains("faults: 0"));
        aside += usize::from(!copied.1.is_empty());
        if copied.2.starts_with('E') || !copied.2.starts_with("Counts") {
            stopped += 1;
            assert_eq!(
                after.changes(),
                0,
                "seed {seed}: a chain that failed has left something changed"
            );
            assert_eq!(in_place.0, came, "seed {seed}");
        }
        after.take_back(0);
        assert_eq!(shown(&after, &rows), came, "seed {seed}");
    }
    // All of it has happened.
    for (what, times) in [
        ("patched", patched),
        ("isolated", isolated),
        ("stopped", stopped),
        ("aside", aside),
    ] {
        assert!(times >= 10, "{what}: {times}");
    }
}

/// However many plugins there are, and however wide the table is: nothing is appended for a row but its texts.
#[test]
fn masks_in_place_append_no_tuples() {
    let (batch, rows) = changes(&mut Noise(1), &["."]);
    let images: usize = rows
        .iter()
        .map(|row| usize::from(row.new.is_some()) + usize::from(row.old.is_some()))
        .sum();
    let patches: Vec<_> = (0..images).map(|image| patch(image as i64, 1, s("*"))).collect();
    let mask = transform(wishes(&[1], &[1], None), actions(&patches))
        .version("mask")
        .unwrap();
    let (cells, masks) = (batch.cells.len(), [mask.clone(), mask]);
    let (_, copied) = made(&masks, batch.clone(), &rows, false);
    assert!(copied.cells.len() > cells);
    let (_, in_place) = made(&masks, batch, &rows, true);
    assert_eq!(in_place.cells.len(), cells);
}
