use super::*;
use crate::source::testing::{connect, fingerprint, patterns};
use rowmill_tests::{Cluster, ClusterOptions};

mod slots;

const SCHEMA: &str = r#"
CREATE TABLE orders (id int PRIMARY KEY, note text);
CREATE TABLE keyless (id int); CREATE TABLE nothing (id serial PRIMARY KEY);
ALTER TABLE nothing REPLICA IDENTITY NOTHING;
CREATE TABLE parts (id int) PARTITION BY LIST (id); CREATE TABLE part_1 PARTITION OF parts FOR VALUES IN (1);
ALTER TABLE parts REPLICA IDENTITY FULL;
CREATE UNLOGGED TABLE cache (id int PRIMARY KEY); CREATE VIEW recent AS SELECT * FROM orders;
CREATE FOREIGN DATA WRAPPER w; CREATE SERVER far FOREIGN DATA WRAPPER w;
CREATE FOREIGN TABLE remote (id int) SERVER far;
CREATE TABLE secured (id int PRIMARY KEY); ALTER TABLE secured ENABLE ROW LEVEL SECURITY;
CREATE SCHEMA closed; CREATE TABLE closed.t (id int PRIMARY KEY);
CREATE PUBLICATION mine FOR TABLE orders (id) WHERE (id > 0), secured WITH (publish = 'insert');
CREATE PUBLICATION inserts FOR TABLE keyless WITH (publish = 'insert');
CREATE ROLE plain LOGIN; CREATE ROLE "Repl user" LOGIN REPLICATION;
GRANT SELECT ON orders, secured TO "Repl user";
"#;

fn request<'a>(tables: &'a [TablePattern]) -> Request<'a> {
    Request {
        pipeline: "shop",
        host: Some("127.0.0.1"),
        tables,
        publication: None,
        slot: "rowmill_shop",
        copied: &[],
        adjusts: false,
        binary: false,
        conditions: &[],
        two_phase: false,
    }
}

fn codes_of(report: &Report) -> Vec<&'static str> {
    report.problems.iter().map(|problem| problem.code).collect()
}

/// The one problem of that code, its texts in their form.
fn problem<'a>(report: &'a Report, code: &str) -> &'a Problem {
    let found: Vec<&Problem> = report.problems.iter().filter(|problem| problem.code == code).collect();
    assert_eq!(found.len(), 1, "{code}: {:?}", report.problems);
    assert!(found[0].headline.chars().count() <= 80 && !found[0].headline.ends_with('.'));
    assert!(!found[0].headline.starts_with(char::is_uppercase));
    assert!(!found[0].help.contains('\n') && found[0].cause.is_some());
    found[0]
}

fn notice<'a>(report: &'a Report, code: &str) -> &'a Notice {
    report.notices.iter().find(|notice| notice.code == code).unwrap()
}

/// What is wrong with `tables`, seen as the superuser.
async fn tables(client: &Client, names: &[&str]) -> Report {
    run(client, &request(&patterns(names))).await.unwrap()
}

/// A server with tables, roles and publications of many kinds, looked at as the superuser.
struct Stage {
    cluster: Cluster,
    client: Client,
    before: String,
}

impl Stage {
    async fn new() -> Self {
        let cluster = Cluster::start().unwrap();
        cluster.sql("postgres", SCHEMA).unwrap();
        let client = connect(&cluster, "postgres", "postgres").await;
        let before = fingerprint(&cluster, "postgres");
        Self {
            cluster,
            client,
            before,
        }
    }

    /// Looking changes nothing.
    fn is_unchanged(&self) {
        assert_eq!(fingerprint(&self.cluster, "postgres"), self.before);
        let slots = self
            .cluster
            .sql("postgres", "SELECT count(*) FROM pg_replication_slots");
        assert_eq!(slots.unwrap(), "0");
    }
}

#[tokio::test]
async fn a_server_in_order_and_what_is_no_table_there() {
    let stage = Stage::new().await;
    nothing_is_wrong(&stage.client).await;
    what_is_no_table(&stage.client).await;
    stage.is_unchanged();
}

