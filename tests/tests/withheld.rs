//! What an adopted publication withholds leaves by no way, neither with the copy nor with the stream; what `where` leaves
//! out of the copy comes with the stream.

use rowmill_tests::{Host, LONG, Shop};

const TABLES: &str = "CREATE TABLE people (id bigint PRIMARY KEY, country text, name text, secret text);";
const SECRET: &str = "nobody-may-read-this";
/// Of which an update that leaves `body` alone doesn't bring it, though its status, part of the identity, is filtered by.
const DOCS: &str = "CREATE TABLE docs (id int NOT NULL, status text NOT NULL, body text, UNIQUE (id, status));
    ALTER TABLE docs ALTER body SET STORAGE EXTERNAL;
    ALTER TABLE docs REPLICA IDENTITY USING INDEX docs_id_status_key;";

/// All that the feed has.
fn feed(shop: &Shop) -> String {
    let files = std::fs::read_dir(shop.folder().join("out"));
    let files = files.into_iter().flatten();
    files
        .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap())
        .collect()
}

#[test]
fn a_column_list_and_a_row_filter_hold_for_the_copy_too() {
    let shop = Shop::with(TABLES).unwrap();
    let insert = |from: u32, rows: u32| {
        let sql = format!(
            "INSERT INTO people SELECT n, CASE n % 3 WHEN 0 THEN 'at' ELSE 'de' END, 'name ' || n, '{SECRET}'
             FROM generate_series({from}, {from} + {rows} - 1) n"
        );
        shop.source(&sql).unwrap();
    };
    // Several units of the copy.
    insert(1, 5_000);
    shop.source("ALTER TABLE people REPLICA IDENTITY USING INDEX people_pkey")
        .unwrap();
    shop.source("CREATE PUBLICATION mine FOR TABLE people (id, name) WHERE (id % 3 = 0)")
        .unwrap();
    let rest = "routes:
  - { tables: [public.people], sinks: [warehouse, feed] }";
    let pipeline = shop
        .pipeline_of("public.people", rest)
        .replace("tables: [public.people]\n", "publication: mine\n");
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    let expect = |host: &mut Host, rows: u32| {
        let found = "SELECT count(*), count(*) FILTER (WHERE id % 3 = 0 AND name = 'name ' || id), count(secret), count(country)
                     FROM people";
        shop.wait_target(host, found, &format!("{rows}|{rows}|0|0")).unwrap();
    };
    expect(&mut host, 1_666);

    insert(10_001, 300);
    expect(&mut host, 1_766);
    // Rows leave the set and come into it.
    shop.source("UPDATE people SET id = id + 100000 WHERE id = 3").unwrap();
    shop.source("UPDATE people SET id = 200001, name = 'name 200001' WHERE id = 1")
        .unwrap();
    expect(&mut host, 1_766);
    shop.wait_target(&mut host, "SELECT count(*) FROM people WHERE id IN (3, 200001)", "1")
        .unwrap();
    assert!(!host.log().contains(SECRET));
    host.terminate().unwrap();

    let lines = feed(&shop);
    assert!(lines.contains("name 3"), "the feed has the copy");
    assert!(!lines.contains(SECRET), "the feed has what the publication withholds");
}

