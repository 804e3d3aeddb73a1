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

mod in_place;
mod letters;
mod straight;
mod versions;

/// What a sink got: for each delivery its sequence and its rows as `commit LSN:ordinal operation relations`.
type Got = Arc<Mutex<Vec<(u64, Vec<String>)>>>;

/// What all sinks got.
type AllGot = Vec<Vec<(u64, Vec<String>)>>;

/// Everything that any sink got.
type Deliveries = Arc<Mutex<Vec<Delivery>>>;

struct Recorder(Got, Deliveries);

impl Sink for Recorder {
    fn open<'a>(&'a mut self, _: &'a SinkContext) -> SinkFuture<'a, Option<Lsn>> {
        Box::pin(async { Ok(None) })
    }

    fn write<'a>(&'a mut self, delivery: &'a Delivery) -> SinkFuture<'a, Progress> {
        let batch = &delivery.batch;
        let shown = |row: &Row| {
            let relations = match row.op {
                Op::Truncate => batch.truncates[row.extra as usize].relations.clone(),
                _ => vec![row.relation],
            };
            let names: Vec<_> = relations
                .iter()
                .map(|at| batch.relations[*at as usize].table.as_str())
                .collect();
            let commit = batch.transaction(row).commit_lsn;
            format!("{commit}:{} {} {}", row.ordinal, row.op.name(), names.join("+"))
        };
        let rows = delivery.rows.iter().map(shown).collect();
        self.0.lock().unwrap().push((delivery.sequence, rows));
        self.1.lock().unwrap().push(delivery.clone());
        Box::pin(async { Ok(Progress::Durable(delivery.sequence)) })
    }

    fn flush(&mut self) -> SinkFuture<'_, u64> {
        Box::pin(async { Ok(0) })
    }

    fn close(&mut self) -> SinkFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

struct NoMemory;

impl KnownColumns for NoMemory {
    fn known(&mut self, met: &[Met]) -> anyhow::Result<Vec<Vec<String>>> {
        Ok(met.iter().map(|met| met.present.clone()).collect())
    }

    fn shapes(&mut self, _: &str, _: &str) -> anyhow::Result<Vec<TableShape>> {
        Ok(Vec::new())
    }

    fn names(&mut self) -> anyhow::Result<Vec<RoutedTable>> {
        Ok(Vec::new())
    }

    fn set_shapes(&mut self, _: &[RouteShapes]) -> anyhow::Result<()> {
        Ok(())
    }

    fn numbers(&mut self, _: u32) -> anyhow::Result<Vec<NumberedColumn>> {
        Ok(Vec::new())
    }

    fn set_numbers(&mut self, _: u32, _: Vec<NumberedColumn>) -> anyhow::Result<()> {
        Ok(())
    }
}

fn route(table: &str, sinks: &[usize], chain: Option<Chain>) -> RouteParts {
    let config = Route {
        tables: vec![TablePattern {
            schema: "public".into(),
            table: table.into(),
        }],
        columns: None,
        on_new_column: OnNewColumn::Pass,
        on_schema_change: OnSchemaChange::Evolve,
        filter: FilterMode::Membership,
        plugins: vec![],
        sinks: vec![],
    };
    RouteParts {
        config: Arc::new(config),
        lanes: vec![LaneChain::of(chain)],
        waiting: None,
        sinks: sinks.to_vec(),
    }
}

fn letter_limits() -> crate::config::DeadLetters {
    crate::config::DeadLetters {
        quota: ByteSize(1 << 20),
        retention: crate::config::Duration(Duration::from_secs(3600)),
        max_behind: 100,
    }
}

struct Bench {
    runtime: tokio::runtime::Runtime,
    folder: tempfile::TempDir,
    store: StateStore,
    letters: DeadLetters,
    queue: Arc<Queue<Input>>,
    frontier: Arc<Frontier<Mark>>,
    delivered: Deliveries,
    /// Whether the sinks take copied rows in binary form.
    take_binary: bool,
    /// As [`Parts::only`].
    only: FxHashMap<u32, Vec<usize>>,
}

impl Bench {
    /// As after a start with the same folder.
    fn again(self) -> Self {
        Self {
            queue: Arc::new(Queue::new(1 << 20)),
            frontier: Arc::new(Frontier::new(1)),
            ..self
        }
    }

