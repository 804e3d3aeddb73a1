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
        let shop = Shop::with(TABLES).unwrap();
        let console = format!("127.0.0.1:{}", free_port().unwrap());
        let rest = "reload: { settle: 0ms, interval: 0ms, probation: 300s, probation_batches: 1000000 }
plugins:
  totals: { module: totals.wasm }
routes:
  - { tables: [public.payments], plugins: [totals], sinks: [warehouse] }";
        let pipeline = shop.pipeline_of("public.payments", rest);
        let pipeline = pipeline.replace("console: off", &format!("console: {console}"));
        std::fs::write(shop.folder().join("totals.wasm"), totals(keeps, COLUMNS, 1).unwrap()).unwrap();
        Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
        // Sixteen payments, each with a row of its own.
        shop.source("INSERT INTO payments SELECT id, 0, 0, 0 FROM generate_series(0, 15) id")
            .unwrap();
        let host = Host::run(shop.folder(), &pipeline).unwrap();
        let mut stage = Self {
            shop,
            pipeline,
            host: Some(host),
            console,
        };
        stage.wait_right();
        stage
    }

    fn install(&mut self, module: &[u8], times: usize) {
        let new = self.shop.folder().join("totals.wasm.new");
        std::fs::write(&new, module).unwrap();
        std::fs::rename(&new, self.shop.folder().join("totals.wasm")).unwrap();
        self.wait_log("a new version of the route's plugins counts", times);
    }

    fn wait_log(&mut self, words: &str, times: usize) {
        let path = self.shop.folder().join("log");
        let said = || Ok(std::fs::read_to_string(&path)?.matches(words).count() >= times);
        self.shop.wait_for(self.host.as_mut().unwrap(), words, said).unwrap();
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
        Host::command(self.shop.folder(), &command, 0).unwrap().0
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
    let (told, _) = Host::command(stage.shop.folder(), &command, 0).unwrap();
    assert!(told.contains("again"), "{told}");
    stage.pay(7);
    stage.wait_right();
    stage.restart();
    stage.pay(8);
    stage.wait_right();
    stage.host.take().unwrap().terminate().unwrap();
}
