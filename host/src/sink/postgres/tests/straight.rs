//! Copied rows that go in as they came: read by a binary COPY of one server, written by one of another.

use super::relaxed::connected;
use super::*;
use crate::batch::{Cell, CopyUnit, Lsn, Origin, OwnType, OwnTypes, Transaction};
use crate::config::TablePattern;
use crate::decode::{CopyDecoder, is_alike_everywhere};
use crate::postgres::{Conninfo, Reader};
use crate::source::catalog;

/// A column of each kind of type, and a row's values by its number `n`.
const COLUMNS: [(&str, &str); 24] = [
    ("id bigint PRIMARY KEY", "n"),
    ("flag boolean", "n % 2 = 0"),
    ("small smallint", "n % 65536 - 32768"),
    ("four int", "nullif(n * 7, 70)"),
    (
        "real4 real",
        "CASE n % 5 WHEN 0 THEN 'NaN' WHEN 1 THEN '-0' ELSE n / 3.0 END::real",
    ),
    (
        "real8 double precision",
        "CASE n % 5 WHEN 0 THEN '-Infinity' ELSE n / 7.0 END::float8",
    ),
    (
        "total numeric",
        "CASE n % 7 WHEN 0 THEN 'NaN' ELSE (n * 1000001)::numeric / power(10::numeric, n % 9) END",
    ),
    ("priced numeric(12,3)", "n / 7.0"),
    (
        "name text",
        "nullif(repeat(chr(n % 300 + 1), n % 9) || E'\\t\\\\N', E'\\t\\\\N')",
    ),
    ("short varchar(9)", "'v' || n"),
    ("fixed char(5)", "'f' || n % 10"),
    ("raw bytea", "decode(repeat(md5(n::text), n % 4), 'hex')"),
    (
        "day date",
        "CASE n % 9 WHEN 0 THEN 'infinity' ELSE '4000-01-01 BC'::date + n END",
    ),
    ("clock time(3)", "make_time(n % 24, n % 60, n % 60 + 0.1234)"),
    ("zoned timetz", "('12:00:00.5+0' || n % 9)::timetz"),
    ("at timestamp", "'2000-01-01'::timestamp + n * interval '1.000001 h'"),
    (
        "moment timestamptz(2)",
        "'2026-01-01'::timestamptz - n * interval '1.017 s'",
    ),
    ("unique_id uuid", "md5(n::text)::uuid"),
    ("told json", "json_build_object('n', n, 'text', chr(n % 300 + 1))"),
    ("document jsonb", "jsonb_build_object('n', n, 'text', chr(n % 300 + 1))"),
    ("host inet", "('10.0.0.' || n % 256 || '/' || n % 33)::inet"),
    ("mask bit(4)", "(n % 16)::bit(4)"),
    (
        "tags text[]",
        "CASE WHEN n % 3 > 0 THEN ARRAY['a,\"b', NULL, n::text] END",
    ),
    (
        "days timestamptz[]",
        "ARRAY[['2026-01-01'::timestamptz + n * interval '1 d', 'infinity']]",
    ),
];

fn create() -> String {
    let columns: Vec<&str> = COLUMNS.iter().map(|(column, _)| *column).collect();
    format!("CREATE TABLE things ({})", columns.join(", "))
}

/// A server with rows of every kind.
fn source(rows: u32) -> Cluster {
    let cluster = target(&create());
    let values: Vec<&str> = COLUMNS.iter().map(|(_, value)| *value).collect();
    let fill = format!(
        "INSERT INTO things SELECT {} FROM generate_series(1, {rows}) n",
        values.join(", ")
    );
    cluster.sql("postgres", &fill).unwrap();
    cluster
}

fn things(cluster: &Cluster) -> Arc<Relation> {
    let sql = "SELECT attname || '|' || atttypid FROM pg_attribute \
        WHERE attrelid = 'things'::regclass AND attnum > 0 ORDER BY attnum";
    let found = cluster.sql("postgres", sql).unwrap();
    let column = |line: &str| {
        let (name, oid) = line.split_once('|').unwrap();
        (name.to_owned(), oid.parse().unwrap())
    };
    let columns: Vec<(String, u32)> = found.lines().map(column).collect();
    let specs: Vec<_> = columns
        .iter()
        .map(|(name, oid)| (name.as_str(), *oid, "", name == "id"))
        .collect();
    relation("things", &specs)
}

