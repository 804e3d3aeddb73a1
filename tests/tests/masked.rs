//! What a mask hides never leaves: not in any image, not beside the rows, not in a column that came later.

use anyhow::{Result, ensure};
use rowmill_tests::{Host, LONG, Lines, Random, Shop, free_port, get};
use std::path::Path;

/// Part of every value that must stay.
const CANARY: &str = "canary";
/// One table whose old images are whole, one where they are keys; the key is masked too, and `bio` is stored apart
/// from its row, so that updates don't send it.
const PEOPLE: &str = "
    CREATE TABLE whole (email text PRIMARY KEY, phone text, bio text, visits int);
    ALTER TABLE whole ALTER bio SET STORAGE EXTERNAL;
    ALTER TABLE whole REPLICA IDENTITY FULL;
    CREATE TABLE plain (email text PRIMARY KEY, phone text, bio text, visits int);
    ALTER TABLE plain ALTER bio SET STORAGE EXTERNAL;
";
const REST: &str = "plugins:
  mask_pii:
    module: mask_pii.wasm
    config: { columns: { email: hash, phone: redact, bio: hash }, salt: pepper }
routes:
  - { tables: [public.whole, public.plain], plugins: [mask_pii], sinks: [warehouse, feed] }";

fn email(number: u64) -> String {
    format!("{CANARY}-{number}@secret.example")
}

/// One change of a person among a hundred.
fn change(random: &mut Random, table: &str) -> String {
    let (who, other) = (email(random.below(100)), email(random.below(100)));
    let number = random.below(1_000_000);
    match random.below(8) {
        0..=2 => format!(
            "INSERT INTO {table} VALUES ('{who}', '{CANARY}-phone-{number}', repeat('{CANARY} bio {number}', {}), 0)
             ON CONFLICT (email) DO UPDATE SET phone = excluded.phone;",
            if random.below(2) == 0 { 500 } else { 1 }
        ),
        3 | 4 => format!("UPDATE {table} SET visits = visits + 1 WHERE email = '{who}';"),
        5 => format!("UPDATE {table} SET bio = repeat('{CANARY} new bio {number}', 400) WHERE email = '{who}';"),
        6 => format!(
            "UPDATE {table} SET email = '{other}', visits = visits + 1
             WHERE email = '{who}' AND NOT EXISTS (SELECT FROM {table} WHERE email = '{other}');"
        ),
        _ => format!("DELETE FROM {table} WHERE email = '{who}';"),
    }
}

fn changes(shop: &Shop, random: &mut Random, count: usize) -> Result<()> {
    let mut script = String::new();
    for at in 0..count {
        script.push_str("BEGIN;");
        for _ in 0..=random.below(4) {
            script.push_str(&change(random, ["whole", "plain"][at % 2]));
        }
        script.push_str("COMMIT;\n");
    }
    shop.cluster.script("source", &script)
}

/// What the target must hold, made by the source's own HMAC.
fn expected(shop: &Shop, table: &str) -> Result<String> {
    let masked = |column: &str| format!("encode(hmac({column}, 'pepper', 'sha256'), 'hex')");
    shop.source(&format!(
        "SELECT {}, CASE WHEN phone IS NOT NULL THEN '***' END, {}, visits FROM {table} ORDER BY 1",
        masked("email"),
        masked("bio"),
    ))
}

#[test]
fn x2_nothing_unmasked_leaves() {
    let shop = Shop::with(PEOPLE).unwrap();
    shop.source("CREATE EXTENSION pgcrypto").unwrap();
    shop.plugin("mask_pii").unwrap();
    let mut random = Random::new(std::process::id().into());
    changes(&shop, &mut random, 200).unwrap();
    let port = free_port().unwrap();
    let pipeline = Shop::with_console(&shop.pipeline_of("public.whole, public.plain", REST), port);
    let arguments = ["run", "--log", "rowmill=trace"];
    let mut host = Host::start(shop.folder(), &pipeline, &arguments).unwrap();
    // Only then changes are sure to be streamed, not copied.
    shop.wait_for(&mut host, "the copy is over", || {
        let status: serde_json::Value = serde_json::from_str(&get(port, "/api/status")?.1)?;
        let copies = status["pipelines"][0]["copies"].as_array().cloned().unwrap_or_default();
        Ok(copies.len() == 2 && copies.iter().all(|copy| copy["done"] == true))
    })
    .unwrap();
    changes(&shop, &mut random, 300).unwrap();
    // What is sent again after a kill is masked like what was sent before.
    host.kill().unwrap();
    host = Host::start(shop.folder(), &pipeline, &arguments).unwrap();
    changes(&shop, &mut random, 300).unwrap();
    for table in ["whole", "plain"] {
        let expected = expected(&shop, table).unwrap();
        let found = format!("SELECT email, phone, bio, visits FROM {table} ORDER BY 1");
        shop.wait_target(&mut host, &found, &expected).unwrap();
    }
    let told = ["/metrics", "/api/status"].map(|path| get(port, path).unwrap().1);
    let status = std::process::Command::new(rowmill_tests::binary().unwrap())
        .args(["status", "--output", "json", "--console", &format!("127.0.0.1:{port}")])
        .output()
        .unwrap();
    assert!(status.status.success());
    host.terminate().unwrap();

    assert!(told.iter().all(|text| !text.contains(CANARY)), "{told:?}");
    assert!(!holds(&status.stdout, CANARY));
    // Lines that the manifest covers, and everything else in the folder: the log, the state, the files' last bytes.
    let lines = Lines::read(&shop.folder().join("out/feed.jsonl")).unwrap();
    for operation in ["insert", "update", "delete", "read"] {
        assert!(lines.rows.iter().any(|row| row["op"] == operation), "{operation}");
    }
    assert!(files_with(shop.folder(), CANARY).unwrap().is_empty());
    let dump = std::process::Command::new("pg_dump")
        .arg(shop.cluster.url("target"))
        .output()
        .unwrap();
    assert!(dump.status.success() && holds(&dump.stdout, "COPY"), "{dump:?}");
    assert!(!holds(&dump.stdout, CANARY));
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Every file under `folder` that holds the text.
fn files_with(folder: &Path, text: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files_with(&path, text)?);
        } else if path.is_file() && holds(&std::fs::read(&path)?, text) {
            found.push(path.display().to_string());
        }
    }
    Ok(found)
}