async fn nothing_is_wrong(client: &Client) {
    let report = tables(client, &["public.orders"]).await;
    assert!(
        report.problems.is_empty() && report.exit().is_none(),
        "{:?}",
        report.problems
    );
    assert_eq!(
        notice(&report, codes::UNCHANGED_TOAST).detail.as_deref(),
        Some("public.orders")
    );
    assert!(report.notices.iter().all(|notice| notice.level == Level::Info));
    let tables = patterns(&["public.orders"]);
    let pooled = Request {
        host: Some("ep-a-pooler.eu.aws.neon.tech"),
        ..request(&tables)
    };
    let report = run(client, &pooled).await.unwrap();
    assert!(
        problem(&report, codes::POOLED_HOST)
            .help
            .contains("`ep-a.eu.aws.neon.tech`")
    );
}

#[tokio::test]
async fn s28_tables_without_identity_are_refused_before_writes_would_fail() {
    let stage = Stage::new().await;
    let client = &stage.client;
    let report = tables(client, &["public.keyless"]).await;
    assert_eq!(report.exit(), Some(Exit::Preflight));
    let found = problem(&report, codes::NO_IDENTITY);
    assert_eq!(found.headline, "table `public.keyless` has no usable replica identity");
    assert_eq!(found.help, "`ALTER TABLE public.keyless REPLICA IDENTITY FULL;`");

    let report = tables(
        client,
        &["public.orders", "public.keyless", "public.nothing", "public.parts"],
    )
    .await;
    let found = problem(&report, codes::NO_IDENTITY);
    assert_eq!(found.headline, "3 tables have no usable replica identity");
    let cause = found.cause.as_deref().unwrap();
    for name in [
        "public.keyless (no primary key)",
        "public.nothing (REPLICA IDENTITY NOTHING)",
        "public.part_1 (partition of public.parts)",
    ] {
        assert!(cause.contains(name), "{cause}");
    }
    assert_eq!(
        found.help,
        "`ALTER TABLE public.keyless REPLICA IDENTITY FULL; ALTER TABLE public.nothing REPLICA IDENTITY DEFAULT; \
         ALTER TABLE public.part_1 REPLICA IDENTITY FULL;`"
    );
    assert_eq!(
        notice(&report, codes::SEQUENCES).detail.as_deref(),
        Some("public.nothing")
    );
    stage.is_unchanged();
    let writes =
        "INSERT INTO nothing VALUES (1); UPDATE nothing SET id = 2; DELETE FROM nothing; UPDATE part_1 SET id = 1";
    stage.cluster.sql("postgres", writes).unwrap();
}

async fn what_is_no_table(client: &Client) {
    let names = [
        "public.order",
        "public.cache",
        "public.recent",
        "public.remote",
        "public.orders",
    ];
    let report = tables(client, &names).await;
    let missing = problem(&report, codes::TABLE_MISSING);
    assert_eq!(missing.headline, "table `public.order` does not exist");
    let refused: Vec<_> = report
        .problems
        .iter()
        .filter(|found| found.code == codes::NOT_REPLICATED)
        .collect();
    let headlines: Vec<&str> = refused.iter().map(|found| found.headline.as_str()).collect();
    assert_eq!(
        headlines,
        [
            "`public.cache` is an unlogged table, tables only are replicated",
            "`public.recent` is a view, tables only are replicated",
            "`public.remote` is a foreign table, tables only are replicated",
        ]
    );
    assert_eq!(refused[0].help, "`ALTER TABLE public.cache SET LOGGED;`");

    let report = tables(client, &["public.order*", "nothing_*.x", "public.rece*"]).await;
    assert_eq!(codes_of(&report), Vec::<&str>::new());
    assert!(
        notice(&report, codes::PATTERN_UNMATCHED)
            .headline
            .contains("`nothing_*.x`")
    );
    assert_eq!(
        notice(&report, codes::LEFT_OUT).detail.as_deref(),
        Some("public.recent (view)")
    );
    let report = tables(client, &["nothing_*.x"]).await;
    assert_eq!(codes_of(&report), [codes::NOTHING_SELECTED]);
}

