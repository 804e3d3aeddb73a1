//! Tables that plugins pass by, drop, or give another shape.

use super::*;
use crate::plugin::ChainOutcome;

/// `[schema, table, [[name, type_oid, type_name, key], ...]]`
fn shape(table: &str, columns: &[(&str, u32, bool)]) -> Vec<u8> {
    let columns: Vec<_> = columns
        .iter()
        .map(|(name, oid, key)| arr(&[s(name), i(i64::from(*oid)), s("t"), yes(*key)]))
        .collect();
    arr(&[s("out"), s(table), arr(&columns)])
}

fn one(chain: &mut Chain, old: Option<(OldImage, &[&str])>, new: Option<&[&str]>) -> Result<(Batch, Row), PluginError> {
    let mut batch = batch(&people());
    let op = if new.is_some() { Op::Update } else { Op::Delete };
    let mut rows = vec![row(&mut batch, op, old, new)];
    chain.process(&mut batch, &mut rows, &mut Processed::default())?;
    assert_eq!(rows.len(), 1);
    Ok((batch, rows[0]))
}

#[test]
fn passed_by_and_dropped() {
    let mut chain = transform(ints(&[0, 1]), Vec::new()).chain().unwrap();
    assert_eq!(chain.relation(&people()).unwrap(), ChainOutcome::PassBy);
    let (batch, row) = one(&mut chain, None, Some(&["1", "a"])).unwrap();
    assert_eq!(shown(&batch, &[row]), ["update 1 a"]);

    let relation = people();
    let mut chain = transform(ints(&[0, 2]), Vec::new()).chain().unwrap();
    assert_eq!(chain.relation(&relation).unwrap(), ChainOutcome::Drop);
    let mut batch = super::batch(&relation);
    batch.truncates.push(crate::batch::Truncate {
        relations: vec![0],
        cascade: false,
        restart_identity: false,
    });
    let mut rows = vec![row_insert(&mut batch), super::row(&mut batch, Op::Truncate, None, None)];
    chain.process(&mut batch, &mut rows, &mut Processed::default()).unwrap();
    assert!(rows.is_empty());
}

fn row_insert(batch: &mut Batch) -> Row {
    row(batch, Op::Insert, None, Some(&["1", "a"]))
}

#[test]
fn columns_are_renamed_added_and_dropped() {
    let outputs = arr(&[shape("t2", &[("id", INT4, true), ("domain", TEXT, false)])]);
    let reply = actions(&[patch(1, 1, s("b.org"))]);
    let guest = transform(wishes(&[1], &[1], Some(outputs)), reply);
    let mut chain = guest.chain().unwrap();
    let relation = people();
    let ChainOutcome::Outputs(outputs) = chain.relation(&relation).unwrap() else {
        panic!()
    };
    assert_eq!(outputs[0].full_name(), "out.t2");
    // The same shape of the same table is the same relation in every lane.
    assert_eq!(
        guest.chain().unwrap().relation(&relation).unwrap(),
        ChainOutcome::Outputs(outputs)
    );

    let (batch, row) = one(&mut chain, Some((OldImage::Key, &["9", "-"])), Some(&["1", "a@b.org"])).unwrap();
    assert_eq!(batch.relation(&row).full_name(), "out.t2");
    assert_eq!(shown(&batch, &[row]), ["update (9 -) 1 b.org"]);
}

#[test]
fn a_new_key_must_be_written_in_every_image() {
    let outputs = arr(&[shape("t2", &[("hash", TEXT, true), ("email", TEXT, false)])]);
    let both = actions(&[patch(0, 0, s("h9")), patch(1, 0, s("h1"))]);
    let mut chain = transform(wishes(&[0], &[0], Some(outputs.clone())), both)
        .chain()
        .unwrap();
    let (batch, row) = one(&mut chain, Some((OldImage::Key, &["9", "-"])), Some(&["1", "a"])).unwrap();
    assert_eq!(shown(&batch, &[row]), ["update (h9 -) h1 a"]);

    let new_only = actions(&[patch(1, 0, s("h1"))]);
    let mut chain = transform(wishes(&[0], &[0], Some(outputs)), new_only).chain().unwrap();
    let error = one(&mut chain, Some((OldImage::Key, &["9", "-"])), Some(&["1", "a"])).unwrap_err();
    assert!(text_of(&error).contains("hash is part of the key"), "{error}");
}

