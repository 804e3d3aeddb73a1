//! S26: tables that get another name.

use rowmill_tests::{Host, LONG, Shop};

const TABLES: &str = "CREATE TABLE orders (id int PRIMARY KEY, note text)";

fn pipeline(shop: &Shop, table: &str, policy: &str) -> String {
    let routes = format!("routes:\n  - {{ tables: [public.{table}], sinks: [warehouse]{policy} }}");
    shop.pipeline_of(&format!("public.{table}"), &routes)
}

fn notes(table: &str) -> String {
    format!("SELECT string_agg(id || ' ' || note, ', ' ORDER BY id) FROM {table}")
}

/// A route that names a table goes on with it under the name that it knows, and says so. A start asks for the new one, and
/// then brings under it what was written under the old one.
#[test]
fn s26_a_table_is_renamed_and_nothing_of_it_is_lost() {
    let shop = Shop::with(TABLES).unwrap();
    shop.source("INSERT INTO orders VALUES (1, 'copied')").unwrap();
    let old = pipeline(&shop, "orders", "");
    let mut host = Host::run(shop.folder(), &old).unwrap();
    shop.wait_target(&mut host, &notes("orders"), "1 copied").unwrap();
    let changes = "BEGIN; INSERT INTO orders VALUES (2, 'before'); ALTER TABLE orders RENAME TO sales;
        INSERT INTO sales VALUES (3, 'behind'); COMMIT; UPDATE sales SET note = 'changed' WHERE id = 1;";
    shop.cluster.script("source", changes).unwrap();
    shop.wait_target(&mut host, &notes("orders"), "1 changed, 2 before, 3 behind")
        .unwrap();
    let told = host.log().matches("no route takes the new one").count();
    assert_eq!(told, 1, "{}", host.log());
    host.terminate().unwrap();

    // Nobody streams while it is renamed once more.
    let changes = "INSERT INTO sales VALUES (4, 'late'); ALTER TABLE sales RENAME TO deals;
        INSERT INTO deals VALUES (5, 'latest');";
    shop.cluster.script("source", changes).unwrap();
    let (_, refused) = Host::verb(shop.folder(), &old, &["run"], 3).unwrap();
    assert!(refused.contains("E0210") && refused.contains("orders"), "{refused}");
    shop.target("ALTER TABLE orders RENAME TO deals").unwrap();
    let mut host = Host::run(shop.folder(), &pipeline(&shop, "deals", "")).unwrap();
    let all = "1 changed, 2 before, 3 behind, 4 late, 5 latest";
    shop.wait_target(&mut host, &notes("deals"), all).unwrap();
    shop.source("DELETE FROM deals WHERE id < 5").unwrap();
    shop.wait_target(&mut host, &notes("deals"), "5 latest").unwrap();
    host.terminate().unwrap();
}

/// A route that is to stop at changes of its tables stops at another name, too.
#[test]
fn s26_a_route_may_stop_where_its_table_is_renamed() {
    let shop = Shop::with(TABLES).unwrap();
    let stop = ", on_schema_change: stop";
    let mut host = Host::run(shop.folder(), &pipeline(&shop, "orders", stop)).unwrap();
    shop.source("INSERT INTO orders VALUES (1, 'before')").unwrap();
    shop.wait_target(&mut host, &notes("orders"), "1 before").unwrap();
    let changes = "ALTER TABLE orders RENAME TO sales; INSERT INTO sales VALUES (2, 'behind')";
    shop.cluster.script("source", changes).unwrap();
    let status = host.wait(LONG).unwrap();
    assert_eq!(status.code(), Some(2), "{}", host.log());
    let log = host.log();
    assert!(log.contains("E0707") && log.contains("public.sales"), "{log}");
    shop.target("ALTER TABLE orders RENAME TO sales").unwrap();
    let mut host = Host::run(shop.folder(), &pipeline(&shop, "sales", stop)).unwrap();
    shop.wait_target(&mut host, &notes("sales"), "1 before, 2 behind")
        .unwrap();
    host.terminate().unwrap();
}

/// The old name goes to another table. What is written to the renamed one from then on would meet that one's rows: it
/// stops the pipeline, until a route takes it.
#[test]
fn s26_two_tables_never_leave_under_one_name() {
    let shop = Shop::with(TABLES).unwrap();
    shop.source("CREATE PUBLICATION adopted FOR ALL TABLES").unwrap();
    let orders = pipeline(&shop, "orders", "").replace("    tables: [public.orders]\n", "    publication: adopted\n");
    let mut host = Host::run(shop.folder(), &orders).unwrap();
    shop.source("INSERT INTO orders VALUES (1, 'old')").unwrap();
    shop.wait_target(&mut host, &notes("orders"), "1 old").unwrap();
    let swapped = "ALTER TABLE orders RENAME TO sales; CREATE TABLE orders (id int PRIMARY KEY, note text);
        INSERT INTO orders VALUES (2, 'new');";
    shop.cluster.script("source", swapped).unwrap();
    shop.wait_target(&mut host, &notes("orders"), "2 new").unwrap();
    shop.source("INSERT INTO sales VALUES (3, 'late')").unwrap();
    let status = host.wait(LONG).unwrap();
    assert_eq!(status.code(), Some(2), "{}", host.log());
    let log = host.log();
    assert!(
        log.contains("E0707") && log.contains("another table has its old name"),
        "{log}"
    );
    assert_eq!(shop.target(&notes("orders")).unwrap(), "2 new");

    let route = "  - { tables: [public.sales], sinks: [nowhere] }\nsinks:\n  nowhere: { discard: {} }\n";
    let both = orders.replace("sinks:\n", route);
    let mut host = Host::run(shop.folder(), &both).unwrap();
    shop.source("INSERT INTO orders VALUES (4, 'newer')").unwrap();
    shop.wait_target(&mut host, &notes("orders"), "2 new, 4 newer").unwrap();
    host.terminate().unwrap();
}

/// An adopted publication has its tables under whatever name, so nothing but the routes knows the old one.
#[test]
fn s26_a_start_refuses_a_table_that_has_left_all_routes_by_its_name() {
    let shop = Shop::with(TABLES).unwrap();
    shop.source("CREATE PUBLICATION adopted FOR TABLE orders").unwrap();
    let adopting = |table: &str| {
        let pipeline = pipeline(&shop, table, "");
        pipeline.replace(&format!("    tables: [public.{table}]\n"), "    publication: adopted\n")
    };
    shop.source("INSERT INTO orders VALUES (1, 'copied')").unwrap();
    Host::verb(shop.folder(), &adopting("orders"), &["run", "--once"], 0).unwrap();
    let changes = "INSERT INTO orders VALUES (2, 'before'); ALTER TABLE orders RENAME TO sales;
        INSERT INTO sales VALUES (3, 'behind')";
    shop.cluster.script("source", changes).unwrap();
    let (_, refused) = Host::verb(shop.folder(), &adopting("orders"), &["run", "--once"], 2).unwrap();
    assert!(
        refused.contains("E0707") && refused.contains("public.sales"),
        "{refused}"
    );
    shop.target("ALTER TABLE orders RENAME TO sales").unwrap();
    Host::verb(shop.folder(), &adopting("sales"), &["run", "--once"], 0).unwrap();
    assert_eq!(shop.target(&notes("sales")).unwrap(), "1 copied, 2 before, 3 behind");
}