const CUSTOMERS: &str = "CREATE TABLE customers (id bigint PRIMARY KEY, email text);";

/// A pipeline with a mask that says `on_new_column` so, if at all.
fn masked(shop: &Shop, on_new_column: &str) -> String {
    shop.pipeline_of(
        "public.customers",
        &format!(
            "plugins:
  mask_pii: {{ module: mask_pii.wasm, config: {{ columns: [email], salt: pepper }} }}
routes:
  - {{ tables: [public.customers], plugins: [mask_pii], sinks: [feed]{on_new_column} }}"
        ),
    )
}

/// Waits for the row in the file and returns its new image.
fn arrived(shop: &Shop, host: &mut Host, id: i64) -> Result<serde_json::Value> {
    let feed = shop.folder().join("out/feed.jsonl");
    let mut image = None;
    shop.wait_for(host, &format!("row {id} arrives"), || {
        let lines = Lines::read(&feed)?;
        image = lines
            .rows
            .into_iter()
            .map(|mut row| row["new"].take())
            .find(|new| new["id"] == id);
        Ok(image.is_some())
    })?;
    let image = image.unwrap_or_default();
    ensure!(
        image["email"].as_str().is_some_and(|email| email.len() == 64),
        "{image}"
    );
    Ok(image)
}

fn with_ssn(shop: &Shop, id: i64) {
    let row = format!("INSERT INTO customers VALUES ({id}, 'e', '{CANARY}-ssn-{id}')");
    shop.source(&row).unwrap();
}

#[test]
fn a_new_column_stays() {
    let shop = Shop::with(CUSTOMERS).unwrap();
    shop.plugin("mask_pii").unwrap();
    shop.source("INSERT INTO customers VALUES (1, 'e')").unwrap();
    let mut host = Host::run(shop.folder(), &masked(&shop, "")).unwrap();
    arrived(&shop, &mut host, 1).unwrap();
    shop.source("ALTER TABLE customers ADD ssn text").unwrap();
    with_ssn(&shop, 2);
    shop.source("UPDATE customers SET ssn = 'canary-of-1' WHERE id = 1")
        .unwrap();
    with_ssn(&shop, 3);
    assert_eq!(arrived(&shop, &mut host, 3).unwrap().as_object().unwrap().len(), 2);
    host.terminate().unwrap();
    // What was new stays new.
    let mut host = Host::run(shop.folder(), &masked(&shop, "")).unwrap();
    with_ssn(&shop, 4);
    assert_eq!(arrived(&shop, &mut host, 4).unwrap().as_object().unwrap().len(), 2);
    host.terminate().unwrap();
    assert!(files_with(shop.folder(), CANARY).unwrap().is_empty());
}

#[test]
fn a_new_column_leaves_where_the_file_says_so() {
    let shop = Shop::with(CUSTOMERS).unwrap();
    shop.plugin("mask_pii").unwrap();
    shop.source("INSERT INTO customers VALUES (1, 'e')").unwrap();
    let mut host = Host::run(shop.folder(), &masked(&shop, ", on_new_column: pass")).unwrap();
    arrived(&shop, &mut host, 1).unwrap();
    shop.source("ALTER TABLE customers ADD ssn text").unwrap();
    with_ssn(&shop, 2);
    assert_eq!(arrived(&shop, &mut host, 2).unwrap()["ssn"], "canary-ssn-2");
    host.terminate().unwrap();
}

#[test]
fn a_new_column_stops_where_the_file_says_so() {
    let shop = Shop::with(CUSTOMERS).unwrap();
    shop.plugin("mask_pii").unwrap();
    shop.source("INSERT INTO customers VALUES (1, 'e')").unwrap();
    let pipeline = masked(&shop, ", on_new_column: stop");
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    arrived(&shop, &mut host, 1).unwrap();
    shop.source("ALTER TABLE customers ADD ssn text").unwrap();
    with_ssn(&shop, 2);
    assert_eq!(host.wait(LONG).unwrap().code(), Some(2), "{}", host.log());
    assert!(
        host.log().contains("E0701") && host.log().contains("ssn"),
        "{}",
        host.log()
    );
    // It stays stopped until somebody decides.
    let (_, errors) = Host::verb(shop.folder(), &pipeline, &["run"], 2).unwrap();
    assert!(errors.contains("E0701"), "{errors}");
    let mut host = Host::run(shop.folder(), &masked(&shop, ", on_new_column: drop")).unwrap();
    assert_eq!(arrived(&shop, &mut host, 2).unwrap().as_object().unwrap().len(), 2);
    host.terminate().unwrap();
    assert!(files_with(shop.folder(), CANARY).unwrap().is_empty());
}
