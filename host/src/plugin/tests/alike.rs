//! Rows that are alike are encoded, judged and patched together: each must come out as it would alone, whatever stands
//! among them.

use super::encoding::{ENTRY, plan};
use super::*;
use crate::plugin::encode::{Encoder, Images};
use crate::plugin::values::{Class, encode};

/// The same numbers in every run.
struct Noise(u64);

impl Noise {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % limit
    }
}

/// Rows of which some share a tuple with the one before, some lie apart, and some have a long text or none.
fn scattered(noise: &mut Noise, count: usize) -> (Batch, Vec<Row>) {
    let mut batch = batch(&people());
    let mut rows: Vec<Row> = Vec::new();
    let (gaps, shares) = (noise.below(4), noise.below(3) == 0);
    for ordinal in 0..count {
        for _ in 0..noise.below(gaps + 1) {
            tuple(&mut batch, &["0", "of no row"]);
        }
        let text = match noise.below(30) {
            0 => "null".to_owned(),
            1 => "long ".repeat(10),
            _ => format!("{ordinal}@example.org"),
        };
        let mut made = row(&mut batch, Op::Insert, None, Some(&[&ordinal.to_string(), &text]));
        if let (Some(last), true) = (rows.last(), shares && noise.below(8) == 0) {
            made.new = last.new;
        }
        made.ordinal = ordinal as u64;
        rows.push(made);
    }
    (batch, rows)
}

/// `[image, 2, [column, value]]` with the image as a number of 16 bits, as the SDK writes it.
fn patch_of_one(image: usize, column: u8, value: &[u8]) -> Vec<u8> {
    let [high, low] = (image as u16).to_be_bytes();
    [&[0x93, 0xcd, high, low, 2, 0x92, column], value].concat()
}

#[test]
fn each_of_many_rows_is_patched_as_the_reply_says_of_it() {
    const LONG: &str = "what doesn't fit into thirty-two bytes";
    for seed in 0..48 {
        let mut noise = Noise(seed);
        let count = 1 + noise.below(400) as usize;
        let (mut batch, mut rows) = scattered(&mut noise, count);
        let usual = noise.below(7);
        let (mut said, mut expected) = (Vec::new(), Vec::new());
        for (image, line) in shown(&batch, &rows).into_iter().enumerate() {
            let kind = if noise.below(1 + seed) < 12 {
                usual
            } else {
                noise.below(7)
            };
            let id = line.split(' ').nth(1).unwrap();
            let mut patched = |action: Vec<u8>, text: &str| {
                said.push(action);
                expected.push(format!("insert {id} {text}"));
            };
            match kind {
                0 => expected.push(line),
                1 => patched(patch_of_one(image, 1, &s("***")), "***"),
                2 => patched(patch_of_one(image, 1, &nil()), "null"),
                3 => patched(patch_of_one(image, 1, &s(LONG)), LONG),
                4 => patched(patch_of_one(image, 1, &s("Zoë")), "Zoë"),
                5 => patched(patch(image as i64, 1, s("short")), "short"),
                _ => said.push(ints(&[image as i64, 1])),
            }
        }
        let mut chain = transform(wishes(&[1], &[1], None), actions(&said)).chain().unwrap();
        let before = shown(&batch, &rows);
        let original = rows.clone();
        chain.process(&mut batch, &mut rows, &mut Processed::default()).unwrap();
        assert_eq!(shown(&batch, &rows), expected, "seed {seed}");
        assert_eq!(
            shown(&batch, &original),
            before,
            "seed {seed}: a tuple was changed in place"
        );
    }
}

