//! Values in binary form against the server's own text: the same rows by COPY in both forms, many of each type, chosen for
//! their edges and at random.

use rowmill::batch::{Column, Lsn, Origin, Part, Relation, ReplicaIdentity, Transaction};
use rowmill::decode::{CopyDecoder, Types};
use rowmill::postgres::{Conninfo, Reader, sql};
use rowmill::source::catalog;
use rowmill_tests::Cluster;
use std::sync::Arc;

const TYPES: &str = r#"
    CREATE TYPE mood AS ENUM ('sad', 'so "so"', 'it''s, ok', '', 'null');
    CREATE DOMAIN positive AS int CHECK (VALUE > 0);
    CREATE DOMAIN more_positive AS positive;
    CREATE DOMAIN positives AS positive[];
    CREATE TYPE pair AS (a int, "B, b" text, c timestamptz[]);
    CREATE TYPE nested AS (p pair, m mood, d more_positive);
    CREATE TYPE textrange AS RANGE (subtype = text, collation = "C");
    CREATE FUNCTION below(double precision) RETURNS double precision LANGUAGE sql AS $$ SELECT floor(random() * $1) $$;
"#;

/// A type, and an expression of `n` (1 and up) that makes values of it.
const MADE: &[(&str, &str)] = &[
    ("bool", "n % 2 = 0"),
    ("int2", "below(65536) - 32768"),
    ("int4", "below(4294967296) - 2147483648"),
    ("int8", "trunc((random()::numeric - 0.5) * power(2::numeric, n % 64))"),
    ("oid", "below(4294967296)::bigint"),
    ("float8", "(random() - 0.5) * power(10, below(600) - 300)"),
    // Whole numbers, halves and quarters beyond the precision of single steps: ties and middles.
    ("float8", "power(2, n % 1023) + power(2, greatest(n % 1023 - 52, 0)) * below(4)"),
    ("float8", "power(2, 48 + n % 6) + below(1e6) / 8"),
    ("float8", "power(2, -(n % 1074))"),
    ("float8", "trunc(random()::numeric * power(10::numeric, n % 20)) * power(10::numeric, n % 290)"),
    ("float8", "trunc(random()::numeric * power(10::numeric, n % 17)) / power(10::numeric, n % 290)"),
    ("float8", "n::text || 'e' || (n % 610 - 305)"),
    ("float4", "(random() - 0.5) * power(10, below(74) - 37)"),
    ("float4", "power(2, n % 127) + power(2, greatest(n % 127 - 23, 0)) * below(4)"),
    ("float4", "power(2, 19 + n % 6) + below(1e3) / 8"),
    ("float4", "power(2, -(n % 149))"),
    ("float4", "n::text || 'e' || (n % 70 - 35)"),
    ("numeric", "trunc((random() - 0.5)::numeric * power(10::numeric, n % 40), n % 37) * power(10::numeric, n % 5)"),
    ("numeric", "round(random()::numeric / power(10::numeric, n % 60), n % 70)"),
    ("numeric", "power(10::numeric, n % 30) * (n % 3)"),
    ("money", "(below(2e9) - 1e9)::numeric / power(10::numeric, n % 12)"),
    ("date", "date '2000-01-01' + (below(power(2, n % 31)) - 2451545 * (n % 2))::int"),
    ("time", "make_time(below(24)::int, below(60)::int, below(60) + trunc(random()::numeric, n % 7)::float8)"),
    (
        "timetz",
        "make_time(below(24)::int, below(60)::int, below(60))::text || (ARRAY['+00','-03:30','+05:45:59','+13','-09'])[n % 5 + 1]",
    ),
    ("timestamp", "timestamp '2000-01-01' + make_interval(secs => (below(power(2, n % 38)) - 2e11 * (n % 2)) + below(1e6) / 1e6)"),
    ("timestamptz", "timestamptz '2000-01-01' + make_interval(secs => (below(power(2, n % 38)) - 2e11 * (n % 2)) + below(1e6) / power(10, n % 7))"),
    (
        "interval",
        "make_interval(years => (below(20) * (n % 2) - 10 * (n % 2))::int, months => (below(40) * (n / 2 % 2) - 20 * (n / 2 % 2))::int,
           days => (below(100) * (n / 4 % 2) - 50 * (n / 4 % 2))::int,
           secs => (below(4e9) - 2e9) / (ARRAY[1, 1000, 1e6, 1e6])[n / 8 % 4 + 1] * (n / 32 % 2))",
    ),
    ("uuid", "md5(n::text)"),
    ("bytea", "decode(repeat(md5(n::text), n % 4), 'hex')"),
    ("varbit", "substr(n::bit(32)::text, 1, n % 33)"),
    ("inet", "(n % 256) || '.' || (n * 7 % 256) || '.0.' || (n * 13 % 256) || '/' || (n % 33)"),
    // Words that are zero or not, by the bits of `n`.
    (
        "inet",
        "array_to_string(ARRAY(SELECT CASE n >> w & 1 WHEN 1 THEN to_hex((ARRAY[1, 65535, 4660])[(n + w) % 3 + 1]) ELSE '0' END
           FROM generate_series(0, 7) w), ':') || '/' || (128 - n % 3)",
    ),
    ("cidr", "network(set_masklen(('10.' || n % 256 || '.' || (n * 7 % 256) || '.255')::inet, n % 33))"),
    ("macaddr", "substr(md5(n::text), 1, 12)"),
    ("macaddr8", "substr(md5(n::text), 1, 16)"),
    ("pg_lsn", "to_hex(n * 7919) || '/' || to_hex(n * 104729)"),
    ("tid", "'(' || n || ',' || n % 65536 || ')'"),
    ("xid8", "n::text"),
    ("point", "point(random() * 1e10, -random())"),
    ("polygon", "polygon(n % 9 + 2, circle(point(random(), 2), random()))"),
    ("path", "CASE n % 2 WHEN 0 THEN popen(p) ELSE p END FROM (SELECT path(polygon(n % 9 + 2, circle '<(0,0),3>')) p) p"),
    (
        "tsvector",
        "setweight(to_tsvector('simple', md5(n::text) || ' it''s ' || n || ' a\\b' || repeat(' x y', n % 7)), (ARRAY['A','B','C','D'])[n % 4 + 1]::\"char\")",
    ),
    // Every nesting of three operators.
    (
        "tsquery",
        "CASE n % 5 WHEN 0 THEN to_tsquery('simple', format(
             (ARRAY['(a %s b) %s (c %s d)','a %s (b %s (c %s d))','((a %s b) %s c) %s d','!(a %s b) %s !!(c %s d)'])[n / 5 % 4 + 1],
             o[n / 20 % 4 + 1], o[n / 80 % 4 + 1], o[n / 320 % 4 + 1]))
           ELSE (SELECT tsquery_phrase(to_tsquery('simple', 'x:*A'), to_tsquery('simple', 'y' || n || ':AB'), n % 5)) END
         FROM (SELECT ARRAY['&','|','<->','<3>'] o) o",
    ),
    ("int4range", "int4range((below(10))::int, (10 + below(10))::int, (ARRAY['[]','()','[)','(]'])[n % 4 + 1])"),
    ("tstzrange", "tstzrange(now() - n * interval '1 hour', CASE WHEN n % 2 = 0 THEN now() END, (ARRAY['[]','()'])[n % 2 + 1])"),
    ("nummultirange", "nummultirange(numrange(n, n + 0.5), numrange(n + 2, NULL, '(]'))"),
    (
        "textrange",
        "textrange((ARRAY['', 'a', 'a b', 'a,b', '(a', '[a', 'a\"', 'a\\'])[n % 8 + 1], (ARRAY['b', 'c d', 'b)', 'b]', 'b\"\"'])[n % 5 + 1])",
    ),
    ("mood", "(enum_range(NULL::mood))[n % 5 + 1]"),
    ("mood[]", "ARRAY[(enum_range(NULL::mood))[n % 5 + 1], NULL, (enum_range(NULL::mood))[n % 3 + 1]]"),
    ("positives", "ARRAY[n, n + 1]"),
    // Every character that texts within others are quoted for.
    ("text[]", "ARRAY['a' || chr(n % 300 + 1), chr(n % 127 + 1), NULL, 'nUlL', '']"),
    ("pair", "ROW(n, 'a' || chr(n % 300 + 1) || 'b', ARRAY[now(), NULL])"),
    ("pair[]", "ARRAY[ROW(NULL, chr(n % 300 + 1), ARRAY[timestamptz 'infinity'])::pair, NULL]"),
    ("nested", "ROW(ROW(n, chr(n % 300 + 1), '{}')::pair, (enum_range(NULL::mood))[n % 5 + 1], n)"),
    ("float8[]", "'[' || n % 5 - 2 || ':' || n % 5 - 1 || '][1:1]={{' || random() || '},{NaN}}'"),
    ("box[]", "ARRAY[box(point(n, 1), point(2, 3)), NULL]"),
    ("int2vector", "n || ' ' || n % 7"),
    ("jsonb", "jsonb_build_object('n', n, 'text', chr(n % 300 + 1), 'list', ARRAY[1.50, NULL])"),
    ("jsonb[]", "ARRAY[jsonb_build_object('n', n), NULL]"),
    ("\"char\"", "chr(n % 127 + 1)"),
];

