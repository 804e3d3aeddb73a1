//! Versions of routes: where they are recorded, and that no transaction meets two.

use super::*;

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
