use super::*;

fn one_row() -> Delivery {
    Builder::new()
        .transaction(0x16B_3748, Part::Whole)
        .insert(&orders(), &[text("1"), text("secret"), text("9.5")])
        .delivery(1)
}

#[tokio::test]
async fn a_missing_table_column_and_key_come_with_the_line_that_makes_them() {
    let cluster = target("SELECT 1");
    for (code, fix) in [
        (
            "E0402",
            "CREATE TABLE \"public\".\"orders\" (\"id\" bigint NOT NULL, \"name\" text, \"total\" numeric, \
             PRIMARY KEY (\"id\"))",
        ),
        (
            "E0403",
            "ALTER TABLE \"public\".\"orders\" ADD COLUMN \"total\" numeric",
        ),
        ("E0404", "ALTER TABLE \"public\".\"orders\" ADD UNIQUE (\"id\")"),
    ] {
        let mut sink = open(&cluster).await;
        let problem = problem(applied(&mut sink, &one_row()).await);
        assert_eq!((problem.code, problem.help.as_str()), (code, fix));
        assert!(problem.headline.len() <= 80, "{}", problem.headline);
        sink.close().await.ok();
        drop(sink);
        cluster.sql("postgres", &problem.help).unwrap();
        deliver(&mut open(&cluster).await, &one_row()).await;
        let next = match code {
            "E0402" => "ALTER TABLE orders DROP COLUMN total",
            _ => "ALTER TABLE orders DROP CONSTRAINT orders_pkey",
        };
        if code != "E0404" {
            cluster.sql("postgres", next).unwrap();
        }
    }
}

#[tokio::test]
async fn a_refused_row_is_placed_but_not_shown() {
    let create = "CREATE TABLE orders (id bigint PRIMARY KEY, name text UNIQUE, total numeric CHECK (total < 9)); \
        INSERT INTO orders VALUES (7, 'secret', 1)";
    let cluster = target(create);
    let problem = problem(applied(&mut open(&cluster).await, &one_row()).await);
    assert_eq!(problem.code, "E0410");
    let cause = problem.cause.unwrap();
    assert!(cause.contains("orders_total_check"), "{cause}");
    assert!(cause.contains("public.orders at position 0/16B3748"), "{cause}");

    cluster
        .sql("postgres", "ALTER TABLE orders DROP CONSTRAINT orders_total_check")
        .unwrap();
    let cause = super::problem(applied(&mut open(&cluster).await, &one_row()).await)
        .cause
        .unwrap();
    assert!(cause.contains("SQLSTATE 23505"), "{cause}");
    assert!(
        cause.contains("orders_name_key") && !cause.contains("secret"),
        "{cause}"
    );

    cluster
        .sql(
            "postgres",
            "TRUNCATE orders; ALTER TABLE orders ALTER total TYPE date USING NULL",
        )
        .unwrap();
    let cause = super::problem(applied(&mut open(&cluster).await, &one_row()).await)
        .cause
        .unwrap();
    assert!(cause.contains("SQLSTATE 22") && !cause.contains("9.5"), "{cause}");
}

#[tokio::test]
async fn a_value_too_long_is_never_cut() {
    let cluster = target("CREATE TABLE orders (id bigint PRIMARY KEY, name varchar(3), total numeric)");
    let cause = problem(applied(&mut open(&cluster).await, &one_row()).await)
        .cause
        .unwrap();
    assert!(cause.contains("SQLSTATE 22001"), "{cause}");
}

// On threads of its own the connection of a dropped sink ends while the test waits for psql.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_target_and_another_source_are_refused() {
    let cluster = target(CREATE_ORDERS);
    let mut first = open(&cluster).await;
    deliver(&mut first, &one_row()).await;
    first.close().await.unwrap();
    drop(first);
    let other_source = SinkContext {
        system_identifier: 1,
        ..context("warehouse")
    };
    assert_eq!(problem(sink(&cluster).open(&other_source).await).code, "E0407");

    cluster
        .sql("template1", "CREATE DATABASE copied TEMPLATE postgres")
        .unwrap();
    let mut copied = PostgresSink::new(&sink_to(cluster.url("copied")));
    assert_eq!(problem(copied.open(&context("warehouse")).await).code, "E0406");
}

#[tokio::test]
async fn a_refused_login_stops() {
    let cluster = target("CREATE ROLE nobody LOGIN");
    let url = |url: String| PostgresSink::new(&sink_to(url));
    let missing = problem(url(cluster.url("nowhere")).open(&context("warehouse")).await);
    assert_eq!(missing.code, "E0255");
    let nobody = cluster.url("postgres").replace("postgres@", "nobody@");
    assert_eq!(problem(url(nobody).open(&context("warehouse")).await).code, "E0408");
}

/// Rows that a policy hides would be taken for missing ones. Where they are only told of, nothing looks for them.
#[tokio::test]
async fn rows_that_a_policy_hides_arent_taken_for_missing_ones() {
    let cluster = target(&format!(
        "{CREATE_ORDERS}; INSERT INTO orders VALUES (1, 'theirs'); \
         CREATE ROLE tenant LOGIN; GRANT ALL ON orders TO tenant; GRANT CREATE ON DATABASE postgres TO tenant; \
         CREATE POLICY own ON orders USING (name = current_user) WITH CHECK (true)"
    ));
    let config = config::PostgresSink {
        mode: WriteMode::Mirror,
        ..sink_to(cluster.url("postgres").replace("postgres@", "tenant@"))
    };
    let mut sink = PostgresSink::new(&config);
    sink.open(&context("warehouse")).await.unwrap();
    let orders = orders();
    let update = |sequence| {
        let builder = Builder::new().transaction(0x10 * sequence, Part::Whole);
        builder
            .update(&orders, &[text("1"), text("secret"), NULL], None)
            .delivery(sequence)
    };
    deliver(&mut sink, &update(1)).await;
    assert_eq!(rows(&cluster), "1|secret||d");
    // In mid-session, and at the next one.
    cluster
        .sql("postgres", "ALTER TABLE orders ENABLE ROW LEVEL SECURITY")
        .unwrap();
    let refused = problem(applied(&mut sink, &update(2)).await);
    assert_eq!(refused.code, "E0408", "{refused:?}");
    sink.open(&context("warehouse")).await.unwrap();
    let refused = problem(applied(&mut sink, &update(2)).await);
    assert_eq!(refused.code, "E0408");
    assert!(
        refused.headline.contains("row-level security of public.orders"),
        "{refused:?}"
    );
    let position = "SELECT lsn FROM rowmill.positions";
    assert_eq!(cluster.sql("postgres", position).unwrap(), "0/18", "it hasn't moved");
    cluster.sql("postgres", "ALTER ROLE tenant BYPASSRLS").unwrap();
    sink.open(&context("warehouse")).await.unwrap();
    deliver(&mut sink, &update(2)).await;
}