/// What a unit reads, as a delivery.
async fn unit(cluster: &Cluster, relation: &Arc<Relation>, condition: &str, sequence: u64) -> Delivery {
    unit_of(cluster, relation, &Arc::default(), condition, sequence).await
}

/// The same with types of the source's own.
async fn unit_of(
    cluster: &Cluster,
    relation: &Arc<Relation>,
    own_types: &Arc<OwnTypes>,
    condition: &str,
    sequence: u64,
) -> Delivery {
    let mut reader = Reader::connect(&Conninfo::parse(&cluster.url("postgres")).unwrap(), "rowmill test")
        .await
        .unwrap();
    let copy = format!("COPY (SELECT * FROM public.things WHERE {condition} ORDER BY id) TO STDOUT (FORMAT binary)");
    let (_, mut frames) = reader.copy_out(&copy).await.unwrap();
    let mut decoder = CopyDecoder::new(Arc::clone(relation)).straight(&["id".to_owned()], own_types);
    let transaction = Transaction {
        xid: 0,
        commit_lsn: Lsn(sequence),
        end_lsn: Lsn(sequence),
        commit_us: 0,
        part: Part::Whole,
        origin: Origin::Copy(CopyUnit {
            epoch: 1,
            table_oid: relation.oid,
            unit: sequence as u32,
        }),
    };
    let batch = decoder
        .decode(frames.next().await.unwrap().unwrap(), transaction)
        .unwrap();
    assert!(frames.next().await.unwrap().is_none());
    Delivery {
        sequence,
        rows: batch.rows.clone(),
        batch: Arc::new(batch),
        copying: vec![relation.oid],
    }
}

/// All rows of the table as text, by their key.
fn all(cluster: &Cluster) -> String {
    cluster
        .sql("postgres", "SELECT t::text FROM things t ORDER BY id")
        .unwrap()
}

/// How many COPYs of the binary form the sink has prepared.
fn straight_copies(sink: &PostgresSink) -> usize {
    let applier = sink.session.as_ref().unwrap().applier();
    applier
        .statements()
        .filter(|sql| sql.ends_with("(FORMAT binary)"))
        .count()
}

#[tokio::test]
async fn every_value_arrives_as_it_was() {
    let source = source(500);
    let cluster = target(&create());
    let things = things(&source);
    let mut sink = open(&cluster).await;
    deliver(&mut sink, &unit(&source, &things, "id <= 300", 1).await).await;
    sink.write(&unit(&source, &things, "id BETWEEN 301 AND 400", 2).await)
        .await
        .unwrap();
    deliver(&mut sink, &unit(&source, &things, "id > 400", 3).await).await;
    assert_eq!(straight_copies(&sink), 1);
    assert_eq!(all(&cluster), all(&source));
}

/// What can't go as it came goes as text, and is no less exact: rows that are there, few rows, another order and other
/// types of the target's columns, a generated one among them.
#[tokio::test]
async fn what_cannot_go_as_it_came_goes_as_text() {
    let source = source(500);
    let things = things(&source);

    let cluster = target(&create());
    let there = "INSERT INTO things (id, name) SELECT n, 'older' FROM generate_series(100, 120) n";
    cluster.sql("postgres", there).unwrap();
    let mut sink = open(&cluster).await;
    deliver(&mut sink, &unit(&source, &things, "id <= 200", 1).await).await;
    deliver(&mut sink, &unit(&source, &things, "id BETWEEN 201 AND 210", 2).await).await;
    deliver(&mut sink, &unit(&source, &things, "id > 210", 3).await).await;
    assert_eq!(all(&cluster), all(&source));

    let cluster = target(
        &create()
            .replace("four int", "four bigint")
            .replace("short varchar(9)", "more int DEFAULT 7, short text")
            .replace("flag boolean", "flag boolean GENERATED ALWAYS AS (id % 2 = 0) STORED"),
    );
    let mut sink = open(&cluster).await;
    deliver(&mut sink, &unit(&source, &things, "true", 1).await).await;
    assert_eq!(straight_copies(&sink), 0);
    cluster.sql("postgres", "ALTER TABLE things DROP COLUMN more").unwrap();
    assert_eq!(all(&cluster), all(&source));
}

