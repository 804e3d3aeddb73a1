use super::*;
use crate::source::preflight::codes;
use crate::source::testing::{connect, fingerprint};
use rowmill_tests::Cluster;

fn make_slot(cluster: &Cluster, database: &str, slot: &str, plugin: &str) {
    let sql = format!("SELECT pg_create_logical_replication_slot('{slot}', '{plugin}')");
    cluster.sql(database, &sql).unwrap();
}

#[tokio::test]
async fn only_what_rowmill_made_is_taken_down() {
    let cluster = Cluster::start().unwrap();
    cluster.sql("postgres", "CREATE DATABASE other").unwrap();
    cluster
        .sql("postgres", "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION rowmill_shop FOR TABLE t; CREATE PUBLICATION mine FOR TABLE t")
        .unwrap();
    make_slot(&cluster, "postgres", "rowmill_shop", "pgoutput");
    make_slot(&cluster, "postgres", "bystander", "pgoutput");
    make_slot(&cluster, "other", "rowmill_elsewhere", "pgoutput");
    make_slot(&cluster, "postgres", "rowmill_foreign", "test_decoding");
    let client = connect(&cluster, "postgres", "postgres").await;

    let before = fingerprint(&cluster, "postgres");
    let removals = plan(&client, "shop", Some("rowmill_shop"), None).await.unwrap();
    let statements: Vec<&str> = removals.iter().map(|removal| removal.statement.as_str()).collect();
    let slot = "SELECT pg_drop_replication_slot('rowmill_shop');";
    assert_eq!(statements, [slot, "DROP PUBLICATION \"rowmill_shop\";"]);
    let adopted = plan(&client, "shop", Some("rowmill_shop"), Some("rowmill_shop"))
        .await
        .unwrap();
    assert_eq!(adopted.len(), 1, "an adopted publication stays, whatever its name");
    assert!(
        plan(&client, "elsewhere", Some("rowmill_elsewhere"), None)
            .await
            .unwrap()
            .is_empty(),
        "another database's slot"
    );
    assert!(
        plan(&client, "foreign", Some("rowmill_foreign"), None)
            .await
            .unwrap()
            .is_empty(),
        "another plugin's slot"
    );
    let others = plan(&client, "shop", None, Some("mine")).await.unwrap();
    let statements: Vec<&str> = others.iter().map(|removal| removal.statement.as_str()).collect();
    assert_eq!(statements, ["DROP PUBLICATION \"rowmill_shop\";"]);
    let named = plan(&client, "shop", Some("bystander"), Some("rowmill_shop"))
        .await
        .unwrap();
    assert_eq!(
        named[0].statement, "SELECT pg_drop_replication_slot('bystander');",
        "and none of another name"
    );
    assert_eq!(named.len(), 1);
    assert_eq!(fingerprint(&cluster, "postgres"), before, "planning changes nothing");

    apply(&client, &removals).await.unwrap();
    assert!(
        plan(&client, "shop", Some("rowmill_shop"), None)
            .await
            .unwrap()
            .is_empty()
    );
    let slots: Vec<String> = slot::list(&client)
        .await
        .unwrap()
        .into_iter()
        .map(|slot| slot.name)
        .collect();
    assert_eq!(slots, ["bystander", "rowmill_elsewhere", "rowmill_foreign"]);
    assert_eq!(
        cluster.sql("postgres", "SELECT pubname FROM pg_publication").unwrap(),
        "mine"
    );

    let problem = slot::drop(&client, "rowmill_shop").await.unwrap_err();
    assert_eq!(problem.code, codes::SLOT_MISSING);
    assert!(problem.cause.as_ref().unwrap().contains("(42704)"));
    what_slot_creation_waits_for(&cluster).await;
}

async fn what_slot_creation_waits_for(cluster: &Cluster) {
    let client = connect(cluster, "postgres", "postgres").await;
    assert!(slot::blockers(&client).await.unwrap().is_empty());
    let writer = connect(cluster, "postgres", "other").await;
    let statements = "SET application_name = 'nightly'; BEGIN; CREATE TABLE public.busy (id int)";
    writer.batch_execute(statements).await.unwrap();
    let pid: i32 = writer.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let blockers = slot::blockers(&client).await.unwrap();
    assert_eq!(blockers.len(), 1, "readers don't hold it up");
    assert_eq!(blockers[0].pid, Some(pid));
    assert!(
        blockers[0].to_string().contains("application_name `nightly`"),
        "another database's counts too"
    );
}
