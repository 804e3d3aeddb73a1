//! Tables whose columns change while they are streamed: taken up, left aside, or a reason to stop.

use anyhow::{Context, Result, ensure};
use rowmill_tests::{Host, Lines, Shop};
use serde_json::Value;
use std::collections::BTreeMap;

const TABLES: &str = "CREATE TABLE items (id int PRIMARY KEY, n int, label varchar(10), gone text);";

/// Each is a transaction with a change of the columns in its midst: a row of the old ones before it, of the new behind.
const CHANGES: [&str; 6] = [
    "INSERT INTO items VALUES (10, 1, 'a', 'g'); ALTER TABLE items ADD COLUMN extra text;
     INSERT INTO items VALUES (11, 1, 'a', 'g', 'x')",
    "INSERT INTO items VALUES (20, 1, 'a', 'g', 'x'); ALTER TABLE items ADD COLUMN late int DEFAULT 7;
     INSERT INTO items (id) VALUES (21)",
    "INSERT INTO items (id, gone) VALUES (30, 'g'); ALTER TABLE items DROP COLUMN gone;
     INSERT INTO items (id, n) VALUES (31, 1)",
    "INSERT INTO items (id, n) VALUES (40, 1); ALTER TABLE items ALTER COLUMN label TYPE text;
     INSERT INTO items (id, n, label) VALUES (41, 2, 'longer than ten')",
    "INSERT INTO items (id, label) VALUES (50, 'a'); ALTER TABLE items RENAME COLUMN label TO title;
     INSERT INTO items (id, title) VALUES (51, 'b')",
    "INSERT INTO items (id) VALUES (60); ALTER TABLE items ADD COLUMN one int, DROP COLUMN extra;
     UPDATE items SET one = id; ALTER TABLE items ADD COLUMN two int; INSERT INTO items (id, two) VALUES (61, 2)",
];

/// The columns that the rows with these ids have when they first come.
const COLUMNS: [(i64, &str); 12] = [
    (10, "id n label gone"),
    (11, "id n label gone extra"),
    (20, "id n label gone extra"),
    (21, "id n label gone extra late"),
    (30, "id n label gone extra late"),
    (31, "id n label extra late"),
    (40, "id n label extra late"),
    (41, "id n label extra late"),
    (50, "id n label extra late"),
    (51, "id n title extra late"),
    (60, "id n title extra late"),
    (61, "id n title late one two"),
];

fn pipeline(shop: &Shop, policy: &str, sinks: &str) -> String {
    let routes = format!("routes:\n  - {{ tables: [public.items], sinks: [{sinks}]{policy} }}");
    shop.pipeline_of("public.items", &routes)
}

fn change(shop: &Shop, changes: &str) {
    shop.cluster
        .script("source", &format!("BEGIN; {changes}; COMMIT;"))
        .unwrap();
}

/// The columns of each row when it was first in the feed, and its values then.
type Fed = BTreeMap<i64, (String, Value)>;

fn fed(shop: &Shop) -> Result<Fed> {
    let mut fed = Fed::new();
    for line in Lines::read(&shop.folder().join("out/feed.jsonl"))?.rows {
        let new = line["new"].as_object().context("new")?;
        let id = new["id"].as_i64().context("id")?;
        let columns: Vec<&str> = new.keys().map(String::as_str).collect();
        fed.entry(id)
            .or_insert_with(|| (columns.join(" "), line["new"].clone()));
    }
    Ok(fed)
}

fn wait_for_row(shop: &Shop, host: &mut Host, id: i64) {
    shop.wait_for(host, "the row is in the feed", || Ok(fed(shop)?.contains_key(&id)))
        .unwrap();
}

fn sorted(columns: &str) -> Vec<&str> {
    let mut columns: Vec<&str> = columns.split(' ').collect();
    columns.sort_unstable();
    columns
}