/// Types of the database's own, and the table with columns of them.
const OWN: &str = "
    CREATE TYPE mood AS ENUM ('it''s', 'ok', 'größer', '');
    CREATE DOMAIN short AS varchar(9) CHECK (length(value) < 8);
    CREATE DOMAIN shorter AS short NOT NULL; CREATE DOMAIN feeling AS mood;
    CREATE DOMAIN price AS numeric(12,3); CREATE DOMAIN tags AS text[]; CREATE DOMAIN number AS int;
    CREATE TABLE things (id number PRIMARY KEY, m mood, s short, r shorter, f feeling, p price, t tags, n number)";
const OWN_ROWS: &str = "INSERT INTO things SELECT n,
    (ARRAY['it''s', 'ok', 'größer', '', NULL])[n % 5 + 1]::mood, nullif('s' || n, 's77'), 'r' || n,
    (ARRAY['ok', NULL, 'it''s'])[n % 3 + 1]::feeling, CASE n % 7 WHEN 0 THEN 'NaN' ELSE n / 7.0 END,
    CASE WHEN n % 3 > 0 THEN ARRAY['a,\"b', NULL, n::text] END, nullif(n, 9) FROM generate_series(1, 300) n";

fn own_source() -> Cluster {
    let cluster = target(OWN);
    cluster.sql("postgres", OWN_ROWS).unwrap();
    cluster
}

/// What the source's catalog says of the table's types.
async fn own_types(cluster: &Cluster, relation: &Relation) -> Arc<OwnTypes> {
    let things = TablePattern {
        schema: "public".into(),
        table: "things".into(),
    };
    let catalog = catalog::read(&connected(cluster).await, &[things]).await.unwrap();
    let table = catalog.table("public", "things").unwrap();
    let columns = table.columns.iter();
    let types: OwnTypes = columns
        .filter_map(|column| Some((column.type_oid, column.own_type?)))
        .collect();
    let read_as = |column: &crate::batch::Column| types.read_as(column.type_oid);
    assert!(
        relation
            .columns
            .iter()
            .all(|column| is_alike_everywhere(read_as(column)))
    );
    Arc::new(types)
}

/// Neither server's OIDs are the other's.
#[tokio::test]
async fn enums_and_domains_arrive_as_they_were() {
    let source = own_source();
    let things = things(&source);
    let own = own_types(&source, &things).await;
    let enums = things
        .columns
        .iter()
        .filter(|it| own.of(it.type_oid) == Some(OwnType::Enum))
        .count();
    assert_eq!(enums, 2, "one of them by way of a domain");
    let shifted = format!("CREATE TYPE first AS ENUM ('a'); CREATE DOMAIN second AS int; {OWN}");
    let plain = "CREATE TYPE mood AS ENUM ('', 'ok', 'more', 'größer', 'it''s');
        CREATE TABLE things (id int PRIMARY KEY, m text, s varchar, r varchar(20), f varchar(9), p numeric(12,3),
            t text[], n int)";
    let by_enum = "CREATE TYPE mood AS ENUM ('', 'ok', 'more', 'größer', 'it''s'); CREATE DOMAIN felt AS mood;
        CREATE TABLE things (id int PRIMARY KEY, m felt, s varchar, r varchar(20), f mood, p numeric, t text[], n int)";
    for create in [shifted.as_str(), plain, by_enum] {
        let cluster = target(create);
        let mut sink = open(&cluster).await;
        deliver(&mut sink, &unit_of(&source, &things, &own, "id <= 200", 1).await).await;
        assert_eq!(straight_copies(&sink), 1, "{create}");
        // Few rows go as text.
        deliver(
            &mut sink,
            &unit_of(&source, &things, &own, "id BETWEEN 201 AND 210", 2).await,
        )
        .await;
        deliver(&mut sink, &unit_of(&source, &things, &own, "id > 210", 3).await).await;
        assert_eq!(all(&cluster), all(&source), "{create}");
    }
}