const ROWS: usize = 4000;

fn column(type_oid: u32) -> Column {
    Column {
        name: "v".to_owned(),
        type_oid,
        typmod: -1,
        type_name: String::new(),
        nullable: true,
        key: false,
        slot: 0,
    }
}

/// What a COPY brings of its one column.
async fn copied(reader: &mut Reader, sql: &str, type_oid: u32, types: Option<&Arc<Types>>) -> Vec<String> {
    let relation = Arc::new(Relation {
        index: Relation::next_index(),
        version: 1,
        oid: 1,
        schema: "public".to_owned(),
        table: "t".to_owned(),
        replica_identity: ReplicaIdentity::Default,
        columns: vec![column(type_oid)],
        slots: 1,
    });
    let mut decoder = CopyDecoder::new(Arc::clone(&relation));
    if let Some(types) = types {
        decoder = decoder.with_binary(Arc::clone(types));
    }
    let transaction = Transaction {
        xid: 0,
        commit_lsn: Lsn(0),
        end_lsn: Lsn(0),
        commit_us: 0,
        part: Part::Whole,
        origin: Origin::Stream,
    };
    let mut values = Vec::new();
    let copy = reader.copy_out(sql).await;
    let (_, mut frames) = copy.unwrap_or_else(|error| panic!("{sql}: {error}"));
    while let Some(bytes) = frames.next().await.unwrap_or_else(|error| panic!("{sql}: {error}")) {
        let batch = decoder
            .decode(bytes, transaction)
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        values.extend(batch.rows.iter().map(|row| {
            let value = batch.value(row.new.unwrap(), 0);
            value.text().map_or_else(
                || format!("{value:?}"),
                |text| String::from_utf8_lossy(text).into_owned(),
            )
        }));
    }
    values
}