#[test]
fn s27_a_route_follows_its_tables_from_the_row_on_that_changed_though_the_host_is_killed() {
    let shop = Shop::with(TABLES).unwrap();
    shop.source("INSERT INTO items VALUES (1, 1, 'a', 'g')").unwrap();
    let pipeline = pipeline(&shop, "", "warehouse, feed");
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    for (at, changes) in CHANGES.into_iter().enumerate() {
        if changes.contains("TYPE text") {
            // That is for people: no sink changes what a target has.
            shop.target("ALTER TABLE items ALTER COLUMN label TYPE text").unwrap();
        }
        change(&shop, changes);
        // At some moment in the change, and behind it.
        if at % 2 == 1 {
            shop.wait_target(
                &mut host,
                &format!("SELECT count(*) FROM items WHERE id = {}1", at + 1),
                "1",
            )
            .unwrap();
        }
        host.kill().unwrap();
        host = Host::run(shop.folder(), &pipeline).unwrap();
    }
    wait_for_row(&shop, &mut host, 61);
    let fed_columns = fed(&shop).unwrap();
    for (id, columns) in COLUMNS {
        assert_eq!(sorted(&fed_columns[&id].0), sorted(columns), "row {id}\n{}", host.log());
    }
    Lines::read(&shop.folder().join("out/feed.jsonl"))
        .unwrap()
        .streamed_once()
        .unwrap();

    // The target has what came, with the source's types, and keeps what went.
    let columns = "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attname)
        FROM pg_attribute WHERE attrelid = 'items'::regclass AND attnum > 0 AND NOT attisdropped";
    let expected = "extra text, gone text, id integer, label text, late integer, n integer, \
        one integer, title text, two integer";
    shop.wait_target(&mut host, columns, expected).unwrap();
    // Rows that change bring all of their values.
    shop.source("UPDATE items SET n = 5").unwrap();
    let rows = "SELECT string_agg(concat_ws(',', id, n, title, late, one, two), ' ' ORDER BY id) FROM items";
    let source = shop.source(rows).unwrap();
    shop.wait_target(&mut host, rows, &source).unwrap();
    for said in [
        "added: extra",
        "dropped: gone",
        "of another type: label",
        "renamed: label -> title",
    ] {
        assert!(host.log().contains(said), "{said}\n{}", host.log());
    }
    host.terminate().unwrap();
}

#[test]
fn a_route_may_leave_changes_of_its_tables_aside() {
    let shop = Shop::with(TABLES).unwrap();
    shop.source("INSERT INTO items VALUES (1, 1, 'a', 'g')").unwrap();
    let pipeline = pipeline(&shop, ", on_schema_change: ignore", "warehouse, feed");
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    // Its values must fit into what the target has.
    for changes in CHANGES {
        change(&shop, &changes.replace("longer than ten", "ten"));
    }
    wait_for_row(&shop, &mut host, 61);
    shop.wait_target(&mut host, "SELECT count(*) FROM items", "13").unwrap();
    let fed = fed(&shop).unwrap();
    for (id, columns) in COLUMNS {
        let kept = sorted(columns)
            .into_iter()
            .filter(|name| ["id", "n", "label", "gone"].contains(name));
        assert_eq!(
            sorted(&fed[&id].0),
            kept.collect::<Vec<_>>(),
            "row {id}\n{}",
            host.log()
        );
    }
    assert_eq!(fed[&41].1["label"], "ten");
    let columns = "SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute
        WHERE attrelid = 'items'::regclass AND attnum > 0";
    assert_eq!(shop.target(columns).unwrap(), "id n label gone");
    host.terminate().unwrap();
}

