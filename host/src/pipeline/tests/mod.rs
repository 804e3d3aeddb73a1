use super::*;
use crate::batch::{Delivery, Op, Part, Relation};
use crate::checkpoint::{ChainVersion, NumberedColumn, RouteShapes, RoutedTable, TableShape};
use crate::config::{ByteSize, FilterMode, OnNewColumn, OnSchemaChange, Route, TablePattern};
use crate::pipeline::columns::{KnownColumns, Met};
use crate::pipeline::lane::{LaneVersion, Later};
use crate::pipeline::outflow::Outlet;
use crate::pipeline::probation::ProbationLimits;
use crate::plugin::tests::{chain_that, chain_that_counts};
use crate::sink::driver::Driver;
use crate::sink::testing::{Builder, context, orders, relation, text};
use crate::sink::{Progress, Sink, SinkContext, SinkFuture};
use crate::snapshot::{self, Plan};
use rustc_hash::FxHashMap;
use std::sync::Mutex;

mod bench;
mod in_place;
mod late;
mod letters;
mod states;
mod straight;
mod versions;

use bench::*;
use states::{payments, stored_totals};

#[test]
fn two_routes_that_feed_one_sink_keep_commit_order() {
    let (bench, orders, customers) = (Bench::new(1), orders(), customers());
    let mut batch = Builder::new();
    for commit in [0x10, 0x20] {
        batch = batch.transaction(commit, Part::Whole).insert(&customers, &[text("1")]);
        batch = order(batch, &orders).insert(&customers, &[text("2")]);
    }
    bench.push(batch);
    let got = bench.run(vec![route("orders", &[0], None), route("customers", &[0], None)], 1, 0);
    let of = |commit: &str| {
        ["0 insert customers", "1 insert orders", "2 insert customers"].map(|row| format!("{commit}:{row}"))
    };
    assert_eq!(rows(&got[0]), [of("0/10"), of("0/20")].concat());
    assert_eq!(bench.frontier.take().unwrap().lsn, Some(Lsn(0x28)));
}

#[test]
fn a_batch_is_divided_where_a_recorded_version_begins() {
    let (bench, orders) = (Bench::new(1), orders());
    let mut batch = Builder::new();
    for commit in [0x10, 0x20, 0x30] {
        batch = order(batch.transaction(commit, Part::Whole), &orders);
    }
    bench.push(batch);
    let mut split = route("orders", &[0], Some(chain_that(false)));
    split.lanes[0]
        .later
        .push_back(Later::trusted(Lsn(0x20), chain_that(true)));
    split.lanes[0]
        .later
        .push_back(Later::trusted(Lsn(0x30), chain_that(false)));
    let got = bench.run(vec![split], 1, 0);
    assert_eq!(rows(&got[0]), ["0/10:0 insert orders", "0/30:0 insert orders"]);
}

#[test]
fn a_truncate_reaches_each_route_with_its_own_tables() {
    let (bench, orders, customers) = (Bench::new(3), orders(), customers());
    let batch = Builder::new().transaction(0x10, Part::Whole);
    bench.push(batch.truncate(&[&orders, &customers], true, false));
    let routes = vec![
        route("orders", &[0], None),
        route("*", &[1], None),
        route("invoices", &[2], None),
    ];
    let got = bench.run(routes, 3, 0);
    assert_eq!(rows(&got[0]), ["0/10:0 truncate orders"]);
    assert_eq!(rows(&got[1]), ["0/10:0 truncate orders+customers"]);
    assert_eq!(got[2], []);
}

#[test]
fn whoever_saw_a_transaction_begin_is_told_its_end() {
    let (bench, orders, customers) = (Bench::new(2), orders(), customers());
    bench.push(order(Builder::new().transaction(0x10, Part::First), &orders));
    bench.push(
        Builder::new()
            .transaction(0x10, Part::Middle)
            .insert(&customers, &[text("1")]),
    );
    bench.push(Builder::new().transaction(0x10, Part::Last));
    bench.push(Builder::new().transaction(0x20, Part::Whole));
    let got = bench.run(vec![route("orders", &[0], None), route("customers", &[1], None)], 2, 0);
    let sequences = |sink: usize| got[sink].iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>();
    assert_eq!((sequences(0), sequences(1)), (vec![1, 2, 3], vec![2, 3]));
}