#[test]
fn a_wrong_patch_among_many_is_found() {
    let good = |image| patch_of_one(image, 1, &s("***"));
    for (at, wrong, named) in [
        (150, patch_of_one(150, 0, &s("5")), "id, which isn't in its `writes`"),
        (150, patch_of_one(149, 1, &s("twice")), "don't ascend"),
        // Like all the others but for that.
        (150, patch_of_one(149, 1, &s("***")), "don't ascend"),
        (150, patch_of_one(150, 0, &s("***")), "id, which isn't in its `writes`"),
        (150, patch_of_one(150, 1, &s("*\0*")), "email is no text of Postgres"),
        (150, patch_of_one(150, 1, &[0xa3, b'*', 0xff, b'*']), "isn't UTF-8"),
        (199, patch_of_one(200, 1, &s("***")), "of no row"),
        (150, patch_of_one(150, 1, &s("nul\0")), "email is no text of Postgres"),
        (
            199,
            patch_of_one(200, 1, &s("beyond")),
            "don't ascend by row, or one is of no row",
        ),
        (199, vec![0x93, 0xcd, 0], "at byte"),
    ] {
        let said: Vec<_> = (0..at)
            .map(good)
            .chain([wrong])
            .chain((at + 1..200).map(good))
            .collect();
        let mut chain = transform(wishes(&[1], &[1], None), actions(&said)).chain().unwrap();
        let mut batch = batch(&people());
        let mut rows: Vec<_> = (0..200)
            .map(|id| row(&mut batch, Op::Insert, None, Some(&[&id.to_string(), "a"])))
            .collect();
        let error = chain
            .process(&mut batch, &mut rows, &mut Processed::default())
            .unwrap_err();
        assert!(text_of(&error).contains(named), "{at}: {}", text_of(&error));
        assert_eq!((rows.len(), shown(&batch, &rows)[150].as_str()), (200, "insert 150 a"));
    }
}

/// A patch that is as the one before is taken without another look: not so one that is like it up to a byte.
#[test]
fn patches_that_are_nearly_the_same_are_told_apart() {
    let relation = table(&[("id", INT4, true), ("email", TEXT, false), ("note", TEXT, false)]);
    for len in 0..=11 {
        let usual = &"abcdefghijk"[..len];
        let mut texts = vec![
            usual.to_owned(),
            format!("{usual}*"),
            usual[..len.saturating_sub(1)].to_owned(),
        ];
        texts.extend((0..len).map(|at| format!("{}*{}", &usual[..at], &usual[at + 1..])));
        let mut noise = Noise(len as u64);
        let mut batch = batch(&relation);
        let (mut rows, mut said, mut expected) = (Vec::new(), Vec::new(), Vec::new());
        for image in 0..300 {
            rows.push(row(&mut batch, Op::Insert, None, Some(&[&image.to_string(), "e", "n"])));
            let text = match noise.below(2) {
                0 => usual,
                _ => texts[noise.below(texts.len() as u64) as usize].as_str(),
            };
            let column = 1 + u8::from(noise.below(8) == 0);
            said.push(patch_of_one(image, column, &s(text)));
            expected.push(match column {
                1 => format!("insert {image} {text} n"),
                _ => format!("insert {image} e {text}"),
            });
        }
        let version = transform(wishes(&[1], &[1, 2], None), actions(&said))
            .version("guest")
            .unwrap();
        for in_place in [false, true] {
            let (mut batch, mut rows) = (batch.clone(), rows.clone());
            let mut chain = Chain::new(
                &ENGINE,
                std::slice::from_ref(&version),
                FilterMode::Membership,
                Mode::Live,
            )
            .unwrap();
            let came = shown(&batch, &rows);
            let original = rows.clone();
            match in_place {
                true => chain
                    .process_in_place(&mut batch, &mut rows, &mut Processed::default())
                    .unwrap(),
                false => chain.process(&mut batch, &mut rows, &mut Processed::default()).unwrap(),
            }
            assert_eq!(shown(&batch, &rows), expected, "{len}");
            assert_eq!(shown(&batch.as_it_came(), &original), came, "{len}");
        }
    }
}

