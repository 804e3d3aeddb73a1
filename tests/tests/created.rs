//! A target without tables: they are made as the source has them.

use rowmill_tests::{Host, Shop};

const SOURCE: &str = "
    CREATE SCHEMA \"Sales \"\"EU\";
    CREATE TYPE \"Sales \"\"EU\".mood AS ENUM ('glad', 'it''s', 'sad');
    CREATE DOMAIN short AS varchar(5) NOT NULL CHECK (VALUE <> 'never') CHECK (length(VALUE) > 0);
    CREATE DOMAIN shorter AS short CHECK (length(VALUE) < 4);
    CREATE EXTENSION citext;
    CREATE TABLE \"Sales \"\"EU\".\"The orders\" (
        \"order id\" int, part smallint, m \"Sales \"\"EU\".mood NOT NULL, ms \"Sales \"\"EU\".mood[], s short, t shorter,
        n numeric(8,3), ns numeric(6,1)[], v varchar(7) NOT NULL, c char(3), b bit(4), bv bit varying(9), at timestamptz(3),
        i interval hour to minute, ci citext, big text, made int GENERATED ALWAYS AS (part * 2) STORED,
        PRIMARY KEY (\"order id\", part));
    CREATE TABLE notes (a int NOT NULL, b text NOT NULL);
    ALTER TABLE notes REPLICA IDENTITY FULL;
";

const ROWS: &str = "
    INSERT INTO \"Sales \"\"EU\".\"The orders\" SELECT i, 1, 'it''s', '{sad,glad}', 'abc', 'ab', 1.2345, '{1.25}', 'v', 'c',
        '1010', '101', now(), '1:02', 'MiXed', 'x' FROM generate_series(1, 100) i;
    -- Of a table without a key: what the refused run has left of it must not be there twice as often.
    INSERT INTO notes VALUES (1, 'twice'), (1, 'twice');
";

fn pipeline(shop: &Shop, mode: &str) -> String {
    format!(
        "name: shop
console: off
source: {{ postgres: {{ url: {}, tables: [\"*.*\"] }} }}
routes: [{{ tables: [\"*.*\"], sinks: [warehouse] }}]
sinks: {{ warehouse: {{ postgres: {{ url: {}, create_tables: true, mode: {mode} }} }} }}
",
        shop.cluster.url("source"),
        shop.cluster.url("target")
    )
}

/// What the catalog says of the tables' columns and keys.
const SHAPE: &str = "
    SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, COALESCE(pg_get_indexdef(i.indexrelid), '')
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
    LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
    WHERE n.nspname IN ('Sales \"EU', 'public') AND c.relkind = 'r' AND a.attnum > 0 AND NOT attisdropped
    AND attname <> 'made' ORDER BY 1, a.attnum";

fn contents(shop: &Shop, database: &str) -> String {
    let select =
        "SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM (SELECT \"order id\", part, m, ms, s, t, n, ns, v,
        c, b, bv, at, i, ci, big FROM \"Sales \"\"EU\".\"The orders\") t
        UNION ALL SELECT string_agg(t::text, '|' ORDER BY t::text) FROM notes t";
    shop.cluster.sql(database, select).unwrap()
}

#[test]
fn tables_are_made_with_their_types_and_keys() {
    let shop = Shop::with("SELECT 1").unwrap();
    shop.cluster.script("source", SOURCE).unwrap();
    shop.cluster.script("source", ROWS).unwrap();
    let pipeline = pipeline(&shop, "mirror");
    // An extension isn't made.
    let (_, missing) = Host::verb(shop.folder(), &pipeline, &["run", "--once"], 6).unwrap();
    assert!(
        missing.contains("E0416") && missing.contains("CREATE EXTENSION \"citext\""),
        "{missing}"
    );
    shop.target("CREATE SCHEMA elsewhere; CREATE EXTENSION citext SCHEMA elsewhere")
        .unwrap();
    Host::verb(shop.folder(), &pipeline, &["check"], 0).unwrap();
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    let [source, target] = ["source", "target"].map(|database| shop.cluster.sql(database, SHAPE).unwrap());
    assert_eq!(source, target.replace("elsewhere.citext", "citext"));
    assert_eq!(contents(&shop, "source"), contents(&shop, "target"));
    let checks =
        "SELECT string_agg(pg_get_constraintdef(oid), ' ' ORDER BY pg_get_constraintdef(oid)) FROM pg_constraint
        WHERE contypid <> 0";
    assert_eq!(shop.source(checks).unwrap(), shop.target(checks).unwrap());

    // A column that comes later, of a type that comes later, and a table's changes behind it.
    let later = "
        CREATE TYPE later AS ENUM ('x');
        ALTER TABLE notes ADD COLUMN later later;
        ALTER TABLE notes ADD COLUMN n numeric(5,2);
        INSERT INTO notes VALUES (2, 'b', 'x', 1.5);
        UPDATE notes SET n = 7 WHERE a = 1;
        DELETE FROM \"Sales \"\"EU\".\"The orders\" WHERE \"order id\" < 50;";
    shop.cluster.script("source", later).unwrap();
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    assert_eq!(contents(&shop, "source"), contents(&shop, "target"));
    assert_eq!(
        shop.source(SHAPE).unwrap(),
        shop.target(SHAPE).unwrap().replace("elsewhere.citext", "citext")
    );
}

#[test]
fn tables_of_changes_are_made_without_keys() {
    let shop = Shop::with("CREATE TABLE notes (a int PRIMARY KEY, b text NOT NULL)").unwrap();
    shop.target("DROP TABLE notes").unwrap();
    shop.source("INSERT INTO notes VALUES (1, 'b')").unwrap();
    let pipeline = pipeline(&shop, "append");
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    shop.cluster
        .script(
            "source",
            "DELETE FROM notes; TRUNCATE notes; INSERT INTO notes VALUES (1, 'c')",
        )
        .unwrap();
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    let told = "SELECT string_agg(concat_ws(' ', _rowmill_op, a, b), ', ' ORDER BY _rowmill_position, _rowmill_ordinal)
        FROM notes";
    assert_eq!(shop.target(told).unwrap(), "read 1 b, delete 1, truncate, insert 1 c");
}

/// A plugin's columns are there too.
#[test]
fn tables_are_made_as_plugins_say() {
    let shop = Shop::with("CREATE TABLE notes (a int PRIMARY KEY, b text NOT NULL)").unwrap();
    shop.target("DROP TABLE notes").unwrap();
    shop.source("INSERT INTO notes VALUES (1, 'b')").unwrap();
    shop.plugin("add_columns").unwrap();
    let plugins = "plugins:
  label: { module: add_columns.wasm, config: { columns: { label: \"{b}!\" } } }
routes: [{ plugins: [label], ";
    let pipeline = pipeline(&shop, "upsert").replace("routes: [{ ", plugins);
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    assert_eq!(shop.target("SELECT a, b, label FROM notes").unwrap(), "1|b|b!");
    let shape = "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod) || ' ' || attnotnull, ', ' ORDER BY attnum)
        FROM pg_attribute WHERE attrelid = 'notes'::regclass AND attnum > 0";
    assert_eq!(
        shop.target(shape).unwrap(),
        "a integer true, b text true, label text false"
    );
}

/// What differs is told before the first row, one by one; what would refuse every row is an error.
#[test]
fn differences_are_named() {
    let shop = Shop::with("CREATE TABLE notes (a bigint PRIMARY KEY, b text, c numeric(8,2), d int)").unwrap();
    let differing = "DROP TABLE notes; CREATE TABLE notes (a int PRIMARY KEY, b text NOT NULL, c numeric(8,1), d int,
        own text DEFAULT 'd', other text NOT NULL)";
    shop.cluster.script("target", differing).unwrap();
    let pipeline = pipeline(&shop, "mirror");
    let (told, error) = Host::verb(shop.folder(), &pipeline, &["check"], 6).unwrap();
    for difference in [
        "column a: integer here, bigint at the source",
        "column b: NOT NULL here, may be NULL at the source",
        "column c: numeric(8,1) here, numeric(8,2) at the source",
    ] {
        assert!(told.contains(difference), "{told}");
    }
    assert_eq!(told.matches("E0418").count(), 3, "{told}");
    assert!(
        error.contains("E0417") && error.contains("ALTER \"other\" DROP NOT NULL"),
        "{error}"
    );
    shop.target("ALTER TABLE notes ALTER other DROP NOT NULL").unwrap();
    Host::verb(shop.folder(), &pipeline, &["check"], 0).unwrap();
}