#[test]
fn a_route_may_stop_where_its_tables_change_and_goes_on_where_it_was() {
    let shop = Shop::with(TABLES).unwrap();
    let [stop, evolve] =
        ["stop", "evolve"].map(|policy| pipeline(&shop, &format!(", on_schema_change: {policy}"), "feed"));
    let once = |pipeline: &str, code: i32| Host::verb(shop.folder(), pipeline, &["run", "--once"], code).unwrap().1;
    once(&stop, 0);
    let said = [
        "added: extra",
        "added: late",
        "dropped: gone",
        "of another type: label",
        "renamed: label -> title",
        "added: one; dropped: extra",
    ];
    for (at, (changes, said)) in CHANGES.into_iter().zip(said).enumerate() {
        change(&shop, changes);
        let refused = once(&stop, 2);
        ensure_all(&refused, &["E0706", "public.items", said, "from the transaction at "]).unwrap();
        // Nothing of the transaction has left, what came before the change in it neither.
        let before = at as i64 * 10 + 1;
        let ids: Vec<i64> = fed(&shop).unwrap_or_default().into_keys().collect();
        assert_eq!(ids.last().copied().unwrap_or(before), before.max(1), "{ids:?}");
        // Somebody takes it up, and from then on it may be strict again: also before the position of the change.
        once(&evolve, 0);
        once(&stop, 0);
    }
    let fed = fed(&shop).unwrap();
    for (id, columns) in COLUMNS {
        assert_eq!(sorted(&fed[&id].0), sorted(columns), "row {id}");
    }
}

const FOLLOWED: &str = "CREATE TABLE items (id int PRIMARY KEY, n int, price numeric(5,2), label varchar(5),
    gone text NOT NULL DEFAULT 'g', spare text, made int GENERATED ALWAYS AS (id * 2) STORED);";

/// Each is a transaction with a change of the columns in its midst, and what the target has behind it: rows, then columns.
const FOLLOWING: [(&str, &str, &str); 6] = [
    (
        "INSERT INTO items (id, n) VALUES (10, 1); ALTER TABLE items ALTER COLUMN n TYPE bigint;
         INSERT INTO items (id, n) VALUES (11, 3000000000)",
        "10:1, 11:3000000000",
        "n bigint",
    ),
    (
        "INSERT INTO items (id, label) VALUES (20, 'five5'); ALTER TABLE items ALTER COLUMN label TYPE varchar(20),
             ALTER COLUMN price TYPE numeric(12,4);
         INSERT INTO items (id, label, price) VALUES (21, 'longer than five', 12345678.1234)",
        "20:five5, 21:longer than five 12345678.1234",
        "label character varying(20)",
    ),
    (
        "INSERT INTO items (id, label) VALUES (30, 'a'); ALTER TABLE items RENAME COLUMN label TO title;
         INSERT INTO items (id, title) VALUES (31, 'b')",
        "30:a, 31:b",
        "title character varying(20)",
    ),
    (
        "INSERT INTO items (id) VALUES (40); ALTER TABLE items DROP COLUMN gone; INSERT INTO items (id, n) VALUES (41, 4)",
        "40:, 41:4",
        "gone text",
    ),
    // Another column of the same type at the same place: it is no rename.
    (
        "INSERT INTO items (id, spare) VALUES (50, 's'); ALTER TABLE items DROP COLUMN spare, ADD COLUMN fresh text;
         INSERT INTO items (id, fresh) VALUES (51, 'f')",
        "50:s, 51:f",
        "fresh text",
    ),
    // Twice before a row comes, and to another type.
    (
        "INSERT INTO items (id, title) VALUES (60, 'x'); ALTER TABLE items RENAME COLUMN title TO t;
         ALTER TABLE items ALTER COLUMN t TYPE text; ALTER TABLE items RENAME COLUMN t TO heading;
         INSERT INTO items (id, heading) VALUES (61, 'a heading of more than twenty')",
        "60:x, 61:a heading of more than twenty",
        "heading text",
    ),
];

/// Everything of the target's rows, whatever its columns are called by now.
const ROWS: &str =
    "SELECT string_agg(id || ':' || concat_ws(' ', r->>'n', coalesce(r->>'label', r->>'title', r->>'heading'),
        r->>'price', r->>'spare', r->>'fresh'), ', ' ORDER BY id)
    FROM (SELECT id, to_jsonb(items) AS r FROM items) AS items WHERE id / 10 = ";
const TARGET_COLUMNS: &str = "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod) ||
        CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END, ', ' ORDER BY attnum)
    FROM pg_attribute WHERE attrelid = 'items'::regclass AND attnum > 0 AND NOT attisdropped";

