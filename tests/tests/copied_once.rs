//! What is copied stays copied: a later run streams, and doesn't copy again.

use rowmill_tests::{Cluster, Host};

const TABLES: &str = "CREATE TABLE keyed (id int PRIMARY KEY, name text);
    CREATE TABLE keyless (name text);
    CREATE TABLE empty (id int PRIMARY KEY);
    ALTER TABLE keyless REPLICA IDENTITY FULL;";

#[test]
fn a_second_run_copies_nothing_again() {
    let cluster = Cluster::start().unwrap();
    for database in ["source", "target"] {
        cluster.sql("postgres", &format!("CREATE DATABASE {database}")).unwrap();
        cluster.script(database, TABLES).unwrap();
    }
    let rows = "INSERT INTO keyed SELECT n, 'source' FROM generate_series(1, 100) n;
        INSERT INTO keyless SELECT 'row' FROM generate_series(1, 100)";
    cluster.sql("source", rows).unwrap();
    let pipeline = format!(
        "name: shop
console: off
source:
  postgres:
    url: {}
    tables: [public.keyed, public.keyless, public.empty]
routes:
  - {{ tables: [public.keyed, public.keyless, public.empty], sinks: [target] }}
sinks:
  target: {{ postgres: {{ url: {} }} }}
",
        cluster.url("source"),
        cluster.url("target"),
    );
    let folder = tempfile::tempdir().unwrap();
    Host::verb(folder.path(), &pipeline, &["run", "--once"], 0).unwrap();
    // Were they copied again, the copy would undo the first of these and double the rows without a key.
    cluster.sql("target", "UPDATE keyed SET name = 'target'").unwrap();
    cluster.sql("target", "INSERT INTO empty VALUES (1)").unwrap();
    cluster
        .sql("source", "INSERT INTO keyed VALUES (101, 'source')")
        .unwrap();
    Host::verb(folder.path(), &pipeline, &["run", "--once"], 0).unwrap();
    let counts = "SELECT count(*) FILTER (WHERE name = 'target') || ' ' || count(*) || ' ' ||
        (SELECT count(*) FROM keyless) FROM keyed";
    assert_eq!(cluster.sql("target", counts).unwrap(), "100 101 100");
    let (status, _) = Host::verb(folder.path(), &pipeline, &["status", "--output", "json"], 0).unwrap();
    assert!(!status.contains("planned"), "{status}");
}