#[tokio::test]
async fn s38_a_role_that_lacks_rights_is_told_the_grant() {
    let stage = Stage::new().await;
    let cluster = &stage.cluster;
    let names = patterns(&["public.orders", "public.keyless", "closed.t"]);
    let plain = connect(cluster, "plain", "postgres").await;
    let report = run(&plain, &request(&names)).await.unwrap();
    assert_eq!(
        problem(&report, codes::ROLE_REPLICATION).help,
        "`ALTER ROLE plain REPLICATION;`"
    );
    assert!(
        problem(&report, codes::PUBLICATION_DENIED)
            .cause
            .as_ref()
            .unwrap()
            .contains("public.orders")
    );
    assert_eq!(
        problem(&report, codes::SELECT_DENIED).help,
        "`GRANT USAGE ON SCHEMA \"closed\" TO plain; GRANT SELECT ON closed.t, public.keyless, public.orders TO plain;`"
    );
    let neon = Request {
        host: Some("ep-a.eu.aws.neon.tech"),
        ..request(&names)
    };
    let report = run(&plain, &neon).await.unwrap();
    assert!(problem(&report, codes::ROLE_REPLICATION).help.contains("Neon console"));

    let names = patterns(&["public.orders", "public.secured"]);
    let replicator = connect(cluster, "Repl user", "postgres").await;
    let report = run(&replicator, &request(&names)).await.unwrap();
    assert_eq!(codes_of(&report), [codes::PUBLICATION_DENIED, codes::ROW_SECURITY]);
    assert_eq!(
        problem(&report, codes::ROW_SECURITY).help,
        "`ALTER ROLE \"Repl user\" BYPASSRLS;`"
    );
    stage.is_unchanged();
}

#[tokio::test]
async fn s23_a_publication_that_is_missing_or_lacks_tables_is_refused() {
    let stage = Stage::new().await;
    let client = &stage.client;
    let selected = patterns(&["public.orders", "public.nothing"]);
    let adopting = |name| Request {
        publication: Some(name),
        ..request(&selected)
    };
    let report = run(client, &adopting("nope")).await.unwrap();
    assert_eq!(codes_of(&report), [codes::PUBLICATION_MISSING, codes::NO_IDENTITY]);
    assert!(
        problem(&report, codes::PUBLICATION_MISSING)
            .help
            .starts_with("create it: `CREATE PUBLICATION \"nope\"")
    );

    let report = run(client, &adopting("mine")).await.unwrap();
    assert_eq!(
        codes_of(&report),
        [codes::PUBLICATION_LACKS],
        "inserts need no identity"
    );
    assert!(
        problem(&report, codes::PUBLICATION_LACKS)
            .headline
            .contains("`public.nothing`")
    );
    assert_eq!(
        notice(&report, codes::ROW_FILTER).detail.as_deref(),
        Some("public.orders")
    );
    assert_eq!(
        notice(&report, codes::COLUMN_LIST).detail.as_deref(),
        Some("public.orders")
    );
    assert_eq!(
        notice(&report, codes::PUBLICATION_EXTRA).detail.as_deref(),
        Some("public.secured")
    );
    let operations = notice(&report, codes::PUBLICATION_OPERATIONS);
    assert!(
        operations.headline.ends_with("update, delete, truncate"),
        "{}",
        operations.headline
    );

    let whole = Request {
        tables: &[],
        ..adopting("inserts")
    };
    let report = run(client, &whole).await.unwrap();
    assert!(report.problems.is_empty() && report.catalog.table("public", "keyless").is_some());
    let report = run(
        client,
        &Request {
            tables: &[],
            ..adopting("nope")
        },
    )
    .await
    .unwrap();
    assert_eq!(codes_of(&report), [codes::PUBLICATION_MISSING]);
    stage.is_unchanged();
}