#[test]
fn a_target_follows_renames_wider_types_and_drops_though_the_host_is_killed() {
    let shop = Shop::with(FOLLOWED).unwrap();
    let pipeline = pipeline(&shop, "", "warehouse");
    shop.target("ALTER TABLE items ALTER gone DROP DEFAULT").unwrap();
    Host::verb(shop.folder(), &pipeline, &["ddl-trigger", "install"], 0).unwrap();
    shop.source("INSERT INTO items VALUES (1, 1, 1, 'one', 'g', 's')")
        .unwrap();
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    for (at, (changes, rows, column)) in FOLLOWING.into_iter().enumerate() {
        change(&shop, changes);
        if at % 2 == 1 {
            // At some moment in it; else behind it.
            host.kill().unwrap();
            host = Host::run(shop.folder(), &pipeline).unwrap();
        }
        shop.wait_target(&mut host, &format!("{ROWS}{}", at + 1), rows).unwrap();
        let columns = shop.target(TARGET_COLUMNS).unwrap();
        assert!(
            columns.split(", ").any(|found| found == column),
            "{column}: {columns}\n{}",
            host.log()
        );
        if at % 2 == 0 {
            host.kill().unwrap();
            host = Host::run(shop.folder(), &pipeline).unwrap();
        }
    }
    // What has gone stays with what it holds.
    let expected = "id integer NOT NULL, n bigint, price numeric(12,4), heading text, gone text, spare text, made integer, fresh text";
    assert_eq!(shop.target(TARGET_COLUMNS).unwrap(), expected, "{}", host.log());
    let kept = "SELECT concat_ws(' ', id, heading, gone, spare, made) FROM items WHERE id = 1";
    assert_eq!(shop.target(kept).unwrap(), "1 one g s 2");
    host.terminate().unwrap();
}

#[test]
fn what_a_target_cant_follow_stops_with_the_statement_that_settles_it() {
    let shop = Shop::with("CREATE TABLE items (id int PRIMARY KEY, n bigint, label varchar(10));").unwrap();
    let pipeline = pipeline(&shop, "", "warehouse");
    shop.source("INSERT INTO items VALUES (0, 0, 'old')").unwrap();
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    // A view of the target's own hangs on a column.
    shop.target("CREATE VIEW labels AS SELECT label FROM items").unwrap();
    change(
        &shop,
        "ALTER TABLE items ALTER label TYPE text; INSERT INTO items VALUES (1, 1, 'more than ten')",
    );
    let refused = || Host::verb(shop.folder(), &pipeline, &["run", "--once"], 6).unwrap().1;
    let said = refused();
    let fix = r#"ALTER TABLE "public"."items" ALTER COLUMN "label" TYPE text USING "label"::text"#;
    ensure_all(&said, &["E0419", "column label of public.items", fix, "used by a view"]).unwrap();
    shop.target("DROP VIEW labels").unwrap();
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    // Values that have nothing to do with those before.
    change(
        &shop,
        "ALTER TABLE items ALTER n TYPE date USING '2026-01-01'; INSERT INTO items VALUES (2, '2026-02-03', 'b')",
    );
    let said = refused();
    ensure_all(
        &said,
        &[
            "E0419",
            "column n of public.items",
            "it is bigint here and date at the source",
        ],
    )
    .unwrap();
    shop.target("ALTER TABLE items ALTER n TYPE date USING NULL").unwrap();
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    // A type that the target's holds needs nothing.
    change(
        &shop,
        "ALTER TABLE items ALTER label TYPE varchar(20); INSERT INTO items VALUES (3, NULL, 'c')",
    );
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    let rows = "SELECT string_agg(concat_ws(' ', id, n, label), ', ' ORDER BY id) FROM items";
    assert_eq!(
        shop.target(rows).unwrap(),
        "0 old, 1 more than ten, 2 2026-02-03 b, 3 c"
    );
}

fn ensure_all(text: &str, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(text.contains(part), "{part} isn't in\n{text}");
    }
    Ok(())
}
