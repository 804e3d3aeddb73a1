//! The same publication into two databases: by the server's own subscription, and by Rowmill. Afterwards their tables,
//! and what their triggers have seen, are the same.

use rowmill_tests::{Host, LONG, Random, Shop, wait_until};
use std::fmt::Write;

/// At the source.
const SOURCE: &str = "
    CREATE TYPE mood AS ENUM ('glad', 'sad');
    CREATE TABLE plain (id int PRIMARY KEY, a text, n numeric, j jsonb, at timestamptz, list int[], m mood, raw bytea);
    CREATE TABLE toasted (id int PRIMARY KEY, big text, other text, big2 text, n int);
    ALTER TABLE toasted ALTER big SET STORAGE EXTERNAL, ALTER big2 SET STORAGE EXTERNAL;
    CREATE TABLE full_keyless (a int, b text, n numeric, big text);
    ALTER TABLE full_keyless REPLICA IDENTITY FULL, ALTER big SET STORAGE EXTERNAL;
    CREATE TABLE full_keyed (id int PRIMARY KEY, b text, big text);
    ALTER TABLE full_keyed REPLICA IDENTITY FULL, ALTER big SET STORAGE EXTERNAL;
    CREATE TABLE full_half (id int NOT NULL, b text, maybe int);
    ALTER TABLE full_half REPLICA IDENTITY FULL;
    CREATE TABLE by_index (id int, code text NOT NULL, region int NOT NULL, note text);
    CREATE UNIQUE INDEX by_code ON by_index (region, code);
    ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_code;
    CREATE TABLE wide_key (a int, b int, note text, PRIMARY KEY (a, b));
    CREATE TABLE only_inserts (a int, b text);
    ALTER TABLE only_inserts REPLICA IDENTITY FULL;
    CREATE TABLE only_key (id int PRIMARY KEY);
    CREATE TABLE parents (id int PRIMARY KEY, name text);
    CREATE TABLE children (id int PRIMARY KEY, parent int REFERENCES parents ON DELETE CASCADE, note text);
    CREATE TABLE counted (id serial PRIMARY KEY, note text);
    CREATE TABLE measured (day int, id int, v text, PRIMARY KEY (day, id)) PARTITION BY RANGE (day);
    CREATE TABLE measured_low PARTITION OF measured FOR VALUES FROM (0) TO (100);
    CREATE TABLE measured_high PARTITION OF measured FOR VALUES FROM (100) TO (200);
    CREATE TABLE made (id int PRIMARY KEY, base int, twice int GENERATED ALWAYS AS (base * 2) STORED, x int);
    CREATE TABLE numbered (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text);
    CREATE TABLE more (id int PRIMARY KEY, a text, b text);
    CREATE TABLE watched (id int PRIMARY KEY, note text, u int UNIQUE);
    CREATE TABLE other_types (id int PRIMARY KEY, amount text, label varchar(20), at timestamp, flag text);
    CREATE TABLE unique_more (id int PRIMARY KEY, place int UNIQUE, late int UNIQUE DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE kin (id int PRIMARY KEY, note text);
    CREATE TABLE narrow (n numeric, at timestamp, zoned timestamptz, t time, tz timetz, i interval, list numeric[], v text);
    ALTER TABLE narrow REPLICA IDENTITY FULL;
    CREATE TABLE narrow_key (at timestamp PRIMARY KEY, v text);
    CREATE TABLE done (id int PRIMARY KEY);
";

/// At both targets: columns in another order, of other types, more of them; other partitions; triggers.
const TARGET: &str = "
    CREATE TYPE mood AS ENUM ('glad', 'sad');
    CREATE TABLE plain (raw bytea, m mood, list int[], at timestamptz, j jsonb, n numeric, a text, id int PRIMARY KEY);
    CREATE TABLE toasted (id int PRIMARY KEY, n int, big2 text, other text, big text);
    CREATE TABLE full_keyless (a int, b text, n numeric, big text);
    CREATE TABLE full_keyed (id int PRIMARY KEY, b text, big text, own text DEFAULT 'own');
    CREATE TABLE full_half (id int NOT NULL, b text, maybe int UNIQUE);
    CREATE TABLE by_index (id int, code text NOT NULL, region int NOT NULL, note text);
    CREATE UNIQUE INDEX by_code ON by_index (code, region);
    ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_code;
    CREATE TABLE wide_key (a int PRIMARY KEY, b int, note text);
    CREATE TABLE only_inserts (a int, b text);
    CREATE TABLE only_key (id int PRIMARY KEY);
    CREATE TABLE parents (id int PRIMARY KEY, name text);
    CREATE TABLE children (id int PRIMARY KEY, parent int REFERENCES parents ON DELETE CASCADE, note text);
    CREATE TABLE counted (id serial PRIMARY KEY, note text, own serial);
    CREATE TABLE measured (day int, id int, v text, PRIMARY KEY (day, id)) PARTITION BY HASH (id);
    CREATE TABLE measured_0 PARTITION OF measured FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE measured_1 PARTITION OF measured FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    CREATE TABLE made (id int PRIMARY KEY, base int, twice int GENERATED ALWAYS AS (base * 3) STORED, x int,
        y int GENERATED ALWAYS AS (x + base) STORED);
    CREATE TABLE numbered (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text);
    CREATE TABLE more (b text, own int DEFAULT 7, a text, id int PRIMARY KEY, made_of text DEFAULT 'd');
    CREATE TABLE watched (id int PRIMARY KEY, note text, u int UNIQUE);
    CREATE TABLE other_types (id bigint PRIMARY KEY, amount numeric(10,2), label text, at timestamptz, flag bool);
    CREATE TABLE unique_more (id int PRIMARY KEY, place int UNIQUE, late int UNIQUE DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE kin (id int PRIMARY KEY, note text);
    CREATE TABLE kin_of_its_own (PRIMARY KEY (id)) INHERITS (kin);
    INSERT INTO kin_of_its_own SELECT i, 'own' FROM generate_series(1, 60) i;
    CREATE TABLE narrow (n numeric(10,2), at timestamp(3), zoned timestamptz(0), t time(1), tz timetz(2), i interval(2),
        list numeric(6,1)[], v text);
    CREATE TABLE narrow_key (at timestamp(3) PRIMARY KEY, v text);
    CREATE TABLE done (id int PRIMARY KEY);

    CREATE TABLE seen (at serial, what text);
    CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO public.seen (what) VALUES (concat_ws(' ', TG_NAME, TG_WHEN, TG_OP, TG_TABLE_NAME,
            CASE WHEN TG_LEVEL = 'ROW' AND TG_OP <> 'INSERT' THEN OLD::text END,
            CASE WHEN TG_LEVEL = 'ROW' AND TG_OP <> 'DELETE' THEN NEW::text END));
        RETURN CASE WHEN TG_LEVEL = 'STATEMENT' THEN NULL WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END; END $$;
    CREATE TRIGGER always BEFORE INSERT OR UPDATE OR DELETE ON watched FOR EACH ROW EXECUTE FUNCTION see();
    CREATE TRIGGER replica AFTER INSERT OR UPDATE OR DELETE ON watched FOR EACH ROW EXECUTE FUNCTION see();
    CREATE TRIGGER ordinary AFTER INSERT OR UPDATE OR DELETE ON watched FOR EACH ROW EXECUTE FUNCTION see();
    CREATE TRIGGER emptied AFTER TRUNCATE ON watched FOR EACH STATEMENT EXECUTE FUNCTION see();
    CREATE TRIGGER also AFTER INSERT OR UPDATE OR DELETE ON more FOR EACH ROW EXECUTE FUNCTION see();
    CREATE TRIGGER deep AFTER INSERT OR UPDATE OR DELETE ON measured_1 FOR EACH ROW EXECUTE FUNCTION see();
    CREATE TRIGGER nothing AFTER UPDATE ON only_key FOR EACH ROW EXECUTE FUNCTION see();
    ALTER TABLE only_key ENABLE ALWAYS TRIGGER nothing;
    ALTER TABLE watched ENABLE ALWAYS TRIGGER always, ENABLE REPLICA TRIGGER replica, ENABLE ALWAYS TRIGGER emptied;
    ALTER TABLE more ENABLE REPLICA TRIGGER also;
    ALTER TABLE measured_1 ENABLE ALWAYS TRIGGER deep;
";

/// There before either begins.
const BEFORE: &str = "
    INSERT INTO plain SELECT i, 'a' || i, i / 3.0, '{\"k\": 1}', now(), ARRAY[i, NULL], 'glad', '\\x00ff'
        FROM generate_series(1, 300) i;
    INSERT INTO toasted SELECT i, repeat('x' || i, 3000), 'o', repeat('y' || i, 2000), i FROM generate_series(1, 40) i;
    INSERT INTO full_keyless SELECT i / 2, 'b' || i / 2, 1.50, repeat('z' || i / 2, 1000) FROM generate_series(1, 40) i;
    INSERT INTO full_keyed SELECT i, 'b' || i, repeat('z' || i, 1000) FROM generate_series(1, 40) i;
    INSERT INTO full_half SELECT i, 'b' || i, CASE WHEN i % 2 = 0 THEN i END FROM generate_series(1, 40) i;
    INSERT INTO by_index SELECT i, 'code' || i, i % 3, 'n' FROM generate_series(1, 40) i;
    INSERT INTO wide_key SELECT i, i, 'n' FROM generate_series(1, 40) i;
    INSERT INTO only_inserts SELECT i, 'b' FROM generate_series(1, 40) i;
    INSERT INTO only_key SELECT generate_series(1, 40);
    INSERT INTO kin SELECT i, 'n' FROM generate_series(1, 40) i;
    INSERT INTO parents SELECT i, 'p' || i FROM generate_series(1, 40) i;
    INSERT INTO children SELECT i, 1 + i % 40, 'c' FROM generate_series(1, 100) i;
    INSERT INTO counted (note) SELECT 'n' || i FROM generate_series(1, 40) i;
    INSERT INTO measured SELECT i, i, 'v' || i FROM generate_series(1, 180) i;
    INSERT INTO made (id, base, x) SELECT i, i, 1 FROM generate_series(1, 40) i;
    INSERT INTO numbered (note) SELECT 'n' FROM generate_series(1, 40);
    INSERT INTO more SELECT i, 'a', 'b' FROM generate_series(1, 40) i;
    INSERT INTO watched SELECT i, 'n', i FROM generate_series(1, 40) i;
    INSERT INTO other_types SELECT i, '12.345', 'label', '2026-01-02 03:04:05', 'yes' FROM generate_series(1, 40) i;
    INSERT INTO unique_more SELECT i, i, i FROM generate_series(1, 40) i;
    INSERT INTO narrow SELECT i + 0.5, at, at, at::time, at::time::timetz, i * interval '1.234567 s', ARRAY[i + 0.25, NULL], 'v'
        FROM generate_series(1, 40) i, LATERAL (SELECT '2026-01-01 12:00:00.123456'::timestamp + i * interval '1.001001 s' AS at) a;
    INSERT INTO narrow_key SELECT at, v FROM narrow;
";

/// At both targets, before the changes come: rows that the source has are missing, and values differ.
const DAMAGE: &str = "
    DELETE FROM plain WHERE id % 7 = 0;
    DELETE FROM toasted WHERE id % 7 = 0;
    DELETE FROM full_keyless WHERE a % 7 = 0;
    DELETE FROM full_keyed WHERE id % 7 = 0;
    DELETE FROM by_index WHERE id % 7 = 0;
    DELETE FROM only_key WHERE id % 7 = 0;
    DELETE FROM watched WHERE id % 7 = 0;
    DELETE FROM measured WHERE id % 7 = 0;
    UPDATE toasted SET other = 'target''s own', big2 = 'target''s own' WHERE id % 5 = 0;
    UPDATE more SET own = id, made_of = 'target''s own' WHERE id % 2 = 0;
    TRUNCATE seen;
";

/// Changes of every kind, by hand.
const CHANGES: &str = "
    UPDATE plain SET a = NULL, n = 'NaN', at = 'infinity' WHERE id <= 30;
    BEGIN;
    INSERT INTO plain (id, a) VALUES (1001, E'tab\\t, back \\\\ and ''quote'' \\\\N'), (1002, '');
    UPDATE plain SET id = 2001 WHERE id = 1001;
    DELETE FROM plain WHERE id = 1002;
    INSERT INTO plain (id, a) VALUES (1002, 'again');
    SAVEPOINT s; INSERT INTO plain (id) VALUES (1003); ROLLBACK TO s; INSERT INTO plain (id) VALUES (1004);
    COMMIT;
    UPDATE plain SET id = id + 5000 WHERE id BETWEEN 40 AND 60;
    UPDATE toasted SET other = 'changed' WHERE id <= 20;
    UPDATE toasted SET big = repeat('new', 3000) WHERE id <= 3;
    UPDATE toasted SET id = id + 100, n = 0 WHERE id BETWEEN 10 AND 30;
    UPDATE full_keyless SET n = n + 1 WHERE a <= 9;
    DELETE FROM full_keyless WHERE ctid IN (SELECT ctid FROM full_keyless WHERE a BETWEEN 5 AND 15 LIMIT 5);
    UPDATE full_keyless SET big = NULL WHERE a = 1;
    UPDATE full_keyless SET b = 'one of the two' WHERE ctid = (SELECT min(ctid) FROM full_keyless WHERE a = 12);
    UPDATE full_keyed SET b = b || '+' WHERE id <= 20;
    UPDATE full_keyed SET id = id + 1000 WHERE id BETWEEN 10 AND 15;
    DELETE FROM full_keyed WHERE id BETWEEN 20 AND 25;
    UPDATE full_half SET b = b || '+';
    DELETE FROM full_half WHERE id BETWEEN 20 AND 25;
    UPDATE by_index SET note = 'm', id = id + 1 WHERE id <= 20;
    UPDATE by_index SET code = code || 'x' WHERE region = 1;
    DELETE FROM by_index WHERE region = 2;
    UPDATE wide_key SET b = b + 1, note = 'm' WHERE a <= 10;
    UPDATE wide_key SET note = 'o' WHERE a <= 5;
    UPDATE wide_key SET a = a + 100 WHERE a <= 3;
    DELETE FROM wide_key WHERE a BETWEEN 20 AND 30;
    INSERT INTO only_inserts SELECT i, 'more' FROM generate_series(1, 3) i;
    UPDATE only_key SET id = id + 100 WHERE id <= 10;
    UPDATE only_key SET id = id WHERE id = 20;
    DELETE FROM only_key WHERE id BETWEEN 30 AND 35;
    UPDATE kin SET note = 'm' WHERE id <= 10;
    UPDATE kin SET id = id + 15 WHERE id BETWEEN 30 AND 35;
    DELETE FROM kin WHERE id BETWEEN 20 AND 25;
    DELETE FROM parents WHERE id <= 5;
    INSERT INTO counted (note) VALUES ('one more');
    UPDATE measured SET day = day + 100 WHERE day < 20;
    UPDATE measured SET id = id + 1000 WHERE day BETWEEN 30 AND 50;
    UPDATE measured SET v = 'w' WHERE day BETWEEN 90 AND 110;
    DELETE FROM measured WHERE day BETWEEN 60 AND 70;
    UPDATE made SET base = base + 1 WHERE id <= 20;
    INSERT INTO made (id, base, x) VALUES (100, 1, 2);
    INSERT INTO numbered (note) VALUES ('next');
    UPDATE numbered SET note = 'm' WHERE id <= 5;
    DELETE FROM numbered WHERE id = 7;
    UPDATE more SET a = 'c' WHERE id <= 20;
    INSERT INTO more VALUES (100, 'x', 'y');
    UPDATE more SET id = id + 1000 WHERE id BETWEEN 30 AND 35;
    BEGIN;
    INSERT INTO watched VALUES (100, 'new', 100);
    UPDATE watched SET note = 'm' WHERE id <= 20;
    UPDATE more SET b = 'between' WHERE id = 1;
    UPDATE watched SET note = 'n' WHERE id <= 3;
    UPDATE more SET b = 'between again' WHERE id = 2;
    UPDATE watched SET id = 200 WHERE id = 100;
    DELETE FROM watched WHERE id BETWEEN 30 AND 35;
    COMMIT;
    INSERT INTO watched SELECT i, 'many', i FROM generate_series(500, 700) i;
    UPDATE other_types SET amount = '99999.999', label = 'longer', at = '2026-07-08 09:10:11', flag = 'off' WHERE id <= 20;
    INSERT INTO other_types VALUES (100, '1e2', '', NULL, 't');
    BEGIN;
    UPDATE unique_more SET place = -1 WHERE id = 1;
    UPDATE unique_more SET place = 1 WHERE id = 2;
    UPDATE unique_more SET place = 2 WHERE id = 1;
    UPDATE unique_more SET late = 4 WHERE id = 3;
    UPDATE unique_more SET late = 3 WHERE id = 4;
    COMMIT;
    UPDATE unique_more SET late = late + 1;
    UPDATE narrow SET v = 'w';
    UPDATE narrow SET n = n + 0.004, i = NULL, list = list || 0.05 WHERE n < 20;
    UPDATE narrow SET v = 'x' WHERE i IS NULL;
    DELETE FROM narrow WHERE n < 10 OR n > 30;
    UPDATE narrow_key SET v = 'w';
    UPDATE narrow_key SET at = at + interval '1 day 0.0004 s' WHERE at < '2026-01-01 12:00:15';
    UPDATE narrow_key SET v = 'x' WHERE at > '2026-01-02';
    DELETE FROM narrow_key WHERE at BETWEEN '2026-01-01 12:00:20' AND '2026-01-02 12:00:05';
";

const EMPTIED: &str = "
    TRUNCATE parents CASCADE;
    INSERT INTO parents VALUES (1, 'after');
    INSERT INTO children VALUES (1, 1, 'after');
    TRUNCATE counted RESTART IDENTITY;
    INSERT INTO counted (note) VALUES ('after');
    BEGIN; INSERT INTO measured VALUES (1, 9999, 'gone'); TRUNCATE measured; INSERT INTO measured VALUES (2, 2, 'new');
    COMMIT;
    BEGIN; TRUNCATE kin; INSERT INTO kin VALUES (1, 'after'); COMMIT;
    BEGIN; TRUNCATE watched, plain; INSERT INTO watched VALUES (1, 'after', 1); COMMIT;
";

const TABLES: [&str; 24] = [
    "plain",
    "toasted",
    "full_keyless",
    "full_keyed",
    "full_half",
    "by_index",
    "wide_key",
    "only_inserts",
    "only_key",
    "kin",
    "parents",
    "children",
    "counted",
    "measured",
    "made",
    "numbered",
    "more",
    "watched",
    "other_types",
    "unique_more",
    "narrow",
    "narrow_key",
    "done",
    "seen",
];

/// The shop's two databases and a third, `peer`, that the server's own subscription keeps.
struct Pair {
    shop: Shop,
    host: Option<Host>,
    marks: u32,
}

impl Pair {
    fn start() -> Self {
        let shop = Shop::with("SELECT 1").unwrap();
        shop.cluster.script("source", SOURCE).unwrap();
        shop.cluster.script("source", BEFORE).unwrap();
        shop.cluster.sql("postgres", "CREATE DATABASE peer").unwrap();
        for database in ["target", "peer"] {
            shop.cluster.script(database, TARGET).unwrap();
        }
        let publish = "CREATE PUBLICATION sides FOR ALL TABLES WITH (publish_via_partition_root = true)";
        shop.source(publish).unwrap();
        // In one cluster a subscription would wait for itself if it made the slot.
        shop.source("SELECT pg_create_logical_replication_slot('peer', 'pgoutput')")
            .unwrap();
        let subscribe = format!(
            "CREATE SUBSCRIPTION peer CONNECTION 'host=127.0.0.1 user=postgres port={} dbname=source'
             PUBLICATION sides WITH (create_slot = false, slot_name = 'peer')",
            shop.cluster.port()
        );
        shop.cluster.sql("peer", &subscribe).unwrap();
        let mut pair = Self {
            shop,
            host: None,
            marks: 0,
        };
        // The copies of both.
        Host::verb(pair.shop.folder(), &pair.pipeline(), &["run", "--once"], 0).unwrap();
        wait_until("the subscription's copies are ready", LONG, || {
            let ready = "SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel";
            Ok((pair.shop.cluster.sql("peer", ready)? == "t").then_some(()))
        })
        .unwrap();
        pair.same("after the copies");
        for database in ["target", "peer"] {
            pair.shop.cluster.script(database, DAMAGE).unwrap();
        }
        pair.host = Some(Host::run(pair.shop.folder(), &pair.pipeline()).unwrap());
        pair
    }

    fn pipeline(&self) -> String {
        format!(
            "name: shop
console: off
source: {{ postgres: {{ url: {}, publication: sides }} }}
routes: [{{ tables: [public.*], sinks: [warehouse] }}]
sinks: {{ warehouse: {{ postgres: {{ url: {} }} }} }}
",
            self.shop.cluster.url("source"),
            self.shop.cluster.url("target"),
        )
    }

    /// Runs a script at the source and waits until both have all of it.
    fn change(&mut self, script: &str) {
        self.shop.cluster.script("source", script).unwrap();
        self.marks += 1;
        self.shop
            .source(&format!("INSERT INTO done VALUES ({})", self.marks))
            .unwrap();
        let arrived = format!("SELECT count(*) FROM done WHERE id = {}", self.marks);
        for database in ["target", "peer"] {
            let host = self.host.as_mut().unwrap();
            self.shop
                .wait_for(host, database, || Ok(self.shop.cluster.sql(database, &arrived)? == "1"))
                .map_err(|error| error.context(self.shop.cluster.log()))
                .unwrap();
        }
    }

    /// The tables of both are equal, in content and hash.
    fn same(&self, when: &str) {
        // Tables are copied in no order, several at a time.
        let copied = self.host.is_none();
        let mut query = String::new();
        for table in TABLES {
            // What triggers have seen is told in its order.
            let (row, order) = if table == "seen" && copied {
                ("t.what", "t.what")
            } else if table == "seen" {
                ("t.what", "t.at")
            } else {
                ("t::text", "t::text")
            };
            let _ = write!(
                query,
                "{}SELECT '{table}', count(*), md5(string_agg({row}, E'\\n' ORDER BY {order})) FROM {table} t",
                if query.is_empty() { "" } else { " UNION ALL " }
            );
        }
        let [ours, theirs] = ["target", "peer"].map(|database| self.shop.cluster.sql(database, &query).unwrap());
        for (our, their) in ours.lines().zip(theirs.lines()) {
            if our == their {
                continue;
            }
            let table = our.split('|').next().unwrap();
            let order = if table == "seen" { "at" } else { "1, 2" };
            let rows = |database: &str| {
                let select = format!("SELECT left(t::text, 300) FROM (SELECT * FROM {table} ORDER BY {order}) t");
                self.shop.cluster.sql(database, &select).unwrap()
            };
            let (our_rows, their_rows) = (rows("target"), rows("peer"));
            let ours_only: Vec<&str> = our_rows
                .lines()
                .filter(|row| !their_rows.contains(row))
                .take(20)
                .collect();
            let theirs_only: Vec<&str> = their_rows
                .lines()
                .filter(|row| !our_rows.contains(row))
                .take(20)
                .collect();
            panic!(
                "{when}: rowmill {our}\nsubscription {their}\nrowmill's alone {ours_only:#?}\nits alone {theirs_only:#?}"
            );
        }
    }
}

#[test]
fn s30_s31_s32_both_end_with_the_same_tables() {
    let mut pair = Pair::start();
    pair.change(CHANGES);
    pair.same("after changes of every kind");
    pair.change(EMPTIED);
    pair.same("after tables were emptied");
    pair.change(&at_random(std::process::id().into()));
    pair.same("after changes at random");
    pair.host.take().unwrap().terminate().unwrap();
}

/// Transactions of one to thirty statements on the tables that triggers watch and the others, some rolled back.
fn at_random(seed: u64) -> String {
    let mut random = Random::new(seed);
    let mut script = String::new();
    for _ in 0..300 {
        script.push_str("BEGIN;\n");
        for _ in 0..=random.below(30) {
            let (id, other, value) = (random.below(60), random.below(60), random.below(1000));
            let table = ["plain", "toasted", "full_keyed", "watched", "more"][random.below(5) as usize];
            let column = match table {
                "plain" => "a",
                "toasted" => "other",
                "full_keyed" => "b",
                "watched" => "note",
                _ => "a",
            };
            let _ = match random.below(8) {
                0..=3 => writeln!(
                    script,
                    "INSERT INTO {table} (id, {column}) VALUES ({id}, 'v{value}') ON CONFLICT (id) DO UPDATE SET
                     {column} = excluded.{column};"
                ),
                4 => writeln!(
                    script,
                    "UPDATE {table} SET {column} = 'u{value}' WHERE id BETWEEN {id} AND {id} + 5;"
                ),
                5 => writeln!(
                    script,
                    "UPDATE {table} SET id = {other} WHERE id = {id}
                     AND NOT EXISTS (SELECT FROM {table} WHERE id = {other});"
                ),
                6 => writeln!(
                    script,
                    "UPDATE toasted SET big = repeat('r{value}', 2000) WHERE id = {id};"
                ),
                _ => writeln!(script, "DELETE FROM {table} WHERE id = {id};"),
            };
        }
        script.push_str(if random.below(10) == 0 {
            "ROLLBACK;\n"
        } else {
            "COMMIT;\n"
        });
    }
    script
}