#[tokio::test]
async fn every_binary_value_has_the_text_that_the_server_gives_it() {
    let cluster = Cluster::start().unwrap();
    cluster.script("postgres", TYPES).unwrap();
    let conninfo = Conninfo::parse(&cluster.url("postgres")).unwrap();
    let client = sql::connect(&conninfo, "test").await.unwrap();
    let version: i32 = cluster
        .sql("postgres", "SHOW server_version_num")
        .unwrap()
        .parse()
        .unwrap();
    let types = Arc::new(catalog::types(&client, version).await.unwrap());
    let mut reader = Reader::connect(&conninfo, "test").await.unwrap();
    reader
        .rows("SELECT setseed(0.4711); SET search_path = public")
        .await
        .unwrap();
    let mut differ = Vec::new();
    for (kind, made) in MADE {
        let of = cluster
            .sql("postgres", &format!("SELECT '{kind}'::regtype::oid"))
            .unwrap();
        let of: u32 = of.parse().unwrap();
        assert_eq!(types.unreadable(of), None, "{kind}");
        let select = if made.contains("FROM") {
            format!("(SELECT {made})")
        } else {
            format!("({made})")
        };
        let table = format!(
            "DROP TABLE IF EXISTS made; CREATE TEMPORARY TABLE made AS SELECT n, {select}::text::{kind} AS v
             FROM generate_series(1, {ROWS}) n"
        );
        // What has no cast from text as it is has one by assignment.
        let made_so = reader.rows(&table).await;
        if made_so.is_err() {
            let table = table.replace("::text::", "::");
            reader
                .rows(&table)
                .await
                .unwrap_or_else(|error| panic!("{table}: {error}"));
        }
        let copy = "COPY (SELECT v FROM made ORDER BY n) TO STDOUT";
        let text = copied(&mut reader, copy, of, None).await;
        let binary = copied(&mut reader, &format!("{copy} (FORMAT binary)"), of, Some(&types)).await;
        assert_eq!(text.len(), ROWS);
        let differing: Vec<_> = binary
            .iter()
            .zip(&text)
            .filter(|(binary, text)| binary != text)
            .collect();
        assert_eq!(binary.len(), ROWS);
        if !differing.is_empty() {
            let some = &differing[..differing.len().min(10)];
            differ.push(format!(
                "{kind} {made}: {} differ (binary, text): {some:?}",
                differing.len()
            ));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}
