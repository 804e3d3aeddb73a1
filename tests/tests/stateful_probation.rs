//! A version of a plugin with state breaks on its probation: the version before comes back with the state that it would
//! have had if it had run all along, after kill -9 too.

use rowmill_tests::{Columns, Host, Keeps, Shop, free_port, totals, totals_breaking};

/// What the new version breaks on.
const BAD: i64 = 777;
const COLUMNS: Columns = Columns {
    customer: 0,
    amount: 1,
    total: 2,
};
/// `sum` is what `total` has to be.
const TABLES: &str = "CREATE TABLE payments (id bigint PRIMARY KEY, amount bigint, total bigint, sum bigint);";

struct Stage {
    shop: Shop,
    pipeline: String,
    /// Until it is killed.
    host: Option<Host>,
    console: String,
}

impl Stage {
    fn new(keeps: Keeps) -> Self {
        let module = totals(keeps, COLUMNS, 1).unwrap();
        let stage = Self::with(TABLES, "{ module: totals.wasm }", &module);
        // Sixteen payments, each with a row of its own.
        stage
            .shop
            .source("INSERT INTO payments SELECT id, 0, 0, 0 FROM generate_series(0, 15) id")
            .unwrap();
        let mut stage = stage.started();
        stage.wait_right();
        stage
    }

    /// A pipeline that isn't running yet, with its slot.
    fn with(tables: &str, plugin: &str, module: &[u8]) -> Self {
        let shop = Shop::with(tables).unwrap();
        let port = free_port().unwrap();
        let rest = format!(
            "reload: {{ settle: 0ms, interval: 0ms, probation: 300s, probation_batches: 1000000 }}
plugins:
  totals: {plugin}
routes:
  - {{ tables: [public.payments], plugins: [totals], sinks: [warehouse] }}"
        );
        let pipeline = Shop::with_console(&shop.pipeline_of("public.payments", &rest), port);
        std::fs::write(shop.folder().join("totals.wasm"), module).unwrap();
        Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
        Self {
            shop,
            pipeline,
            host: None,
            console: format!("127.0.0.1:{port}"),
        }
    }

    fn started(mut self) -> Self {
        self.host = Some(Host::run(self.shop.folder(), &self.pipeline).unwrap());
        self
    }

    fn install(&mut self, module: &[u8], times: usize) {
        self.shop.install("totals", module).unwrap();
        self.wait_log("a new version of the route's plugins counts", times);
    }

    fn wait_log(&mut self, words: &str, times: usize) {
        self.shop.wait_said(self.host.as_mut().unwrap(), words, times).unwrap();
    }

    /// One change of each account.
    fn pay(&mut self, amount: i64) {
        let sql = format!("UPDATE payments SET amount = {amount}, sum = sum + {amount}");
        self.shop.source(&sql).unwrap();
    }

    fn wait_right(&mut self) {
        let paid = "SELECT count(*), sum(sum), max(amount) FROM payments";
        let expected = self.shop.source(paid).unwrap();
        self.shop
            .wait_target(self.host.as_mut().unwrap(), paid, &expected)
            .unwrap();
        let wrong = "SELECT string_agg(id || ' has ' || total || ' of ' || sum, ', ') FROM payments WHERE total <> sum";
        assert_eq!(self.shop.target(wrong).unwrap(), "");
    }

    fn restart(&mut self) {
        self.host.take().unwrap().kill().unwrap();
        self.host = Some(Host::run(self.shop.folder(), &self.pipeline).unwrap());
    }

    fn list(&self) -> String {
        let command = ["plugin", "list", "--console", &self.console];
        Host::verb_of(self.shop.folder(), &command, 0).unwrap().0
    }
}