#[test]
fn rows_fan_out_into_several_outputs() {
    let outputs = arr(&[
        shape("t1", &[("id", INT4, true), ("email", TEXT, false)]),
        shape("t2", &[("word", TEXT, true)]),
    ]);
    let made = arr(&[
        arr(&[i(0), i(0), arr(&[i(1), s("a b")]), nil()]),
        arr(&[i(0), i(1), arr(&[s("a")]), nil()]),
        arr(&[i(0), i(1), arr(&[s("b")]), nil()]),
    ]);
    let reply = actions(&[arr(&[i(0), i(4), made])]);
    let mut chain = transform(wishes(&[1], &[1], Some(outputs)), reply).chain().unwrap();
    let relation = people();
    let mut batch = batch(&relation);
    let mut rows = vec![row(&mut batch, Op::Insert, None, Some(&["1", "a b"]))];
    chain.process(&mut batch, &mut rows, &mut Processed::default()).unwrap();
    assert_eq!(shown(&batch, &rows), ["insert 1 a b", "insert a", "insert b"]);
    let ids: Vec<_> = rows
        .iter()
        .map(|row| (batch.relation(row).table.as_str(), row.fan_out))
        .collect();
    assert_eq!(ids, [("t1", 0), ("t2", 1), ("t2", 2)]);

    // A truncate reaches all that was made of the table.
    batch.truncates.push(crate::batch::Truncate {
        relations: vec![0],
        cascade: true,
        restart_identity: false,
    });
    let mut rows = vec![row(&mut batch, Op::Truncate, None, None)];
    chain.process(&mut batch, &mut rows, &mut Processed::default()).unwrap();
    let truncate = &batch.truncates[rows[0].extra as usize];
    let tables: Vec<_> = truncate
        .relations
        .iter()
        .map(|at| batch.relations[*at as usize].table.as_str())
        .collect();
    assert_eq!((tables, truncate.cascade), (vec!["t1", "t2"], true));
}

/// Nothing of the table has come before, and the plugin doesn't ask for truncates.
#[test]
fn a_truncate_that_comes_first_reaches_what_would_be_made_of_the_table() {
    let outputs = |table| arr(&[shape(table, &[("id", INT4, true), ("email", TEXT, false)])]);
    let into = |table| transform(wishes(&[1], &[1], Some(outputs(table))), Vec::new());
    let drops = || transform(ints(&[0, 2]), Vec::new());
    let passes = || transform(ints(&[0, 1]), Vec::new());
    for (guests, reached) in [
        (vec![into("t2")], vec!["out.t2"]),
        (vec![into("t2"), into("t3")], vec!["out.t3"]),
        (vec![passes(), into("t2")], vec!["out.t2"]),
        (vec![into("t2"), drops()], vec![]),
        (vec![passes()], vec!["public.t"]),
    ] {
        let versions: Vec<_> = guests.iter().map(|guest| guest.version("guest").unwrap()).collect();
        let mut chain = Chain::new(&ENGINE, &versions, FilterMode::Membership, Mode::Live).unwrap();
        let mut batch = batch(&people());
        batch.truncates.push(crate::batch::Truncate {
            relations: vec![0],
            cascade: false,
            restart_identity: false,
        });
        let mut rows = vec![row(&mut batch, Op::Truncate, None, None)];
        chain.process(&mut batch, &mut rows, &mut Processed::default()).unwrap();
        let truncates = rows.iter().map(|row| &batch.truncates[row.extra as usize]);
        let relations = truncates.flat_map(|truncate| &truncate.relations);
        let tables: Vec<_> = relations.map(|at| batch.relations[*at as usize].full_name()).collect();
        assert_eq!(tables, reached);
    }
}

/// What it makes of a whole batch is bounded as well; the batch stays as it was.
#[test]
fn p11_a_batch_of_rows_that_fan_out_is_bounded_as_a_whole() {
    const EACH: usize = 100;
    let made = arr(&vec![arr(&[i(0), i(0), arr(&[i(1), s("a")]), nil()]); EACH]);
    // As many rows as the limit has room for, and one more.
    for (rows, fits) in [(10, true), (11, false)] {
        let all: Vec<_> = (0..rows).map(|at| arr(&[i(at), i(4), made.clone()])).collect();
        let guest = transform(wishes(&[1], &[0, 1], None), actions(&all));
        let mut version = guest.version("bomb").unwrap();
        version.limits.rows = 10 * EACH as u64;
        let mut chain = Chain::new(&ENGINE, &[version], FilterMode::Membership, Mode::Live).unwrap();
        let relation = people();
        // Each batch begins anew.
        for _ in 0..2 {
            let mut batch = batch(&relation);
            let mut came: Vec<_> = (0..rows as u64)
                .map(|ordinal| Row {
                    ordinal,
                    ..row(&mut batch, Op::Insert, None, Some(&["1", "a"]))
                })
                .collect();
            let done = chain.process(&mut batch, &mut came, &mut Processed::default());
            if fits {
                done.unwrap();
                assert_eq!(came.len(), 10 * EACH);
                continue;
            }
            let problem = done.unwrap_err().problem();
            assert_eq!(problem.code, "E0316");
            assert!(
                problem.headline.contains("plugin bomb makes more than 1000 rows"),
                "{problem}"
            );
            assert!(problem.help.contains("`limits: rows` of plugin bomb"), "{problem}");
            assert!(problem.cause.unwrap().contains("change 10"));
            assert_eq!(came.len(), 11);
        }
    }
}