/// Rows of short values as they are encoded together, with others among them, and each value as it is alone.
#[test]
fn rows_of_short_values_are_encoded_as_each_value_is() {
    const TYPES: [u32; 8] = [20, 23, 21, 701, 16, 25, 1700, 700];
    let columns: Vec<_> = TYPES.iter().map(|oid| ("c", *oid, false)).collect();
    let relation = table(&columns);
    let (mut refused, mut quick) = (0, 0);
    for seed in 0..200 {
        let mut noise = Noise(seed);
        let kinds = TYPES.len() as u64 - u64::from(seed % 4 > 0);
        let read: Vec<usize> = (0..1 + noise.below(6)).map(|_| noise.below(kinds) as usize).collect();
        let mut batch = batch(&relation);
        let (mut rows, mut expected, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
        for at in 0..1 + noise.below(150) as usize {
            let mut value = |oid: u32| {
                let digits = |noise: &mut Noise, most: u64| -> String {
                    let len = 1 + noise.below(most);
                    (0..len).map(|_| char::from(b'0' + noise.below(10) as u8)).collect()
                };
                let sign = if noise.below(3) == 0 { "-" } else { "" };
                match (noise.below(60), oid) {
                    (0, _) => "null".to_owned(),
                    (1, 20 | 701) => "1x".to_owned(),
                    (1, 25 | 1700) => "long ".repeat(8),
                    (_, 20 | 21 | 23) => format!("{sign}{}", digits(&mut noise, 18)),
                    (_, 16) => ["t", "f"][noise.below(2) as usize].to_owned(),
                    (2, 700 | 701) => "-Infinity".to_owned(),
                    (_, 700 | 701) => format!("{sign}{}.{}", digits(&mut noise, 5), digits(&mut noise, 5)),
                    _ => "short text of some bytes"[..noise.below(25) as usize].to_owned(),
                }
            };
            let values = TYPES.map(&mut value);
            let values = values.each_ref().map(String::as_str);
            rows.push(row(&mut batch, Op::Insert, None, Some(&values)));
            let start = expected.len();
            expected.extend(
                [
                    arr(&[]),
                    i(relation.index.into()),
                    vec![0, 0],
                    vec![0x90 | read.len() as u8],
                ]
                .concat(),
            );
            expected[start] = 0x94;
            let is_good = read.iter().all(|column| {
                let value = match values[*column] {
                    "null" => Value::Null,
                    text => Value::Text(text.as_bytes()),
                };
                let oid = TYPES[*column];
                encode(Class::of(oid), oid, value, &mut expected).is_ok()
            });
            if !is_good {
                expected.truncate(start);
                wrong.push(at);
            }
        }
        let mut encoder = Encoder::new(false);
        encoder.fill(&batch, &rows, 0, ENTRY, &plan(&relation, &read), Images::All);
        assert_eq!(encoder.body.to_vec(), expected, "seed {seed}: {read:?}");
        let found: Vec<usize> = encoder.refused.iter().map(|(at, _)| *at).collect();
        assert_eq!(found, wrong, "seed {seed}");
        refused += wrong.len();
        quick += encoder.runs.iter().map(|run| run.end - run.start).sum::<usize>();
    }
    assert!(refused > 50 && quick > 5_000, "{refused} {quick}");
}

/// Inserted rows among updated ones, which a filter makes something else of.
#[test]
fn each_of_many_rows_is_judged_as_the_bitmap_says_of_it() {
    for seed in 0..24 {
        let mut noise = Noise(seed);
        let count = 1 + noise.below(200) as usize;
        let (mut batch, mut rows) = scattered(&mut noise, count);
        let mut bits = vec![0; count.div_ceil(8)];
        let mut expected = Vec::new();
        for (image, row) in rows.iter_mut().enumerate() {
            if noise.below(1 + seed) > 12 {
                row.op = Op::Update;
            }
            let line = shown(&batch, &[*row]).remove(0);
            let id = line.split(' ').nth(1).unwrap();
            let matches = noise.below(3) > 0;
            bits[image / 8] |= u8::from(matches) << (image % 8);
            match (row.op, matches) {
                (Op::Insert, true) => expected.push(line),
                (Op::Insert, false) => {}
                (_, true) => expected.push(line.replace("update", "upsert")),
                (_, false) => expected.push(format!("delete ({id} -)")),
            }
        }
        let reply = arr(&[i(0), bin(&bits), nil()]);
        let mut chain = filter(wishes(&[1], &[], None), reply).chain().unwrap();
        chain.process(&mut batch, &mut rows, &mut Processed::default()).unwrap();
        assert_eq!(shown(&batch, &rows), expected, "seed {seed}");
    }
}