#[test]
fn a_version_with_state_that_breaks_gives_way_to_one_that_has_seen_its_rows() {
    for keeps in [Keeps::EachInOne, Keeps::Each] {
        let mut stage = Stage::new(keeps);
        stage.pay(5);
        stage.wait_right();
        // Its state is of another version, which the one before couldn't read.
        let bad = totals_breaking(keeps, COLUMNS, 2, BAD).unwrap();
        stage.install(&bad, 1);
        stage.pay(6);
        stage.wait_right();
        assert!(stage.list().contains("on probation"), "{}", stage.list());

        // The probation outlives the process.
        stage.restart();
        stage.pay(7);
        stage.wait_right();
        assert!(stage.list().contains("on probation"), "{}", stage.list());

        stage.pay(BAD);
        stage.wait_right();
        stage.wait_log("the new version broke on its probation", 1);
        // What comes again after a crash has the version that it had.
        stage.restart();
        stage.pay(8);
        stage.wait_right();
        stage.wait_log("still holds the version that was set aside", 1);
        stage.host.take().unwrap().terminate().unwrap();
        let (letters, _) = Host::verb_of(stage.shop.folder(), &["dead-letter", "list", "--output", "json"], 0).unwrap();
        assert!(!letters.contains("totals"), "nothing was set aside: {letters}");
    }
}

#[test]
fn somebody_may_go_back_to_a_version_whose_state_is_older() {
    let mut stage = Stage::new(Keeps::Each);
    stage.pay(5);
    stage.install(&totals(Keeps::Each, COLUMNS, 2).unwrap(), 1);
    stage.pay(6);
    stage.wait_right();
    let command = ["plugin", "rollback", "totals", "--console", &stage.console];
    let (told, _) = Host::verb_of(stage.shop.folder(), &command, 0).unwrap();
    assert!(told.contains("again"), "{told}");
    stage.pay(7);
    stage.wait_right();
    stage.restart();
    stage.pay(8);
    stage.wait_right();
    stage.host.take().unwrap().terminate().unwrap();
}

/// Without a probation nothing has seen the rows beside the new version, and what that keeps can't be read by the one before.
#[test]
fn a_way_back_that_is_refused_is_none_for_the_next_start_either() {
    let mut stage = Stage::new(Keeps::Each);
    stage.pipeline = stage.pipeline.replace("probation: 300s", "probation: 0s");
    stage.restart();
    stage.pay(5);
    stage.wait_right();
    stage.install(&totals(Keeps::Each, COLUMNS, 2).unwrap(), 1);
    stage.pay(6);
    stage.wait_right();
    let command = ["plugin", "rollback", "totals", "--console", &stage.console];
    let (_, refused) = Host::verb_of(stage.shop.folder(), &command, 5).unwrap();
    assert!(refused.contains("newer version"), "{refused}");
    stage.pay(7);
    stage.wait_right();
    stage.restart();
    stage.pay(8);
    stage.wait_right();
    assert!(!stage.list().contains("refused"), "{}", stage.list());
    stage.host.take().unwrap().terminate().unwrap();
}

/// The file goes back to the module before, while the new one is on probation: that has its own state still, and is no
/// stranger who needs a probation.
#[test]
fn a_file_that_goes_back_on_probation_goes_on_with_its_own_state() {
    for keeps in [Keeps::EachInOne, Keeps::Each] {
        let mut stage = Stage::new(keeps);
        stage.pay(5);
        stage.wait_right();
        stage.install(&totals(keeps, COLUMNS, 2).unwrap(), 1);
        stage.pay(6);
        stage.wait_right();
        // What is kept by now is of version 2, which version 1 couldn't read.
        stage.restart();
        stage.pay(7);
        stage.wait_right();
        assert!(stage.list().contains("on probation"), "{}", stage.list());
        stage.install(&totals(keeps, COLUMNS, 1).unwrap(), 2);
        assert!(!stage.list().contains("on probation"), "{}", stage.list());
        // Before anything was stored of what it keeps.
        stage.restart();
        stage.pay(8);
        stage.wait_right();
        stage.restart();
        stage.pay(9);
        stage.wait_right();
        stage.host.take().unwrap().terminate().unwrap();
    }
}

#[test]
fn a_file_that_goes_back_while_the_host_is_down_goes_on_with_its_own_state() {
    for keeps in [Keeps::EachInOne, Keeps::Each] {
        let mut stage = Stage::new(keeps);
        stage.install(&totals(keeps, COLUMNS, 2).unwrap(), 1);
        stage.pay(6);
        stage.wait_right();
        stage.host.take().unwrap().terminate().unwrap();
        let before = totals(keeps, COLUMNS, 1).unwrap();
        std::fs::write(stage.shop.folder().join("totals.wasm"), before).unwrap();
        let mut stage = stage.started();
        stage.pay(7);
        stage.wait_right();
        assert!(!stage.list().contains("on probation"), "{}", stage.list());
        stage.restart();
        stage.pay(8);
        stage.wait_right();
        stage.host.take().unwrap().terminate().unwrap();
    }
}

