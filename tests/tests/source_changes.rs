//! S12, S25, S26: what changes at the source while the pipeline runs.

use rowmill_tests::{Host, LONG, Shop};
use std::os::unix::fs::PermissionsExt;

fn rotate(shop: &Shop, password: &str) {
    shop.source(&format!("ALTER ROLE app PASSWORD '{password}'")).unwrap();
    let file = shop.folder().join("password");
    std::fs::write(&file, password).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// S12: the password is read at the start. With another one meanwhile the next connection is refused: the process ends
/// and says so, and the next start takes the new one from its file and goes on.
#[test]
fn s12_the_password_changes_while_running() {
    let shop = Shop::new().unwrap();
    shop.source("CREATE ROLE app SUPERUSER LOGIN").unwrap();
    rotate(&shop, "first-one");
    let rules = shop.cluster.data().join("pg_hba.conf");
    let others = std::fs::read_to_string(&rules).unwrap();
    let scram = "host all app 127.0.0.1/32 scram-sha-256\nhost replication app 127.0.0.1/32 scram-sha-256";
    std::fs::write(&rules, format!("{scram}\n{others}")).unwrap();
    shop.source("SELECT pg_reload_conf()").unwrap();
    let url = shop.cluster.url("source");
    let by_file = url.replace("postgres@", "app:${file:password}@");
    let pipeline = shop.pipeline().replace(&url, &by_file);
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    shop.source("INSERT INTO customers VALUES (1, 'a', 'b', 'c')").unwrap();
    shop.wait_equal(&mut host).unwrap();
    rotate(&shop, "second-one");
    shop.source("SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
        .unwrap();
    shop.source("INSERT INTO customers VALUES (2, 'a', 'b', 'c')").unwrap();
    let status = host.wait(LONG).unwrap();
    assert_eq!(status.code(), Some(3), "{}", host.log());
    assert!(host.log().contains("password"), "{}", host.log());
    let said = host.log();
    assert!(!said.contains("first-one") && !said.contains("second-one"), "{said}");
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    shop.wait_equal(&mut host).unwrap();
    host.terminate().unwrap();
}

/// S25: the publication that was adopted gets a table that no route names: its rows go nowhere, and the others go on.
#[test]
fn s25_a_table_is_added_to_the_publication() {
    let shop = Shop::new().unwrap();
    shop.source("CREATE PUBLICATION adopted FOR TABLE orders, customers")
        .unwrap();
    let pipeline = shop.pipeline().replace(
        "tables: [public.orders, public.customers]\n    snap",
        "publication: adopted\n    snap",
    );
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    shop.source("INSERT INTO customers VALUES (1, 'a', 'b', 'c')").unwrap();
    shop.wait_equal(&mut host).unwrap();
    shop.source("CREATE TABLE late (id bigint PRIMARY KEY)").unwrap();
    shop.source("ALTER PUBLICATION adopted ADD TABLE late").unwrap();
    shop.source("BEGIN; INSERT INTO late VALUES (1); INSERT INTO customers VALUES (2, 'a', 'b', 'c'); COMMIT")
        .unwrap();
    shop.wait_equal(&mut host).unwrap();
    host.terminate().unwrap();
}

/// S26: a table is taken out of the publication, then dropped: the others go on.
#[test]
fn s26_a_table_is_taken_out_and_dropped() {
    let shop = Shop::new().unwrap();
    let mut host = Host::run(shop.folder(), &shop.pipeline()).unwrap();
    shop.source("INSERT INTO customers VALUES (1, 'a', 'b', 'c')").unwrap();
    shop.wait_equal(&mut host).unwrap();
    shop.source("ALTER PUBLICATION rowmill_shop DROP TABLE customers")
        .unwrap();
    shop.source("DROP TABLE customers").unwrap();
    shop.source("INSERT INTO orders VALUES (1, 1, 'paid', 'c', 1, 'x')")
        .unwrap();
    shop.wait_target(&mut host, "SELECT count(*) FROM orders", "1").unwrap();
    shop.wait_target(&mut host, "SELECT count(*) FROM customers", "1")
        .unwrap();
    host.terminate().unwrap();
}