/// Where the target's types are neither the source's nor text, values go as texts; and a label that it lacks is refused.
#[tokio::test]
async fn enums_and_domains_of_other_kinds_go_as_text() {
    let source = own_source();
    let things = things(&source);
    let own = own_types(&source, &things).await;
    for (from, to) in [
        ("m mood", "m bpchar"),
        ("m mood", "m name"),
        ("p price", "p text"),
        ("n number", "n bigint"),
        ("s short", "s text"),
        ("n number", "n text"),
    ] {
        let create = OWN.replace(from, to);
        assert!(create != OWN);
        let cluster = target(&create);
        let mut sink = open(&cluster).await;
        deliver(&mut sink, &unit_of(&source, &things, &own, "true", 1).await).await;
        assert_eq!(straight_copies(&sink), 0, "{to}");
        assert_eq!(all(&cluster), all(&source), "{to}");
    }
    // Nobody has said what the types are.
    let cluster = target(OWN);
    let mut sink = open(&cluster).await;
    let mut unknown = unit_of(&source, &things, &own, "true", 1).await;
    Arc::make_mut(&mut unknown.batch).own_types = Arc::default();
    applied(&mut sink, &unknown).await.unwrap_err();
    assert_eq!(straight_copies(&sink), 0);

    let cluster = target(&OWN.replace("'größer', ", ""));
    let mut sink = open(&cluster).await;
    let refused = problem(applied(&mut sink, &unit_of(&source, &things, &own, "true", 1).await).await);
    assert_eq!(refused.code, "E0410");
    assert!(refused.cause.unwrap().contains("-1:1:0"), "the second row has it first");
}

/// A row that the target refuses is named, though it was sent together with others in a form that names none.
#[tokio::test]
async fn a_refused_row_is_named() {
    let source = source(300);
    let things = things(&source);
    let cluster = target(&(create() + "; ALTER TABLE things ADD CHECK (id <> 123)"));
    let mut sink = open(&cluster).await;
    let refused = problem(applied(&mut sink, &unit(&source, &things, "true", 1).await).await);
    assert_eq!(refused.code, "E0410");
    assert!(refused.cause.unwrap().contains("things_id_check"));
}

/// Few rows are divided as texts. One of them can't be made text, whatever place it has in its share.
#[tokio::test]
async fn a_row_of_a_share_that_is_no_text_is_named() {
    let source = source(40);
    let things = things(&source);
    let cluster = target(&create());
    let config = config::PostgresSink {
        relaxed: Some(2),
        ..sink_to(cluster.url("postgres"))
    };
    let unique_id = usize::from(things.columns.iter().find(|it| it.name == "unique_id").unwrap().slot);
    for broken in [3, 17, 38] {
        let mut sink = PostgresSink::new(&config);
        sink.open(&context("warehouse")).await.unwrap();
        let mut delivery = unit(&source, &things, "true", 1).await;
        let batch = Arc::make_mut(&mut delivery.batch);
        let cell = delivery.rows[broken].new.unwrap().0 as usize + unique_id;
        let place = batch.cells[cell].binary_range().unwrap();
        batch.cells[cell] = Cell::binary(place.start, place.len() - 1);
        let refused = problem(applied(&mut sink, &delivery).await);
        let cause = refused.cause.unwrap();
        assert_eq!(refused.code, "E0412", "{cause}");
        let row = format!("row 7301:copy1-{}-1:{broken}:0 of public.things", things.oid);
        assert!(cause.contains(&row), "{cause}");
    }
}

/// A route that leaves a column out has fewer of them than the rows: these are no rows of its tables any more.
#[tokio::test]
async fn a_column_that_a_route_leaves_out_stays_out() {
    let source = source(300);
    let whole = things(&source);
    let cluster = target(&create());
    let mut sink = open(&cluster).await;
    let mut delivery = unit(&source, &whole, "true", 1).await;
    let mut columns = whole.columns.clone();
    columns.retain(|column| column.name != "name");
    let batch = Arc::make_mut(&mut delivery.batch);
    batch.relations = vec![Arc::new(Relation {
        index: Relation::next_index(),
        columns,
        ..(*whole).clone()
    })];
    deliver(&mut sink, &delivery).await;
    source.sql("postgres", "UPDATE things SET name = NULL").unwrap();
    assert_eq!(all(&cluster), all(&source));
}
