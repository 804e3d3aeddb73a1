//! Enums and domains of the source's own go from one server to the other in the binary form in which they are read.

use rowmill_tests::{Cluster, Host};

const TYPES: &str = "
    CREATE TYPE mood AS ENUM ('it''s', 'ok', 'größer', '');
    CREATE DOMAIN short AS varchar(9) CHECK (length(value) < 8); CREATE DOMAIN shorter AS short;
    CREATE DOMAIN feeling AS mood; CREATE DOMAIN price AS numeric(12,3); CREATE DOMAIN tags AS text[];";
/// Both have a label in their keys.
const TABLES: &str = "
    CREATE TABLE things (m mood, n int, s shorter, f feeling, p price, t tags, PRIMARY KEY (m, n));
    CREATE TABLE others (id bigint PRIMARY KEY, f feeling NOT NULL);";
const ROWS: &str = "
    INSERT INTO things SELECT (ARRAY['it''s', 'ok', 'größer', ''])[n % 4 + 1]::mood, n, nullif('s' || n, 's77'),
        (ARRAY['ok', NULL, 'it''s'])[n % 3 + 1]::feeling, CASE n % 7 WHEN 0 THEN 'NaN' ELSE n / 7.0 END,
        CASE WHEN n % 3 > 0 THEN ARRAY['a,\"b', NULL, n::text] END FROM generate_series(1, 3000) n;
    INSERT INTO others SELECT n, (ARRAY['ok', 'größer'])[n % 2 + 1]::feeling FROM generate_series(1, 3000) n;";
const CHANGES: &str = "
    UPDATE things SET f = 'größer', m = 'ok' WHERE n % 10 = 3; DELETE FROM things WHERE n % 10 = 4;
    UPDATE others SET f = '' WHERE id < 100";
const DIGEST: &str = "
    SELECT (SELECT count(*) || md5(string_agg(t::text, '|' ORDER BY n)) FROM things t),
        (SELECT count(*) || md5(string_agg(t::text, '|' ORDER BY id)) FROM others t)";

fn pipeline(cluster: &Cluster, target: &str, rest: &str) -> String {
    format!(
        "name: {target}
console: off
source: {{ postgres: {{ url: {}, tables: [public.things, public.others] }} }}
routes: [{{ tables: [public.things, public.others], sinks: [warehouse] }}]
sinks: {{ warehouse: {{ postgres: {{ url: {}{rest} }} }} }}
",
        cluster.url("source"),
        cluster.url(target)
    )
}

/// Databases with other OIDs: one where the sink makes the tables, one with texts in the place of enums, and one in which a
/// domain is over another type than at the source.
#[test]
fn enums_and_domains_are_copied_as_they_are_read() {
    let cluster = Cluster::start().unwrap();
    cluster.sql("postgres", "CREATE DATABASE source").unwrap();
    cluster.script("source", &format!("{TYPES}{TABLES}{ROWS}")).unwrap();
    let texts = TABLES.replace(" mood", " text").replace(" feeling", " varchar");
    let other = format!("{TYPES}{TABLES}")
        .replace("price AS numeric(12,3)", "price AS text")
        .replace("id bigint PRIMARY KEY, f feeling", "id bigint PRIMARY KEY, f name");
    for (target, create, rest, copies) in [
        ("made", "", ", create_tables: true", 2),
        ("texts", &format!("{TYPES}{texts}"), "", 2),
        ("other", &other, "", 0),
    ] {
        cluster.sql("postgres", &format!("CREATE DATABASE {target}")).unwrap();
        cluster.script(target, create).unwrap();
        cluster
            .sql(
                "postgres",
                &format!("ALTER DATABASE {target} SET log_statement = 'all'"),
            )
            .unwrap();
        let before = cluster.log().len();
        let folder = tempfile::tempdir().unwrap();
        let pipeline = pipeline(&cluster, target, rest);
        Host::verb(folder.path(), &pipeline, &["run", "--once"], 0).unwrap();
        let log = &cluster.log()[before..];
        let is_straight = |table: &&&str| {
            let copy = format!("COPY \"public\".\"{table}\"");
            let mut lines = log.lines();
            lines.any(|line| line.contains(&copy) && line.ends_with("FROM STDIN (FORMAT binary)"))
        };
        assert_eq!(
            ["things", "others"].iter().filter(is_straight).count(),
            copies,
            "{target}\n{log}"
        );
        let source = cluster.sql("source", DIGEST).unwrap();
        assert_eq!(cluster.sql(target, DIGEST).unwrap(), source, "{target}");
        cluster.script("source", CHANGES).unwrap();
        Host::verb(folder.path(), &pipeline, &["run", "--once"], 0).unwrap();
        let source = cluster.sql("source", DIGEST).unwrap();
        assert_eq!(cluster.sql(target, DIGEST).unwrap(), source, "{target}");
    }
}
