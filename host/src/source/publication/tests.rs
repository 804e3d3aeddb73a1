use super::*;
use crate::source::catalog;
use crate::source::testing::{connect, fingerprint, patterns};
use rowmill_tests::Cluster;

const SCHEMA: &str = r#"
CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE child () INHERITS (b);
CREATE TABLE "C ""c" (id int PRIMARY KEY);
CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY HASH (id);
CREATE TABLE part_0 PARTITION OF parts FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE PUBLICATION mine FOR TABLE a; CREATE PUBLICATION leaves FOR TABLE parts;
CREATE ROLE limited LOGIN REPLICATION; GRANT SELECT ON a TO limited;
"#;

async fn tables(client: &Client, names: &[&str]) -> Vec<Table> {
    let catalog = catalog::read(client, &patterns(names)).await.unwrap();
    assert_eq!(catalog.tables.len(), names.len());
    catalog.tables
}

/// As it is found, once.
async fn ensured(
    client: &Client,
    pipeline: &str,
    adopted: Option<&str>,
    tables: &[Table],
    adjusts: bool,
) -> Result<Publication, Box<Problem>> {
    let found = state(client, &name(pipeline, adopted)).await?;
    ensure(client, pipeline, adopted, found.as_ref(), tables, adjusts).await
}

