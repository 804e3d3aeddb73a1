use super::*;

/// What a boundary takes where nothing is asked, and what an ask takes that needn't wait.
const STEP: Duration = Duration::from_millis(2);

/// Tables, each with keys to be read again at every boundary.
struct World {
    budget: Budget,
    tables: Vec<Asker>,
    now: Instant,
    stood_still: Duration,
    /// Whose keys went out, and when.
    served: Vec<(usize, Instant)>,
    said: usize,
}

impl World {
    fn new(tables: usize) -> Self {
        Self {
            budget: Budget::default(),
            tables: (0..tables).map(|_| Asker::default()).collect(),
            now: Instant::now(),
            stood_still: Duration::ZERO,
            served: Vec::new(),
            said: 0,
        }
    }

    /// As the merger does; `lag` says what a table's keys have to be waited for.
    fn boundary(&mut self, lag: impl Fn(usize) -> Duration) {
        self.now += STEP;
        for at in 0..self.tables.len() {
            if self.tables[at].waits().is_none() {
                self.ask(at, lag(at));
            }
        }
        while self.budget.is_free(self.now) {
            let waiting = (0..self.tables.len()).filter_map(|at| Some((self.tables[at].waits()?, at)));
            let Some((_, at)) = waiting.min() else { break };
            self.ask(at, lag(at));
        }
    }

    fn ask(&mut self, at: usize, lag: Duration) {
        let others = self.tables.iter().enumerate();
        let others = others.filter(|(other, table)| *other != at && table.waits().is_some());
        let limits = self.budget.limits(&self.tables[at], others.count(), self.now);
        let waited = lag.min(limits.whole) + STEP;
        self.now += waited;
        self.stood_still += waited;
        self.budget.spend(limits, waited, self.now);
        match lag <= limits.whole {
            true => {
                self.tables[at].served(waited, self.now);
                self.served.push((at, self.now));
            }
            false => self.said += usize::from(self.tables[at].in_vain(self.now)),
        }
    }

    /// For so long; returns how much of the time the stream stood still.
    fn run(&mut self, time: Duration, lag: impl Fn(usize) -> Duration) -> f64 {
        let begun = self.now;
        self.stood_still = Duration::ZERO;
        while self.now - begun < time {
            self.boundary(&lag);
        }
        self.stood_still.as_secs_f64() / (self.now - begun).as_secs_f64()
    }
}

const FOREVER: Duration = Duration::from_secs(1_000_000);

#[test]
fn the_stream_stands_still_for_a_fifth_of_the_time_however_many_tables_are_locked() {
    for tables in [1, 2, 4, 10, 100] {
        let mut world = World::new(tables);
        let part = world.run(Duration::from_secs(600), |_| FOREVER);
        assert!((0.1..0.21).contains(&part), "{tables} tables: {part}");
        assert_eq!(world.said, tables, "once of each");
    }
}

#[test]
fn the_first_ones_of_many_stand_in_no_line() {
    let mut world = World::new(100);
    world.boundary(|_| FOREVER);
    // One has waited, the others hardly.
    let most = WHOLE_LIMIT + (MOMENT + STEP) * 101;
    assert!(world.stood_still <= most, "{:?}", world.stood_still);
}

#[test]
fn whoever_could_be_served_is_within_a_round() {
    for tables in [2, 4, 20] {
        let mut world = World::new(tables);
        world.run(Duration::from_secs(300), |_| FOREVER);
        for free in 0..tables {
            let (asked, begun) = (world.served.len(), world.now);
            let round = LONGEST_LIMIT * (1 + PAUSE) + Duration::from_secs(3);
            world.run(round, |at| if at == free { Duration::ZERO } else { FOREVER });
            let served = &world.served[asked..];
            assert!(served.iter().any(|(at, _)| *at == free), "{free} of {tables}");
            assert!(served.iter().all(|(at, _)| *at == free));
            assert!(served.iter().any(|(_, when)| *when - begun <= round));
            world.run(Duration::from_secs(60), |_| FOREVER);
        }
    }
}

#[test]
fn a_lock_on_some_tables_takes_nothing_from_another() {
    let mut world = World::new(5);
    let lag = |at: usize| if at == 4 { Duration::ZERO } else { FOREVER };
    world.run(Duration::from_secs(60), lag);
    let times: Vec<Instant> = world.served.iter().map(|(_, when)| *when).collect();
    let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    // One ask of another's, and what is around it.
    assert!(longest < LONGEST_LIMIT / 4 + Duration::from_millis(50), "{longest:?}");
}

#[test]
fn beside_a_standby_that_lags_patience_is_kept() {
    let mut world = World::new(1);
    let lag = Duration::from_millis(1100);
    let part = world.run(Duration::from_secs(120), |_| lag);
    assert!(part < 0.21, "{part}");
    // It has asked in vain at the beginning alone: each 5.5 s bring one.
    assert!(world.served.len() >= 20, "{}", world.served.len());
    assert_eq!(world.tables[0].tries, 2);
    // The standby lags no more: patience goes, and what was waited for with it.
    world.run(Duration::from_secs(10), |_| Duration::ZERO);
    assert_eq!(world.tables[0].tries, 0);
}
