//! A pipeline of its own for each test, whose sinks remember what they get.

use super::*;

/// What a sink got: for each delivery its sequence and its rows as `commit LSN:ordinal operation relations`.
pub(super) type Got = Arc<Mutex<Vec<(u64, Vec<String>)>>>;

/// What all sinks got.
pub(super) type AllGot = Vec<Vec<(u64, Vec<String>)>>;

/// Everything that any sink got.
pub(super) type Deliveries = Arc<Mutex<Vec<Delivery>>>;

pub(super) struct Recorder(Got, Deliveries);

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

pub(super) struct NoMemory;

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

pub(super) fn route(table: &str, sinks: &[usize], chain: Option<Chain>) -> RouteParts {
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
        known_as: None,
    };
    RouteParts {
        config: Arc::new(config),
        lanes: vec![LaneChain::of(chain)],
        waiting: None,
        sinks: sinks.to_vec(),
    }
}

pub(super) fn letter_limits() -> crate::config::DeadLetters {
    crate::config::DeadLetters {
        quota: ByteSize(1 << 20),
        retention: crate::config::Duration(Duration::from_secs(3600)),
        max_behind: 100,
    }
}

pub(super) struct Bench {
    pub(super) runtime: tokio::runtime::Runtime,
    pub(super) folder: tempfile::TempDir,
    pub(super) store: StateStore,
    pub(super) letters: DeadLetters,
    pub(super) queue: Arc<Queue<Input>>,
    pub(super) frontier: Arc<Frontier<Mark>>,
    pub(super) delivered: Deliveries,
    /// Whether the sinks take copied rows in binary form.
    pub(super) take_binary: bool,
    /// As [`Parts::only`].
    pub(super) only: FxHashMap<u32, Vec<usize>>,
    /// Called with what a sink of the next run is about to get.
    pub(super) tap: Mutex<Option<Tap>>,
}

impl Bench {
    /// As after a start with the same folder.
    pub(super) fn again(self) -> Self {
        Self {
            queue: Arc::new(Queue::new(1 << 20)),
            frontier: Arc::new(Frontier::new(1)),
            ..self
        }
    }

    pub(super) fn new(sinks: usize) -> Self {
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
            tap: Mutex::default(),
        }
    }

    pub(super) fn push(&self, batch: Builder) {
        let batch = Arc::try_unwrap(batch.delivery(0).batch).unwrap();
        self.queue.push_now(Input::Batch(batch)).unwrap();
    }

    /// Lets the pipeline do all that was pushed, and returns what each sink got.
    pub(super) fn run(&self, routes: Vec<RouteParts>, sinks: usize, resent_until: u64) -> AllGot {
        let (got, end) = self.run_to_end(routes, sinks, resent_until);
        assert!(matches!(end, LaneEnd::Finished), "{end:?}");
        got
    }

    pub(super) fn run_to_end(&self, routes: Vec<RouteParts>, sinks: usize, resent_until: u64) -> (AllGot, LaneEnd) {
        self.run_as(routes, sinks, resent_until, |_| ())
    }

    /// With an intake that isn't what it is at a start.
    pub(super) fn run_as(
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
            let outlet = Outlet::new(handle).with_name(&format!("sink{at}"));
            outlets.push(outlet.with_binary(self.take_binary));
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
            tap: self.tap.lock().unwrap().take().unwrap_or_else(|| Box::new(|_, _| {})),
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

pub(super) fn customers() -> Arc<Relation> {
    let mut customers = Relation::clone(&relation("customers", &[("id", 20, "bigint", true)]));
    customers.oid = 16_385;
    Arc::new(customers)
}

pub(super) fn rows(got: &[(u64, Vec<String>)]) -> Vec<&str> {
    got.iter().flat_map(|(_, rows)| rows).map(String::as_str).collect()
}

pub(super) const ORDER: [&str; 3] = ["1", "a", "2"];

pub(super) fn order(builder: Builder, orders: &Arc<Relation>) -> Builder {
    builder.insert(orders, &ORDER.map(text))
}