/// Somebody narrows the list to stop a leak: units that are read from then on obey it as the stream does.
#[test]
fn a_column_that_is_withheld_while_a_copy_runs_leaves_no_more() {
    const ROWS: u32 = 6000;
    let shop = Shop::with(TABLES).unwrap();
    let statements = format!(
        "INSERT INTO people SELECT n, 'de', 'name ' || n, 'known to all' FROM generate_series(1, {ROWS}) n;
         CREATE PUBLICATION mine FOR TABLE people;"
    );
    shop.cluster.script("source", &statements).unwrap();
    let rest = "routes:
  - { tables: [public.people], sinks: [warehouse, feed] }";
    let pipeline = shop
        .pipeline_of("public.people", rest)
        .replace("tables: [public.people]\n", "publication: mine\n")
        .replace("unit_rows: 2000", "unit_rows: 200, rows_per_second: 500");
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    let some = "SELECT count(*) BETWEEN 500 AND 2500 FROM people";
    shop.wait_target(&mut host, some, "t").unwrap();
    shop.source("ALTER PUBLICATION mine SET TABLE people (id, country, name)")
        .unwrap();
    shop.source(&format!("UPDATE people SET secret = '{SECRET}'")).unwrap();
    let all = "SELECT count(*) FROM people";
    let copied: u32 = shop.target(all).unwrap().parse().unwrap();
    assert!(copied < ROWS, "the copy was through before");
    shop.wait_target(&mut host, all, &ROWS.to_string()).unwrap();
    shop.source("INSERT INTO people VALUES (100001, 'de', 'last', 'x')")
        .unwrap();
    shop.wait_target(&mut host, all, &(ROWS + 1).to_string()).unwrap();
    host.terminate().unwrap();
    assert!(!feed(&shop).contains(SECRET), "the feed has what is withheld by now");
}

#[test]
fn a_condition_holds_for_the_copy_alone() {
    let shop = Shop::with(TABLES).unwrap();
    let sql = "INSERT INTO people SELECT n, CASE n % 2 WHEN 0 THEN 'at' ELSE 'de' END, 'x', 'y' FROM generate_series(1, 5000) n";
    shop.source(sql).unwrap();
    let rest = "routes:
  - { tables: [public.people], sinks: [warehouse] }";
    let with = |condition: &str| {
        let text = shop.pipeline_of("public.people", rest);
        text.replace("unit_rows: 2000", &format!("unit_rows: 2000, where: {{ {condition} }}"))
    };
    for wrong in [
        "public.nobody: 'true'",
        "public.people: 'kountry = 1'",
        "public.people: 'true; SELECT 1'",
    ] {
        let (said, error) = Host::verb(shop.folder(), &with(wrong), &["check"], 3).unwrap();
        assert!(
            said.contains("E0242") || error.contains("E0242"),
            "{wrong}: {said}{error}"
        );
    }
    let mut host = Host::run(shop.folder(), &with("public.people: \"country = 'at' -- ours\"")).unwrap();
    let count = "SELECT count(*), count(*) FILTER (WHERE country = 'at') FROM people";
    shop.wait_target(&mut host, count, "2500|2500").unwrap();
    shop.source("INSERT INTO people VALUES (6001, 'de', 'x', 'y'), (6002, 'at', 'x', 'y')")
        .unwrap();
    shop.wait_target(&mut host, count, "2502|2501").unwrap();
    host.terminate().unwrap();
}

/// What shows rows to people shows none that would never leave.
#[test]
fn what_is_withheld_is_neither_sampled_nor_recorded() {
    let shop = Shop::with(TABLES).unwrap();
    let statements = format!(
        "INSERT INTO people SELECT n, 'de', 'name ' || n, '{SECRET}' FROM generate_series(1, 300) n;
         ALTER TABLE people REPLICA IDENTITY USING INDEX people_pkey;
         CREATE PUBLICATION mine FOR TABLE people (id, name) WHERE (id % 3 = 0);"
    );
    shop.cluster.script("source", &statements).unwrap();
    let rest = "routes:
  - { tables: [public.people], sinks: [warehouse] }";
    let pipeline = shop
        .pipeline_of("public.people", rest)
        .replace("tables: [public.people]\n", "publication: mine\n")
        .replace(
            "unit_rows: 2000",
            "unit_rows: 2000, where: { public.people: \"id > 100 -- new\" }",
        );
    let has = |text: &str, id: u32| text.contains(&format!("\"name {id}\""));

    let (sampled, _) = Host::verb(shop.folder(), &pipeline, &["check", "--sample", "200"], 0).unwrap();
    assert!(
        has(&sampled, 102) && has(&sampled, 300) && !sampled.contains(SECRET),
        "{sampled}"
    );
    assert!(
        !has(&sampled, 101) && !has(&sampled, 299),
        "the publication leaves it out: {sampled}"
    );
    assert!(!has(&sampled, 99), "the copy leaves it out: {sampled}");

    let record = ["plugin", "record", "people", "--keep", "name", "--rows", "500"];
    let (recorded, _) = Host::verb_of(shop.folder(), &record, 0).unwrap();
    assert_eq!(
        recorded.lines().count(),
        101,
        "a line of the table and the rows: {recorded}"
    );
    assert!(
        has(&recorded, 3) && has(&recorded, 300) && !recorded.contains("secret"),
        "{recorded}"
    );
    assert!(!has(&recorded, 1) && !has(&recorded, 299), "{recorded}");
    let only = [&record[..], &["--where", "id < 50 -- old"]].concat();
    let (recorded, _) = Host::verb_of(shop.folder(), &only, 0).unwrap();
    assert_eq!(recorded.lines().count(), 17, "{recorded}");
}

