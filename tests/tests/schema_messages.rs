//! The DDL trigger: what was done to tables arrives at its place among the rows, where a sink asks for it.

use anyhow::{Result, ensure};
use rowmill_tests::{Cluster, Host, LONG, Lines, wait_until};
use serde_json::Value;
use std::path::Path;

fn pipeline(cluster: &Cluster) -> String {
    format!(
        "name: schemas
console: off
source:
  postgres:
    url: {}
    tables: [\"public.*\"]
    snapshot: never
routes:
  - {{ tables: [\"public.*\"], sinks: [follows, rows] }}
sinks:
  follows: {{ file: {{ path: out/follows.jsonl }}, schema_messages: true }}
  rows: {{ file: {{ path: out/rows.jsonl }} }}
",
        cluster.url("postgres")
    )
}

/// As somebody who owns nothing but what they make.
const WORK: &str = "
    SET ROLE app;
    INSERT INTO orders VALUES (1, 'before');
    BEGIN;
    INSERT INTO orders VALUES (2, 'in the midst');
    ALTER TABLE orders ADD COLUMN total numeric(10,2) NOT NULL DEFAULT 0, DROP COLUMN note;
    INSERT INTO orders VALUES (3, 9.5);
    COMMIT;
    BEGIN; CREATE TABLE never (id int); DROP TABLE orders; ROLLBACK;
    CREATE TEMP TABLE passing (id int);
    CREATE TABLE parts (id int, region text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
    CREATE TABLE parts_eu PARTITION OF parts FOR VALUES IN ('eu');
    DROP TABLE parts;
    INSERT INTO orders VALUES (4, 1);
";

fn lines(folder: &Path, name: &str) -> Vec<Value> {
    Lines::read(&folder.join(format!("out/{name}.jsonl"))).map_or_else(|_| Vec::new(), |lines| lines.rows)
}

fn wait_for_order(host: &mut Host, folder: &Path, id: i64) {
    let arrived = wait_until("the last row", LONG, || {
        host.must_run()?;
        let there = |name| lines(folder, name).iter().any(|line| line["new"]["id"] == id);
        Ok((there("follows") && there("rows")).then_some(()))
    });
    arrived.unwrap();
}

/// `op id` of a row, `tag event objects` of a message.
fn shown(line: &Value) -> Result<String> {
    if line["op"] != "message" {
        return Ok(format!(
            "{} {}",
            line["op"].as_str().unwrap_or_default(),
            line["new"]["id"]
        ));
    }
    ensure!(
        line["prefix"] == "rowmill.ddl" && line["transactional"] == true,
        "{line}"
    );
    let content: Value = serde_json::from_str(line["content"].as_str().unwrap_or_default())?;
    ensure!(content["version"] == 1, "{content}");
    let objects = content["objects"].as_array().into_iter().flatten();
    let objects: Vec<&str> = objects.filter_map(|object| object["identity"].as_str()).collect();
    let text = |key: &str| content[key].as_str().unwrap_or_default().to_owned();
    Ok(format!("{} {} {}", text("tag"), text("event"), objects.join(",")))
}

#[test]
fn schema_changes_arrive_at_their_place_where_they_are_asked_for() {
    let cluster = Cluster::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (folder, pipeline) = (folder.path(), pipeline(&cluster));
    let tables = "
        CREATE ROLE app; GRANT CREATE ON SCHEMA public TO app;
        SET ROLE app; CREATE TABLE orders (id bigint PRIMARY KEY, note text)";
    cluster.script("postgres", tables).unwrap();
    let (printed, _) = Host::verb_of(folder, &["ddl-trigger", "show"], 0).unwrap();
    for _ in 0..2 {
        let (ran, _) = Host::verb(folder, &pipeline, &["ddl-trigger", "install"], 0).unwrap();
        assert_eq!(ran, printed);
    }
    let mut host = Host::run(folder, &pipeline).unwrap();
    wait_until("the slot is active", LONG, || {
        host.must_run()?;
        let active = cluster.sql("postgres", "SELECT count(*) FROM pg_replication_slots WHERE active")?;
        Ok((active == "1").then_some(()))
    })
    .unwrap();
    cluster.script("postgres", WORK).unwrap();
    wait_for_order(&mut host, folder, 4);

    let follows = lines(folder, "follows");
    let found: Vec<String> = follows.iter().map(|line| shown(line).unwrap()).collect();
    let expected = [
        "insert 1",
        "insert 2",
        "ALTER TABLE sql_drop public.orders.note",
        "ALTER TABLE ddl_command_end public.orders",
        "insert 3",
        "CREATE TABLE ddl_command_end public.parts",
        "CREATE TABLE ddl_command_end public.parts_eu",
        "DROP TABLE sql_drop public.parts,public.parts_eu",
        "insert 4",
    ];
    assert_eq!(found, expected);
    // Of one transaction, each with an id of its own.
    let ids: Vec<&str> = follows[1..5].iter().map(|line| line["id"].as_str().unwrap()).collect();
    let ordinals: Vec<&str> = ids.iter().map(|id| id.split(':').nth(2).unwrap()).collect();
    // Behind each message comes one that nobody gets, so that no row takes its place.
    assert_eq!(ordinals, ["0", "1", "3", "5"]);
    assert!(follows[1..5].iter().all(|line| line["xid"] == follows[1]["xid"]));
    let altered: Value = serde_json::from_str(follows[3]["content"].as_str().unwrap()).unwrap();
    let columns = &altered["objects"][0]["relation"]["columns"];
    assert_eq!(
        (columns[0]["name"].as_str(), columns[0]["key"].as_bool()),
        (Some("id"), Some(true))
    );
    let total = (
        &columns[1]["number"],
        &columns[1]["type"],
        &columns[1]["default"],
        &columns[1]["not_null"],
    );
    assert_eq!(total, (&3.into(), &"numeric(10,2)".into(), &"0".into(), &true.into()));

    // The other one gets the rows alone, with the same ids.
    let rows = lines(folder, "rows");
    let of_rows: Vec<&Value> = follows.iter().filter(|line| line["op"] != "message").collect();
    assert_eq!(rows.iter().collect::<Vec<_>>(), of_rows);

    // Whatever is wrong with the trigger, a statement goes through, and says that something is.
    let broken = "ALTER FUNCTION rowmill.ddl_relation(oid) RENAME TO gone;
                  SET ROLE app; CREATE TABLE made_anyway (id int); INSERT INTO orders VALUES (5, 1);";
    cluster.script("postgres", broken).unwrap();
    wait_for_order(&mut host, folder, 5);
    let last = &lines(folder, "follows")[follows.len()..];
    let incomplete: Value = serde_json::from_str(last[1]["content"].as_str().unwrap()).unwrap();
    assert_eq!(incomplete["error"], "42883");
    cluster
        .script("postgres", "ALTER FUNCTION rowmill.gone(oid) RENAME TO ddl_relation")
        .unwrap();
    Host::verb(folder, &pipeline, &["ddl-trigger", "drop"], 0).unwrap();
    assert_eq!(
        cluster
            .sql("postgres", "SELECT count(*) FROM pg_event_trigger")
            .unwrap(),
        "0"
    );
    host.terminate().unwrap();
}

#[test]
fn who_may_not_install_it_is_told_how() {
    let cluster = Cluster::start().unwrap();
    let role = "CREATE ROLE plain LOGIN; GRANT CREATE ON DATABASE postgres TO plain";
    cluster.script("postgres", role).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let plain = pipeline(&cluster).replace("postgres@", "plain@");
    let (_, stderr) = Host::verb(folder.path(), &plain, &["ddl-trigger", "install"], 3).unwrap();
    assert!(
        stderr.contains("E0249") && stderr.contains("ddl-trigger show"),
        "{stderr}"
    );
    // As a whole or not at all.
    let left = cluster.sql(
        "postgres",
        "SELECT count(*) FROM pg_namespace WHERE nspname = 'rowmill'",
    );
    assert_eq!(left.unwrap(), "0");
}