    fn new(sinks: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            runtime: tokio::runtime::Runtime::new().unwrap(),
            store: StateStore::open(folder.path(), "shop").unwrap(),
            letters: DeadLetters::open(folder.path(), "shop", &letter_limits()).unwrap(),
            folder,
            queue: Arc::new(Queue::new(1 << 20)),
            frontier: Arc::new(Frontier::new(sinks)),
            delivered: Deliveries::default(),
            take_binary: false,
            only: FxHashMap::default(),
        }
    }

    fn push(&self, batch: Builder) {
        let batch = Arc::try_unwrap(batch.delivery(0).batch).unwrap();
        self.queue.push_now(Input::Batch(batch)).unwrap();
    }

    /// Lets the pipeline do all that was pushed, and returns what each sink got.
    fn run(&self, routes: Vec<RouteParts>, sinks: usize, resent_until: u64) -> AllGot {
        let (got, end) = self.run_to_end(routes, sinks, resent_until);
        assert!(matches!(end, LaneEnd::Finished), "{end:?}");
        got
    }

    fn run_to_end(&self, routes: Vec<RouteParts>, sinks: usize, resent_until: u64) -> (AllGot, LaneEnd) {
        self.run_as(routes, sinks, resent_until, |_| ())
    }

    /// With an intake that isn't what it is at a start.
    fn run_as(
        &self,
        routes: Vec<RouteParts>,
        sinks: usize,
        resent_until: u64,
        change: impl FnOnce(&mut Intake),
    ) -> (AllGot, LaneEnd) {
        let _entered = self.runtime.enter();
        let plan = Plan {
            tables: vec![],
            connections: 1,
            unit_rows: 1,
            units_under_way: 1,
            patience: Duration::ZERO,
            patient: false,
            pace: Arc::new(snapshot::Pace::new(None)),
            room: snapshot::WaitingRoom::new(std::path::Path::new("/nowhere"), 0, Arc::default()),
        };
        let (_copier, merger) = snapshot::start(plan, || async { anyhow::bail!("nothing is copied") });
        let got: Vec<Got> = (0..sinks).map(|_| Got::default()).collect();
        let mut outlets = Vec::new();
        let mut drivers = Vec::new();
        for (at, got) in got.iter().enumerate() {
            let sink = Box::new(Recorder(Arc::clone(got), Arc::clone(&self.delivered)));
            let told = Arc::clone(&self.frontier);
            let durable = move |sequence| told.durable(at, sequence);
            let (handle, driver) = Driver::new(sink, context("s"), ByteSize(1 << 20), Duration::ZERO, durable);
            outlets.push(Outlet::new(handle).with_binary(self.take_binary));
            drivers.push(self.runtime.spawn(driver.run()));
        }
        self.queue.push_now(Input::Finish).unwrap();
        let intake = Intake::new(Parts {
            queue: Arc::clone(&self.queue),
            lanes: routes.iter().map(|route| route.lanes.len()).max().unwrap_or(1),
            routes,
            outlets,
            known: Box::new(NoMemory),
            selected: crate::pipeline::Selected::default(),
            live: Arc::default(),
            merger,
            only: self.only.clone(),
            frontier: Arc::clone(&self.frontier),
            store: self.store.clone(),
            letters: self.letters.clone(),
            stats: Arc::default(),
            metrics: Arc::default(),
            tap: Box::new(|_, _| {}),
            copied: Box::new(|_| {}),
            position: Lsn(0x8),
            resent_until: Lsn(resent_until),
            probation: ProbationLimits {
                time: Duration::from_secs(60),
                batches: 1000,
            },
            probation_told: Arc::new(|_, _| ()),
            recent: Arc::default(),
        });
        let mut intake = intake.unwrap_or_else(|end| panic!("{end:?}"));
        change(&mut intake);
        let end = intake.run();
        for driver in drivers {
            self.runtime.block_on(driver).unwrap();
        }
        let got = got.iter().map(|got| std::mem::take(&mut *got.lock().unwrap()));
        (got.collect(), end)
    }
}

fn customers() -> Arc<Relation> {
    let mut customers = Relation::clone(&relation("customers", &[("id", 20, "bigint", true)]));
    customers.oid = 16_385;
    Arc::new(customers)
}

fn rows(got: &[(u64, Vec<String>)]) -> Vec<&str> {
    got.iter().flat_map(|(_, rows)| rows).map(String::as_str).collect()
}

const ORDER: [&str; 3] = ["1", "a", "2"];

fn order(builder: Builder, orders: &Arc<Relation>) -> Builder {
    builder.insert(orders, &ORDER.map(text))
}

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

fn payments() -> Arc<Relation> {
    let column = |name, key| (name, 20, "bigint", key);
    let columns = [
        column("id", true),
        column("customer", false),
        column("amount", false),
        column("total", false),
    ];
    relation("payments", &columns)
}

fn payment(builder: Builder, payments: &Arc<Relation>) -> Builder {
    builder.insert(payments, &["1", "7", "5", "0"].map(text))
}

/// The totals that are stored with a position.
fn stored_totals(marks: &[Mark]) -> Vec<i64> {
    let of = |mark: &Mark| match mark {
        Mark::State(state) => Some(i64::from_le_bytes((*state.bytes).try_into().unwrap())),
        _ => None,
    };
    marks.iter().filter_map(of).collect()
}

#[test]
fn a_position_waits_for_the_state_that_belongs_to_it() {
    let (bench, payments) = (Bench::new(1), payments());
    for commit in [0x10, 0x20, 0x30] {
        bench.push(payment(Builder::new().transaction(commit, Part::Whole), &payments));
    }
    bench.run(vec![route("payments", &[0], Some(chain_that_counts()))], 1, 0);
    let advance = bench.frontier.take().unwrap();
    assert_eq!(
        (advance.lsn, stored_totals(&advance.marks)),
        (Some(Lsn(0x38)), vec![15])
    );
}

#[test]
fn a_transaction_that_hasnt_ended_is_in_no_stored_state() {
    let (bench, payments) = (Bench::new(1), payments());
    bench.push(payment(Builder::new().transaction(0x10, Part::Whole), &payments));
    bench.push(payment(Builder::new().transaction(0x20, Part::First), &payments));
    bench.run(vec![route("payments", &[0], Some(chain_that_counts()))], 1, 0);
    assert_eq!(bench.frontier.take(), None);
}

#[test]
fn rows_of_other_routes_wait_for_no_state() {
    let (bench, payments, orders) = (Bench::new(1), payments(), orders());
    bench.push(order(Builder::new().transaction(0x10, Part::Whole), &orders));
    bench.push(payment(Builder::new().transaction(0x20, Part::First), &payments));
    let routes = vec![
        route("payments", &[0], Some(chain_that_counts())),
        route("orders", &[0], None),
    ];
    bench.run(routes, 1, 0);
    let advance = bench.frontier.take().unwrap();
    assert_eq!((advance.lsn, advance.marks), (Some(Lsn(0x18)), vec![]));
}