/// The server decodes what is behind with the list as it was then.
#[test]
fn what_was_written_before_a_column_was_withheld_leaves_without_it() {
    let shop = Shop::with(TABLES).unwrap();
    shop.source("CREATE PUBLICATION mine FOR TABLE people").unwrap();
    let rest = "routes:
  - { tables: [public.people], sinks: [warehouse, feed] }";
    let pipeline = shop
        .pipeline_of("public.people", rest)
        .replace("tables: [public.people]\n", "publication: mine\n");
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    shop.source("INSERT INTO people VALUES (1, 'de', 'first', 'known to all')")
        .unwrap();
    let count = "SELECT count(*), count(secret) FROM people";
    shop.wait_target(&mut host, count, "1|1").unwrap();
    host.terminate().unwrap();
    shop.source(&format!("INSERT INTO people VALUES (2, 'de', 'second', '{SECRET}')"))
        .unwrap();
    shop.source("ALTER PUBLICATION mine SET TABLE people (id, country, name)")
        .unwrap();
    shop.source(&format!("INSERT INTO people VALUES (3, 'de', 'third', '{SECRET}')"))
        .unwrap();
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    // With its new entry it is copied anew, too, without the column.
    shop.wait_target(&mut host, count, "3|0").unwrap();
    host.terminate().unwrap();
    assert!(!feed(&shop).contains(SECRET), "the feed has what is withheld by now");
}

/// The same of a table that the file selected before.
#[test]
fn what_was_written_to_a_table_before_it_was_taken_out_of_the_file_stays() {
    let tables = format!("{TABLES} CREATE TABLE secrets (id int PRIMARY KEY, secret text);");
    let shop = Shop::with(&tables).unwrap();
    let rest = "routes:
  - { tables: ['public.*'], sinks: [feed] }";
    let all = shop.pipeline_of("'public.*'", rest);
    let mut host = Host::run(shop.folder(), &all).unwrap();
    shop.source("INSERT INTO secrets VALUES (1, 'known to all')").unwrap();
    shop.wait_for(
        &mut host,
        "the row arrives",
        || Ok(feed(&shop).contains("known to all")),
    )
    .unwrap();
    host.terminate().unwrap();
    shop.source(&format!("INSERT INTO secrets VALUES (2, '{SECRET}')"))
        .unwrap();
    shop.source("INSERT INTO people VALUES (1, 'de', 'behind it', 'x')")
        .unwrap();
    let one = shop.pipeline_of("public.people", rest);
    let mut host = Host::run(shop.folder(), &one).unwrap();
    shop.wait_for(&mut host, "the row behind it arrives", || {
        Ok(feed(&shop).contains("behind it"))
    })
    .unwrap();
    assert!(host.log().contains("doesn't name it any more"), "{}", host.log());
    host.terminate().unwrap();
    assert!(
        !feed(&shop).contains(SECRET),
        "the feed has a table that isn't selected"
    );
}