#[tokio::test]
async fn a_publication_is_made_for_exactly_the_selected_tables() {
    let cluster = Cluster::start().unwrap();
    cluster.sql("postgres", SCHEMA).unwrap();
    let client = connect(&cluster, "postgres", "postgres").await;
    let selected = tables(&client, &["public.C \"c", "public.b", "public.parts"]).await;

    let made = ensured(&client, "shop", None, &selected, false).await.unwrap();
    assert_eq!((made.name.as_str(), made.created), ("rowmill_shop", true));
    let state = state(&client, "rowmill_shop").await.unwrap().unwrap();
    let published: Vec<&str> = state.tables.iter().map(|table| table.sql_name.as_str()).collect();
    assert_eq!(
        published,
        [r#"public."C ""c""#, "public.b", "public.parts"],
        "no child of b, no leaf of parts"
    );
    assert!(state.via_root && state.inserts && state.updates && state.deletes && state.truncates);
    let again = ensured(&client, "shop", None, &selected, false).await.unwrap();
    assert!(!again.created && again.tables.len() == 3);

    ours_with_other_tables(&cluster, &client).await;
    adopted(&cluster, &client).await;
    denied_to_others(&cluster).await;
}

/// What looks compare.
#[tokio::test]
async fn an_entry_is_another_one_once_its_table_was_out() {
    let cluster = Cluster::start().unwrap();
    cluster.sql("postgres", SCHEMA).unwrap();
    let client = connect(&cluster, "postgres", "postgres").await;
    let of_a = async |statements: &str| {
        cluster.script("postgres", statements).unwrap();
        let found = state(&client, "mine").await.unwrap().unwrap();
        let a = found.tables.iter().find(|table| table.full_name == "public.a").unwrap();
        (a.publication, a.entry.unwrap(), a.from_the_first)
    };
    let first = of_a("").await;
    assert!(first.2);
    assert_eq!(of_a("ALTER PUBLICATION mine ADD TABLE b").await, first);
    assert_eq!(
        of_a("ALTER PUBLICATION mine SET TABLE a").await,
        first,
        "named as it is"
    );
    let again = of_a("ALTER PUBLICATION mine DROP TABLE a; ALTER PUBLICATION mine ADD TABLE a").await;
    assert_eq!((again.0, again.2), (first.0, false));
    assert_ne!(again.1, first.1);
    let at_once = "BEGIN; ALTER PUBLICATION mine DROP TABLE a; ALTER PUBLICATION mine ADD TABLE a; COMMIT";
    let at_once = of_a(at_once).await;
    assert_ne!(at_once.1, again.1);
    if version(&cluster) >= 150_000 {
        let filtered = of_a("ALTER PUBLICATION mine SET TABLE a WHERE (id > 1)").await;
        assert_ne!(filtered.1, at_once.1, "with another filter");
        assert_eq!(
            of_a("ALTER PUBLICATION mine SET TABLE a WHERE (id > 1), b").await,
            filtered
        );
    }
    let made_again = of_a("DROP PUBLICATION mine; CREATE PUBLICATION mine FOR TABLE a").await;
    assert!(made_again.0 != first.0 && made_again.2);
    // As an owner of whom it is noted, and as the server's first role.
    let owned = "CREATE ROLE keeper; GRANT CREATE ON DATABASE postgres TO keeper; DROP PUBLICATION mine;
        ALTER TABLE a OWNER TO keeper; ALTER TABLE b OWNER TO keeper;";
    cluster.script("postgres", owned).unwrap();
    for role in ["SET ROLE keeper;", ""] {
        let made = format!("{role} CREATE PUBLICATION mine FOR TABLE a;");
        let made = of_a(&made).await;
        assert!(made.2);
        let altered = of_a("ALTER PUBLICATION mine SET (publish = 'insert')").await;
        assert_eq!(altered, (made.0, made.1, !role.is_empty()), "else it is in doubt");
        let later = format!(
            "DROP PUBLICATION mine; {role} CREATE PUBLICATION mine FOR TABLE ONLY b;
             BEGIN; ALTER PUBLICATION mine SET (publish = 'insert'); ALTER PUBLICATION mine ADD TABLE a; COMMIT"
        );
        assert!(!of_a(&later).await.2, "{role}");
        cluster.sql("postgres", "DROP PUBLICATION mine").unwrap();
    }
    let leaves = state(&client, "leaves").await.unwrap().unwrap();
    assert_eq!(leaves.tables[0].entry, None, "by the table above it");
}

fn version(cluster: &Cluster) -> u32 {
    cluster
        .sql("postgres", "SHOW server_version_num")
        .unwrap()
        .parse()
        .unwrap()
}

async fn ours_with_other_tables(cluster: &Cluster, client: &Client) {
    let before = fingerprint(cluster, "postgres");
    let cases: [(&[&str], &str, &str); 3] = [
        (
            &["public.C \"c", "public.a", "public.b", "public.parts"],
            "`ALTER PUBLICATION rowmill_shop ADD TABLE ONLY public.a;`",
            "it lacks public.a",
        ),
        (
            &["public.b", "public.parts"],
            r#"`ALTER PUBLICATION rowmill_shop DROP TABLE public."C ""c";`"#,
            r#"it has public."C ""c" besides"#,
        ),
        (
            &["public.a", "public.b"],
            "`ALTER PUBLICATION rowmill_shop SET TABLE ONLY public.a, ONLY public.b;`",
            r#"it lacks public.a; it has public."C ""c", public.parts besides"#,
        ),
    ];
    for (names, help, cause) in cases {
        let selected = tables(client, names).await;
        let problem = ensured(client, "shop", None, &selected, false).await.unwrap_err();
        assert_eq!(problem.code, codes::PUBLICATION_DIFFERS);
        assert_eq!((problem.help.as_str(), problem.cause.as_deref()), (help, Some(cause)));
    }
    assert_eq!(fingerprint(cluster, "postgres"), before, "never altered");
    // What the help says is what heals it.
    let selected = tables(client, cases[2].0).await;
    cluster.sql("postgres", cases[2].1.trim_matches('`')).unwrap();
    assert!(!ensured(client, "shop", None, &selected, false).await.unwrap().created);
}

async fn adopted(cluster: &Cluster, client: &Client) {
    let before = fingerprint(cluster, "postgres");
    let a = tables(client, &["public.a"]).await;
    assert!(!ensured(client, "x", Some("mine"), &a, false).await.unwrap().created);

    let both = tables(client, &["public.a", "public.b"]).await;
    let problem = ensured(client, "x", Some("mine"), &both, false).await.unwrap_err();
    assert_eq!(problem.code, codes::PUBLICATION_LACKS);
    assert_eq!(
        problem.help,
        "add them: `ALTER PUBLICATION mine ADD TABLE ONLY public.b;`"
    );

    let parts = tables(client, &["public.parts"]).await;
    let problem = ensured(client, "x", Some("leaves"), &parts, false).await.unwrap_err();
    assert!(
        problem
            .help
            .contains("`ALTER PUBLICATION leaves SET (publish_via_partition_root = true);`")
    );

    let problem = ensured(client, "x", Some("nope"), &a, false).await.unwrap_err();
    assert_eq!(problem.code, codes::PUBLICATION_MISSING);
    assert_eq!(
        problem.help,
        "create it: `CREATE PUBLICATION \"nope\" FOR TABLE ONLY public.a;`"
    );
    assert_eq!(fingerprint(cluster, "postgres"), before);
}

async fn denied_to_others(cluster: &Cluster) {
    let before = fingerprint(cluster, "postgres");
    let limited = connect(cluster, "limited", "postgres").await;
    let a = tables(&limited, &["public.a"]).await;
    let problem = ensured(&limited, "other", None, &a, false).await.unwrap_err();
    assert_eq!(problem.code, codes::PUBLICATION_DENIED);
    assert!(problem.cause.as_ref().unwrap().contains("(42501)"), "{problem:?}");
    assert_eq!(fingerprint(cluster, "postgres"), before);
    // Once its owner has made it, it is found as ours.
    let statement = problem.help.split('`').nth(1).unwrap();
    cluster.sql("postgres", statement).unwrap();
    assert!(!ensured(&limited, "other", None, &a, false).await.unwrap().created);
}