#[test]
fn a_new_version_leaves_alone_what_is_sent_again() {
    let (bench, orders) = (Bench::new(1), orders());
    let version = ChainVersion::default();
    let (done, counts_from) = tokio::sync::oneshot::channel();
    let swap = Swap {
        route: 0,
        chains: vec![chain_that(true)],
        version: version.clone(),
        done,
    };
    bench.push(order(Builder::new().transaction(0x10, Part::Whole), &orders));
    bench.queue.push_now(Input::Swap(Box::new(swap))).unwrap();
    let mut batch = Builder::new();
    for commit in [0x20, 0x30] {
        batch = order(batch.transaction(commit, Part::Whole), &orders);
    }
    bench.push(batch);
    let got = bench.run(vec![route("orders", &[0], Some(chain_that(false)))], 1, 0x30);
    assert_eq!(rows(&got[0]), ["0/10:0 insert orders", "0/20:0 insert orders"]);
    assert_eq!(counts_from.blocking_recv().unwrap().unwrap(), Lsn(0x30));
    assert_eq!(
        bench.store.chain_versions("public.orders").unwrap(),
        [(Lsn(0x30), version)]
    );
    drop(bench.folder);
}

/// Batches of many sizes, some of them parts of one transaction: `lanes` lanes give what one gives.
fn through_lanes(lanes: usize) -> Vec<(u64, Vec<String>)> {
    let (bench, orders, customers) = (Bench::new(1), orders(), customers());
    for at in 0..300u64 {
        let commit = 0x100 * (at / 3 + 1);
        let part = [Part::First, Part::Middle, Part::Last][(at % 3) as usize];
        let mut batch = Builder::new().transaction(commit, part);
        for row in 0..(at * 7919 % 50) {
            batch = match row % 3 {
                0 => batch.insert(&customers, &[text("1")]),
                _ => order(batch, &orders),
            };
        }
        bench.push(batch);
    }
    let several = |table, chain: fn() -> Chain| {
        let mut parts = route(table, &[0], None);
        parts.lanes = (0..lanes).map(|_| LaneChain::of(Some(chain()))).collect();
        parts
    };
    let routes = vec![
        several("orders", || chain_that(false)),
        several("customers", || chain_that(false)),
    ];
    bench.run(routes, 1, 0).remove(0)
}

#[test]
fn several_lanes_keep_the_order_of_one() {
    let one = through_lanes(1);
    assert!(one.len() > 100);
    assert_eq!(through_lanes(4), one);
}

#[test]
fn a_version_takes_over_in_all_lanes_behind_the_same_batch() {
    let (bench, orders) = (Bench::new(1), orders());
    let lane = |drops| LaneChain::of(Some(chain_that(drops)));
    let mut commit = 0;
    for drops in [true, false, true, false] {
        for _ in 0..20 {
            commit += 0x10;
            bench.push(order(Builder::new().transaction(commit, Part::Whole), &orders));
        }
        let (done, _) = tokio::sync::oneshot::channel();
        let chains = (0..3).map(|_| chain_that(drops)).collect();
        let version = ChainVersion::default();
        let swap = Swap {
            route: 0,
            chains,
            version,
            done,
        };
        bench.queue.push_now(Input::Swap(Box::new(swap))).unwrap();
    }
    let parts = RouteParts {
        lanes: (0..3).map(|_| lane(false)).collect(),
        ..route("orders", &[0], None)
    };
    let got = bench.run(vec![parts], 1, 0);
    // The first twenty, and those between the second and the third swap.
    let kept = (1..=20)
        .chain(41..=60)
        .map(|at| format!("{}:0 insert orders", Lsn(at * 0x10)));
    assert_eq!(rows(&got[0]), kept.collect::<Vec<_>>());
}

#[test]
fn a_plugin_that_fails_in_one_lane_ends_all_and_lets_nothing_out_behind_it() {
    let (bench, orders) = (Bench::new(1), orders());
    for at in 1..=50u64 {
        bench.push(order(Builder::new().transaction(at * 0x10, Part::Whole), &orders));
    }
    let broken = || LaneChain::of(Some(crate::plugin::tests::chain_that_stops()));
    let good = || LaneChain::of(Some(chain_that(false)));
    let parts = RouteParts {
        // Batches go round from the second lane on: the third batch meets the first lane.
        lanes: vec![broken(), good(), good()],
        ..route("orders", &[0], None)
    };
    let (got, end) = bench.run_to_end(vec![parts], 1, 0);
    assert!(matches!(end, LaneEnd::Problem(_)), "{end:?}");
    assert_eq!(rows(&got[0]), ["0/10:0 insert orders", "0/20:0 insert orders"]);
}

fn version(module: &str) -> crate::checkpoint::PluginVersion {
    crate::checkpoint::PluginVersion {
        name: "guest".into(),
        module: module.into(),
        config: String::new(),
        written: serde_json::Value::Null,
        limits: serde_json::Value::Null,
    }
}