/// `other` is what the bad version adds up; `sum` what the good one would have.
const BY_KEY: &str = "CREATE TABLE payments
    (id bigint PRIMARY KEY, customer bigint, amount bigint, total bigint, other bigint, sum bigint);";

impl Stage {
    /// One payment of each customer.
    fn insert(&mut self, amount: i64, other: i64) {
        let sql = format!(
            "INSERT INTO payments SELECT (SELECT count(*) FROM payments) + c, c, {amount}, 0, {other},
                {amount} + coalesce((SELECT sum(amount) FROM payments WHERE customer = c), 0)
             FROM generate_series(0, 15) c"
        );
        self.shop.source(&sql).unwrap();
        let arrived = "SELECT count(*), sum(amount) FROM payments";
        let expected = self.shop.source(arrived).unwrap();
        self.shop
            .wait_target(self.host.as_mut().unwrap(), arrived, &expected)
            .unwrap();
    }

    /// Of the payments with this amount, how many have the total that the good version gives them.
    fn right(&self, amount: i64) -> String {
        let sql = format!("SELECT count(*) FROM payments WHERE amount = {amount} AND total = sum");
        self.shop.target(&sql).unwrap()
    }
}

/// The bad version writes other totals under the same keys.
#[test]
fn a_version_with_entries_by_key_gives_way_to_one_that_has_its_own() {
    let adds = |amount| Columns {
        customer: 1,
        amount,
        total: 3,
    };
    let good = totals(Keeps::Entries, adds(2), 1).unwrap();
    let plugin = "{ module: totals.wasm, features: [kv] }";
    let mut stage = Stage::with(BY_KEY, plugin, &good).started();
    stage.insert(5, 100);
    assert_eq!(stage.right(5), "16");
    stage.install(&totals_breaking(Keeps::Entries, adds(4), 1, BAD).unwrap(), 1);
    stage.insert(6, 100);
    assert_eq!(stage.right(6), "0", "{}", stage.list());
    assert!(stage.list().contains("on probation"), "{}", stage.list());

    // The probation outlives the process, and so does what the version has that waits.
    stage.restart();
    stage.insert(7, 100);
    assert_eq!(stage.right(7), "0");
    assert!(stage.list().contains("on probation"), "{}", stage.list());

    stage.insert(8, BAD);
    assert_eq!(stage.right(8), "16");
    stage.wait_log("the new version broke on its probation", 1);
    stage.restart();
    stage.insert(9, 100);
    assert_eq!(stage.right(9), "16");
    stage.restart();
    stage.insert(10, 100);
    assert_eq!(stage.right(10), "16");
    stage.host.take().unwrap().terminate().unwrap();
    let (letters, _) = Host::verb_of(stage.shop.folder(), &["dead-letter", "list", "--output", "json"], 0).unwrap();
    assert!(!letters.contains("totals"), "nothing was set aside: {letters}");
}

/// What was added under the new version is in its own entries alone.
#[test]
fn a_file_that_goes_back_on_probation_goes_on_with_its_own_entries() {
    let adds = |amount| Columns {
        customer: 1,
        amount,
        total: 3,
    };
    let good = totals(Keeps::Entries, adds(2), 1).unwrap();
    let mut stage = Stage::with(BY_KEY, "{ module: totals.wasm, features: [kv] }", &good).started();
    stage.insert(5, 100);
    stage.install(&totals(Keeps::Entries, adds(4), 1).unwrap(), 1);
    stage.insert(6, 100);
    assert_eq!(stage.right(6), "0", "{}", stage.list());
    stage.restart();
    stage.insert(7, 100);
    assert_eq!(stage.right(7), "0", "{}", stage.list());
    stage.install(&good, 2);
    for amount in [8, 9] {
        stage.restart();
        stage.insert(amount, 100);
        assert_eq!(stage.right(amount), "16");
    }
    stage.host.take().unwrap().terminate().unwrap();
}
