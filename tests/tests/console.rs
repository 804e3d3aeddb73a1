//! What a running host tells.

use anyhow::Context;
use rowmill_tests::{Host, Shop, free_port, get};
use serde_json::Value;

const REST: &str = "plugins:
  mask_pii: { module: mask_pii.wasm, config: { columns: [email], salt: pepper } }
routes:
  - { tables: [public.orders, public.customers], plugins: [mask_pii], sinks: [warehouse] }";

#[test]
fn the_console_tells() {
    let shop = Shop::new().unwrap();
    shop.plugin("mask_pii").unwrap();
    shop.fill(100).unwrap();
    let port = free_port().unwrap();
    let console = format!("127.0.0.1:{port}");
    let pipeline = Shop::with_console(&shop.pipeline_of("public.orders, public.customers", REST), port);
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    shop.wait_for(&mut host, "ready", || Ok(get(port, "/readyz")?.0 == 200))
        .unwrap();
    assert_eq!(get(port, "/healthz").unwrap(), (200, "alive\n".to_owned()));
    assert_eq!(get(port, "/nothing").unwrap().0, 404);
    shop.wait_target(&mut host, "SELECT count(*) FROM orders", "101")
        .unwrap();
    shop.wait_target(&mut host, "SELECT count(*) FROM customers", "11")
        .unwrap();

    shop.wait_for(&mut host, "the status counts the copy", || {
        let status: Value = serde_json::from_str(&get(port, "/api/status")?.1)?;
        let pipeline = &status["pipelines"][0];
        Ok(pipeline["pipeline"] == "shop" && pipeline["state"] == "streaming" && pipeline["rows"]["delivered"] == 112)
    })
    .unwrap();
    let verb = |arguments: &[&str]| {
        let output = std::process::Command::new(rowmill_tests::binary().unwrap())
            .args(arguments)
            .args(["--console", &console])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let status: Value = serde_json::from_str(&verb(&["status", "--output", "json"])).unwrap();
    assert!(status.to_string().contains("\"warehouse\""), "{status}");
    assert!(verb(&["status"]).contains("warehouse"));

    shop.wait_for(&mut host, "the metrics count the copy", || {
        let (code, text) = get(port, "/metrics")?;
        let line = text
            .lines()
            .find(|line| line.starts_with("rowmill_rows_delivered_total{"));
        let line = line.with_context(|| text.clone())?;
        Ok(code == 200 && line.ends_with(" 112"))
    })
    .unwrap();

    shop.source("INSERT INTO customers VALUES (1, 'before@example.com', NULL, NULL)")
        .unwrap();
    let tail = tail(&console);
    let mut id = 1;
    // The viewer comes when it comes: rows are written until it shows one.
    shop.wait_for(&mut host, "tail shows a row", || {
        id += 1;
        shop.source(&format!(
            "INSERT INTO customers VALUES ({id}, 'canary-{id}@secret.example', NULL, NULL)"
        ))?;
        Ok(tail.path().metadata()?.len() > 0)
    })
    .unwrap();
    let shown = std::fs::read_to_string(tail.path()).unwrap();
    let shown: Value = serde_json::from_str(shown.lines().next().unwrap()).unwrap();
    assert_eq!(shown["table"], "customers");
    assert_eq!(shown["new"]["email"].as_str().unwrap().len(), 64, "{shown}");
    host.terminate().unwrap();
    // The view ends with the host.
    let shown = std::fs::read_to_string(tail.path()).unwrap();
    assert!(!shown.contains("secret.example"), "{shown}");
}

/// `rowmill tail` with its output in a file; ended with the value.
struct Tail {
    child: std::process::Child,
    output: tempfile::NamedTempFile,
}

impl Tail {
    fn path(&self) -> &std::path::Path {
        self.output.path()
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tail(console: &str) -> Tail {
    let output = tempfile::NamedTempFile::new().unwrap();
    let child = std::process::Command::new(rowmill_tests::binary().unwrap())
        .args(["tail", "--output", "json", "--console", console])
        .stdout(output.reopen().unwrap())
        .spawn()
        .unwrap();
    Tail { child, output }
}
