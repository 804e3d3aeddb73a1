//! Versions of routes: where they are recorded, and that no transaction meets two.

use super::*;
use crate::pipeline::Probation;

/// A version for each lane, as a reload hands it over.
fn swap(route: usize, lanes: usize, drops: bool, version: &ChainVersion) -> Input {
    let (done, _) = tokio::sync::oneshot::channel();
    Input::Swap(Box::new(Swap {
        route,
        chains: (0..lanes).map(|_| chain_that(drops)).collect(),
        version: version.clone(),
        done,
    }))
}

#[test]
fn routes_with_the_same_tables_have_versions_of_their_own() {
    let bench = Bench::new(2);
    let new = ChainVersion {
        plugins: vec![version("new")],
        ..ChainVersion::default()
    };
    bench.queue.push_now(swap(1, 1, false, &new)).unwrap();
    let of = |sink| route("orders", &[sink], Some(chain_that(false)));
    bench.run(vec![of(0), of(1)], 2, 0);
    assert_eq!(bench.store.chain_versions("public.orders").unwrap(), []);
    assert_eq!(
        bench.store.chain_versions("public.orders#2").unwrap(),
        [(Lsn(0x8), new)]
    );
}

/// A session begins with a version on probation, and somebody goes back from it before all that an earlier run may have
/// delivered has come again.
#[test]
fn a_version_that_is_gone_back_from_meets_all_that_comes_again() {
    let (bench, orders) = (Bench::new(1), orders());
    let before = || chain_that(false);
    let candidate = || LaneVersion {
        from: Lsn(0x8),
        plugins: vec![version("new")],
    };
    let mut lanes: Vec<LaneChain> = (0..3).map(|_| LaneChain::of(Some(before()))).collect();
    lanes[0].chain = Some(chain_that(true));
    lanes[0].version = candidate();
    lanes[0].probation = Some(Probation::new(0, Some(before()), vec![version("old")]));
    let parts = RouteParts {
        lanes,
        waiting: Some(Waiting {
            version: candidate(),
            chains: vec![chain_that(true), chain_that(true)],
        }),
        ..route("orders", &[0], None)
    };
    let back = ChainVersion {
        plugins: vec![version("old")],
        went_back: true,
        ..ChainVersion::default()
    };
    bench.push(order(Builder::new().transaction(0x10, Part::Whole), &orders));
    bench.queue.push_now(swap(0, 3, false, &back)).unwrap();
    for commit in (0x20..=0x90).step_by(0x10) {
        bench.push(order(Builder::new().transaction(commit, Part::Whole), &orders));
    }
    let got = bench.run(vec![parts], 1, 0x60);
    // What is dropped is dropped by the version on probation, which had all of it before.
    let kept = [0x60, 0x70, 0x80, 0x90].map(|commit| format!("{}:0 insert orders", Lsn(commit)));
    assert_eq!(rows(&got[0]), kept);
}
