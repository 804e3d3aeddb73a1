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

#[tokio::test]
async fn a_publication_is_made_for_exactly_the_selected_tables() {
    let cluster = Cluster::start().unwrap();
    cluster.sql("postgres", SCHEMA).unwrap();
    let client = connect(&cluster, "postgres", "postgres").await;
    let selected = tables(&client, &["public.C \"c", "public.b", "public.parts"]).await;

    let made = ensure(&client, "shop", None, &selected, false).await.unwrap();
    assert_eq!((made.name.as_str(), made.created), ("rowmill_shop", true));
    let state = state(&client, "rowmill_shop").await.unwrap().unwrap();
    let published: Vec<&str> = state.tables.iter().map(|table| table.sql_name.as_str()).collect();
    assert_eq!(
        published,
        [r#"public."C ""c""#, "public.b", "public.parts"],
        "no child of b, no leaf of parts"
    );
    assert!(state.via_root && state.inserts && state.updates && state.deletes && state.truncates);
    let again = ensure(&client, "shop", None, &selected, false).await.unwrap();
    assert!(!again.created && again.tables.len() == 3);

    ours_with_other_tables(&cluster, &client).await;
    adopted(&cluster, &client).await;
    denied_to_others(&cluster).await;
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
        let problem = ensure(client, "shop", None, &selected, false).await.unwrap_err();
        assert_eq!(problem.code, codes::PUBLICATION_DIFFERS);
        assert_eq!((problem.help.as_str(), problem.cause.as_deref()), (help, Some(cause)));
    }
    assert_eq!(fingerprint(cluster, "postgres"), before, "never altered");
    // What the help says is what heals it.
    let selected = tables(client, cases[2].0).await;
    cluster.sql("postgres", cases[2].1.trim_matches('`')).unwrap();
    assert!(!ensure(client, "shop", None, &selected, false).await.unwrap().created);
}

async fn adopted(cluster: &Cluster, client: &Client) {
    let before = fingerprint(cluster, "postgres");
    let a = tables(client, &["public.a"]).await;
    assert!(!ensure(client, "x", Some("mine"), &a, false).await.unwrap().created);

    let both = tables(client, &["public.a", "public.b"]).await;
    let problem = ensure(client, "x", Some("mine"), &both, false).await.unwrap_err();
    assert_eq!(problem.code, codes::PUBLICATION_LACKS);
    assert_eq!(
        problem.help,
        "add them: `ALTER PUBLICATION mine ADD TABLE ONLY public.b;`"
    );

    let parts = tables(client, &["public.parts"]).await;
    let problem = ensure(client, "x", Some("leaves"), &parts, false).await.unwrap_err();
    assert!(
        problem
            .help
            .contains("`ALTER PUBLICATION leaves SET (publish_via_partition_root = true);`")
    );

    let problem = ensure(client, "x", Some("nope"), &a, false).await.unwrap_err();
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
    let problem = ensure(&limited, "other", None, &a, false).await.unwrap_err();
    assert_eq!(problem.code, codes::PUBLICATION_DENIED);
    assert!(problem.cause.as_ref().unwrap().contains("(42501)"), "{problem:?}");
    assert_eq!(fingerprint(cluster, "postgres"), before);
    // Once its owner has made it, it is found as ours.
    let statement = problem.help.split('`').nth(1).unwrap();
    cluster.sql("postgres", statement).unwrap();
    assert!(!ensure(&limited, "other", None, &a, false).await.unwrap().created);
}