#[tokio::test]
async fn s39_settings_that_need_a_restart_are_named_with_what_they_have_to_be() {
    let options = ClusterOptions {
        settings: ["wal_level=replica", "max_replication_slots=1", "max_wal_senders=0"]
            .map(str::to_owned)
            .into(),
        ..Default::default()
    };
    let cluster = Cluster::start_with(&options).unwrap();
    cluster
        .sql("postgres", "CREATE TABLE orders (id int PRIMARY KEY)")
        .unwrap();
    cluster
        .sql("postgres", "SELECT pg_create_physical_replication_slot('taken')")
        .unwrap();
    let client = connect(&cluster, "postgres", "postgres").await;
    let before = fingerprint(&cluster, "postgres");
    let report = tables(&client, &["public.orders"]).await;
    assert_eq!(
        codes_of(&report),
        [codes::WAL_LEVEL, codes::SLOTS_TAKEN, codes::SENDERS_TAKEN]
    );
    let found = problem(&report, codes::WAL_LEVEL);
    assert_eq!(found.headline, "wal_level is `replica`, `logical` is needed");
    assert_eq!(
        found.help,
        "`ALTER SYSTEM SET wal_level = logical;`, then restart the server"
    );
    let found = problem(&report, codes::SLOTS_TAKEN);
    assert_eq!(
        found.help,
        "`ALTER SYSTEM SET max_replication_slots = 2;`, then restart the server"
    );
    assert!(found.cause.as_ref().unwrap().contains("not in use: taken"));
    let found = problem(&report, codes::SENDERS_TAKEN);
    assert_eq!(
        found.help,
        "`ALTER SYSTEM SET max_wal_senders = 1;`, then restart the server"
    );
    assert_eq!(fingerprint(&cluster, "postgres"), before);
}

#[tokio::test]
async fn s43_a_standby_is_refused_and_odd_encodings_are_noted() {
    let cluster = Cluster::start().unwrap();
    cluster
        .sql(
            "postgres",
            "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
        )
        .unwrap();
    cluster
        .sql("latin", "CREATE TABLE orders (id int PRIMARY KEY)")
        .unwrap();
    cluster.stop_server("fast").unwrap();
    // A standby without a primary: it stays in recovery and answers reads.
    std::fs::write(cluster.data().join("standby.signal"), "").unwrap();
    cluster.start_server().unwrap();
    let client = connect(&cluster, "postgres", "latin").await;
    let report = tables(&client, &["public.orders"]).await;
    assert_eq!(codes_of(&report), [codes::STANDBY]);
    assert!(problem(&report, codes::STANDBY).help.contains("the primary"));
    assert!(notice(&report, codes::ENCODING).headline.contains("LATIN1"));
}

#[tokio::test]
async fn binary_is_refused_where_a_column_has_a_type_without_a_text() {
    let cluster = Cluster::start().unwrap();
    let schema = "
        CREATE TYPE holder AS (n int, of regtype);
        CREATE DOMAIN short AS text CHECK (length(VALUE) < 9);
        CREATE TABLE good (id int PRIMARY KEY, d short, a short[], acl aclitem, r int4range[]);
        CREATE TABLE one (id int PRIMARY KEY, made regclass);
        CREATE TABLE several (id int PRIMARY KEY, made holder[], acls aclitem[], other regproc);
        CREATE PUBLICATION p FOR TABLE good, one";
    cluster.sql("postgres", schema).unwrap();
    let client = connect(&cluster, "postgres", "postgres").await;
    let binary = async |names: &[&str], publication| {
        let tables = patterns(names);
        let request = Request {
            binary: true,
            publication,
            ..request(&tables)
        };
        run(&client, &request).await.unwrap()
    };
    let report = binary(&["public.good"], None).await;
    assert!(
        report.problems.is_empty() && report.types.is_some(),
        "{:?}",
        report.problems
    );
    let report = binary(&["public.one"], None).await;
    let found = problem(&report, codes::BINARY);
    assert!(
        found.headline.contains("`public.one.made` is of type regclass"),
        "{}",
        found.headline
    );
    assert!(found.help.contains("remove `binary: true`"));
    let report = binary(&["public.good", "public.several"], None).await;
    let found = problem(&report, codes::BINARY);
    let cause = found.cause.as_deref().unwrap();
    for named in [
        "public.several.made (public.holder[], which holds regtype)",
        "public.several.acls (aclitem[], which holds aclitem)",
        "public.several.other (regproc)",
    ] {
        assert!(cause.contains(named), "{cause}");
    }
    // All tables of an adopted publication are streamed, though some are dropped here.
    let report = binary(&["public.good"], Some("p")).await;
    assert!(problem(&report, codes::BINARY).headline.contains("public.one.made"));
    let report = tables(&client, &["public.one"]).await;
    assert!(report.problems.is_empty() && report.types.is_none());
}