/// The server makes an insert of an update into the filter, and leaves out what lies beside the table and wasn't changed.
#[test]
fn a_row_that_enters_the_filter_without_its_long_value_is_told() {
    let shop = Shop::with(DOCS).unwrap();
    shop.source("CREATE PUBLICATION mine FOR TABLE docs WHERE (status = 'open')")
        .unwrap();
    let rest = "routes:
  - { tables: [public.docs], sinks: [warehouse] }";
    let pipeline = shop
        .pipeline_of("public.docs", rest)
        .replace("tables: [public.docs]\n", "publication: mine\n")
        .replace("{ mode: initial, connections: 2, unit_rows: 2000 }", "never");
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    shop.wait_streaming(&mut host, 1).unwrap();
    shop.source("INSERT INTO docs VALUES (1, 'open', repeat('x', 9000)), (2, 'draft', repeat('y', 9000))")
        .unwrap();
    let found = "SELECT string_agg(id || ' ' || coalesce(length(body)::text, 'nothing'), ', ' ORDER BY id) FROM docs";
    shop.wait_target(&mut host, found, "1 9000").unwrap();
    shop.source("UPDATE docs SET status = 'open' WHERE id = 2").unwrap();
    let status = host.wait(LONG).unwrap();
    assert_eq!(status.code(), Some(6), "{}", host.log());
    assert!(host.log().contains("E0413"), "{}", host.log());
    assert_eq!(shop.target(found).unwrap(), "1 9000");
}

/// A condition that breaks on a value: the server's message quotes it, and ours doesn't.
#[test]
fn a_value_that_a_condition_breaks_on_isnt_told() {
    let shop = Shop::with(TABLES).unwrap();
    shop.source(&format!("INSERT INTO people VALUES (1, 'at', 'name', '{SECRET}')"))
        .unwrap();
    let routes = "routes:
  - { tables: [public.people], columns: [id], sinks: [feed] }";
    let pipeline = shop.pipeline_of("public.people", routes).replace(
        "unit_rows: 2000",
        "unit_rows: 2000, where: { public.people: \"secret::int > 5\" }",
    );
    let (text, error) = Host::verb(shop.folder(), &pipeline, &["check", "--sample", "1"], 3).unwrap();
    assert!(error.contains("E0609") && error.contains("22P02"), "{error}");
    assert!(!text.contains(SECRET) && !error.contains(SECRET), "{text}{error}");
    let (text, error) = Host::verb(shop.folder(), &pipeline, &["run"], 3).unwrap();
    assert!(error.contains("E0605") && error.contains("22P02"), "{error}");
    assert!(!text.contains(SECRET) && !error.contains(SECRET), "{text}{error}");
}

/// While the table is copied such a row is read again, with all of its values.
#[test]
fn a_row_that_enters_the_filter_while_its_table_is_copied_arrives_whole() {
    let shop = Shop::with(DOCS).unwrap();
    let filled = "INSERT INTO docs SELECT n, CASE n % 2 WHEN 0 THEN 'open' ELSE 'draft' END, repeat('x', 9000)
        FROM generate_series(1, 2000) n; CREATE PUBLICATION mine FOR TABLE docs WHERE (status = 'open')";
    shop.cluster.script("source", filled).unwrap();
    let rest = "routes:
  - { tables: [public.docs], sinks: [warehouse] }";
    let pipeline = shop
        .pipeline_of("public.docs", rest)
        .replace("tables: [public.docs]\n", "publication: mine\n")
        .replace("unit_rows: 2000", "unit_rows: 100, rows_per_second: 200");
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    shop.wait_target(&mut host, "SELECT count(*) BETWEEN 50 AND 900 FROM docs", "t")
        .unwrap();
    shop.source("UPDATE docs SET status = 'open' WHERE id > 1900 AND status = 'draft'")
        .unwrap();
    let found = "SELECT count(*), count(*) FILTER (WHERE length(body) = 9000) FROM docs";
    shop.wait_target(&mut host, found, "1050|1050").unwrap();
    host.terminate().unwrap();
}
