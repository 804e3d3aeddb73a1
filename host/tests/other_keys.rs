//! Tables that get another primary key before a sink that has come has them.

use anyhow::ensure;
use rowmill::checkpoint::{CopyState, RowsAhead, StateStore, TableCopy};
use rowmill_tests::{Cluster, Host, LONG, wait_until};
use std::path::PathBuf;
use tempfile::TempDir;

const TABLE: &str = "CREATE TABLE sites (id text PRIMARY KEY, region int NOT NULL, v text)";
const DIGEST: &str = "SELECT count(*), md5(string_agg(s::text, '|' ORDER BY id)) FROM sites s";

/// A source whose table is copied to a target, and targets that are yet to come.
struct World {
    cluster: Cluster,
    folder: TempDir,
}

impl World {
    fn new() -> Self {
        let (cluster, folder) = (Cluster::start().unwrap(), tempfile::tempdir().unwrap());
        for database in ["source", "target", "mirror", "more"] {
            cluster.sql("postgres", &format!("CREATE DATABASE {database}")).unwrap();
            cluster.sql(database, TABLE).unwrap();
        }
        let world = Self { cluster, folder };
        world.source("INSERT INTO sites SELECT n::text, n % 7 + 1, 'v' FROM generate_series(1, 500) n");
        let pipeline = world.pipeline(&["target"]);
        Host::verb(world.folder.path(), &pipeline, &["run", "--once"], 0).unwrap();
        assert_eq!(world.copy().1.state, CopyState::Finished);
        world
    }

    fn source(&self, sql: &str) -> String {
        self.cluster.sql("source", sql).unwrap()
    }

    /// Of rows that go to these databases.
    fn pipeline(&self, targets: &[&str]) -> String {
        let sink = |name: &&str| format!("  {name}: {{ postgres: {{ url: {} }} }}\n", self.cluster.url(name));
        let sinks: String = targets.iter().map(sink).collect();
        format!(
            "name: shop
console: off
source: {{ postgres: {{ url: {}, tables: [public.sites] }} }}
routes: [{{ tables: [public.sites], sinks: [{}] }}]
sinks:
{sinks}",
            self.cluster.url("source"),
            targets.join(", ")
        )
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join(".rowmill/shop")
    }

    /// What the ledger has of the table, while nothing runs.
    fn copy(&self) -> (StateStore, TableCopy) {
        let store = StateStore::open(&self.state(), "shop").unwrap();
        let copy = store.copies().unwrap().remove(0);
        (store, copy)
    }

    /// The key is moved everywhere. What comes from before is still found by what it was.
    fn move_key(&self) {
        for database in ["source", "target", "mirror", "more"] {
            let moved = "ALTER TABLE sites DROP CONSTRAINT sites_pkey, ADD PRIMARY KEY (region, id)";
            self.cluster.sql(database, moved).unwrap();
        }
        for database in ["target", "mirror", "more"] {
            self.cluster.sql(database, "ALTER TABLE sites ADD UNIQUE (id)").unwrap();
        }
    }

    /// All of these end as the source is.
    fn run_until_equal(&self, targets: &[&str]) {
        let mut host = Host::run(self.folder.path(), &self.pipeline(targets)).unwrap();
        let source = self.source(DIGEST);
        for target in targets {
            let arrived = wait_until(target, LONG, || {
                host.must_run()?;
                let found = self.cluster.sql(target, DIGEST)?;
                ensure!(found == source, "source {source}, {target} {found}");
                Ok(Some(()))
            });
            arrived.unwrap_or_else(|error| panic!("{error:#}\n{}", host.log()));
        }
        host.terminate().unwrap();
    }
}

/// What the stream has still to bring is from before the key moved: the deleted row has a part of the one of now.
#[test]
fn a_sink_comes_together_with_another_key() {
    let world = World::new();
    world.source("DELETE FROM sites WHERE id = '1'");
    world.move_key();
    world.run_until_equal(&["target", "mirror"]);
}

/// The copy for one sink is under way and has rows ahead, when the key moves and another sink comes: nothing can be read again
/// by the key of before.
#[test]
fn another_sink_comes_together_with_another_key() {
    let world = World::new();
    world.source("UPDATE sites SET v = 'later' WHERE id = '3'");
    let late = world.pipeline(&["target", "mirror"]);
    // It is planned, and the host is killed before anything of it counts.
    let mut host = Host::run_to(world.folder.path(), &late, "after_receive", 1).unwrap();
    host.wait(LONG).unwrap();
    world.source("UPDATE sites SET v = 'later' WHERE id = '2'");
    let (store, copy) = world.copy();
    assert_eq!(
        (copy.state, &*copy.reach.only),
        (CopyState::Planned, &["mirror".to_owned()][..])
    );
    let ahead = RowsAhead {
        table_oid: copy.table_oid,
        snapshot: world.source("SELECT pg_current_snapshot()"),
        finish: world.source("SELECT pg_current_wal_insert_lsn()").parse().unwrap(),
        keys: vec![[&1_u32.to_le_bytes()[..], b"2"].concat().into()],
        repair: true,
    };
    store.add_ahead(&[ahead]).unwrap();
    drop(store);
    world.source("DELETE FROM sites WHERE id = '1'");
    world.move_key();
    world.run_until_equal(&["target", "mirror", "more"]);
}
