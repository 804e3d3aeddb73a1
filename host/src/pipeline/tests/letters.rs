//! Dead letters beside the copy of a table.

use super::*;
use crate::plugin::tests::chain_that_masks_and_rejects;

#[test]
fn a_sink_that_is_emptied_for_a_copy_of_its_own_frees_no_key() {
    let orders = orders();
    for (only, truncated, blocked) in [(None, [1, 1], 0), (Some(vec![1]), [0, 1], 1)] {
        let mut bench = Bench::new(2);
        bench.only.extend(only.map(|sinks| (orders.oid, sinks)));
        let ids = ["1", "2", "3"];
        let stream = Builder::new().transaction(0x10, Part::Whole);
        let inserted = ids
            .iter()
            .fold(stream, |stream, id| stream.insert(&orders, &[id, "a", "2"].map(text)));
        bench.push(inserted);
        bench.push(Builder::new().copy(0x20, 0).truncate(&[&orders], false, false));
        let chain = chain_that_masks_and_rejects(3, 1);
        let got = bench.run(vec![route("orders", &[0, 1], Some(chain))], 2, 0);
        let truncates = |got| rows(got).iter().filter(|row| row.contains("truncate")).count();
        assert_eq!([truncates(&got[0]), truncates(&got[1])], truncated, "{got:?}");
        assert_eq!(bench.letters.counts().letters, 1);
        assert_eq!(bench.letters.counts().blocked_keys, blocked);
    }
}