/// A version on probation breaks: all of its batch has the version before, which is durable, and what broke is set aside.
#[test]
fn a_version_that_breaks_gives_way_from_the_first_transaction_of_which_nothing_has_left() {
    for lanes in [1, 3] {
        let (bench, orders) = (Bench::new(1), orders());
        bench.push(order(Builder::new().transaction(0x10, Part::Whole), &orders));
        let (done, _) = tokio::sync::oneshot::channel();
        let candidate = ChainVersion {
            plugins: vec![version("new")],
            fallback: Some(vec![version("old")]),
            ..ChainVersion::default()
        };
        let swap = Swap {
            route: 0,
            chains: (0..lanes).map(|_| crate::plugin::tests::chain_that_breaks()).collect(),
            version: candidate,
            done,
        };
        bench.queue.push_now(Input::Swap(Box::new(swap))).unwrap();
        for commits in [[0x20, 0x30], [0x40, 0x50]] {
            let mut batch = Builder::new();
            for commit in commits {
                batch = order(batch.transaction(commit, Part::Whole), &orders);
            }
            bench.push(batch);
        }
        let old = || LaneChain {
            version: LaneVersion {
                from: Lsn(0),
                plugins: vec![version("old")],
            },
            ..LaneChain::of(Some(chain_that(false)))
        };
        let parts = RouteParts {
            lanes: (0..lanes).map(|_| old()).collect(),
            ..route("orders", &[0], None)
        };
        let got = bench.run(vec![parts], 1, 0);
        let all = [0x10, 0x20, 0x30, 0x40, 0x50].map(|at| format!("{}:0 insert orders", Lsn(at)));
        assert_eq!(rows(&got[0]), all);
        let recorded = bench.store.chain_versions("public.orders").unwrap();
        let newest = &recorded.last().unwrap().1;
        assert_eq!((newest.plugins[0].module.as_str(), &newest.fallback), ("old", &None));
        let aside = bench.store.plugin_record("guest").unwrap().set_aside.unwrap();
        assert_eq!(aside.version.module, "new");
    }
}

/// A plugin of two routes, new in both, breaks in one of them: the other goes back in the same batch, with no row of its
/// own that would show it.
#[test]
fn a_version_that_breaks_in_one_route_gives_way_in_the_others_too() {
    // Whichever of them comes first.
    for (breaks, other) in [("orders", "customers"), ("customers", "orders")] {
        let (bench, orders, customers) = (Bench::new(1), orders(), customers());
        let both = |builder: Builder| {
            let builder = order(builder, &orders);
            builder.insert(&customers, &[text("1")])
        };
        bench.push(both(Builder::new().transaction(0x10, Part::Whole)));
        let names = ["orders", "customers"];
        for (route, name) in names.into_iter().enumerate() {
            let (done, _) = tokio::sync::oneshot::channel();
            let chain = match name == breaks {
                true => crate::plugin::tests::chain_that_breaks(),
                false => chain_that(true),
            };
            let version = ChainVersion {
                plugins: vec![version("new")],
                fallback: Some(vec![version("old")]),
                ..ChainVersion::default()
            };
            let chains = vec![chain];
            let swap = Swap {
                route,
                chains,
                version,
                done,
            };
            bench.queue.push_now(Input::Swap(Box::new(swap))).unwrap();
        }
        bench.push(both(Builder::new().transaction(0x20, Part::Whole)));
        bench.push(both(Builder::new().transaction(0x30, Part::Whole)));
        let parts = |name: &str| RouteParts {
            lanes: vec![LaneChain {
                version: LaneVersion {
                    from: Lsn(0),
                    plugins: vec![version("old")],
                },
                ..LaneChain::of(Some(chain_that(false)))
            }],
            ..route(name, &[0], None)
        };
        let got = bench.run(names.map(parts).into(), 1, 0);
        let got = rows(&got[0]);
        let of = |table: &str| got.iter().filter(|row| row.ends_with(table)).count();
        // The new version drops what it is given: of the other route it had the one batch at most.
        assert_eq!(of(breaks), 3, "{got:?}");
        assert_eq!(of(other), if other == "orders" { 2 } else { 3 }, "{got:?}");
        for name in names {
            let recorded = bench.store.chain_versions(&format!("public.{name}")).unwrap();
            let (from, newest) = recorded.last().unwrap();
            assert_eq!((newest.plugins[0].module.as_str(), &newest.fallback), ("old", &None));
            let expected = if name == "orders" && other == "orders" {
                0x21
            } else {
                0x20
            };
            assert!(*from <= Lsn(expected), "{name} from {from}");
        }
    }
}
