//! A server, a pipeline whose parts can be exchanged, and the binary run on it.

use rowmill_tests::{Cluster, ClusterOptions, wait_until};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

pub const LONG: Duration = Duration::from_secs(30);

pub const SCHEMA: &str = "
CREATE TABLE orders (id int PRIMARY KEY, email text, ssn text);
INSERT INTO orders SELECT n, 'c' || n || '@example.com', 'secret' || n FROM generate_series(1, 5) n;
CREATE TABLE keyless (id int); INSERT INTO keyless VALUES (1);
CREATE PUBLICATION existing FOR TABLE orders;
CREATE ROLE plain LOGIN; GRANT SELECT ON orders TO plain; GRANT CREATE ON DATABASE shop TO plain;
";

/// A server with two slots at most, a source, an empty target, and another database.
pub fn cluster() -> Cluster {
    let options = ClusterOptions {
        settings: vec!["max_replication_slots=2".to_owned()],
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start_with(&options).unwrap();
    for database in ["shop", "target", "other"] {
        cluster.sql("postgres", &format!("CREATE DATABASE {database}")).unwrap();
    }
    cluster.script("shop", SCHEMA).unwrap();
    cluster
}

/// Everything that Rowmill could have made.
pub fn left_on(cluster: &Cluster) -> String {
    let databases = cluster.sql(
        "postgres",
        "SELECT datname FROM pg_database WHERE datallowconn ORDER BY 1",
    );
    let mut found = cluster
        .sql(
            "postgres",
            "SELECT slot_name, plugin, database, confirmed_flush_lsn FROM pg_replication_slots ORDER BY 1",
        )
        .unwrap();
    for database in databases.unwrap().lines() {
        let made = "SELECT pubname FROM pg_publication UNION ALL SELECT nspname FROM pg_namespace UNION ALL \
                    SELECT relname || relreplident::text FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1";
        found.push_str(&cluster.sql(database, made).unwrap());
    }
    found
}

pub fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rowmill"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    command
}

/// Runs a verb to its end.
pub fn rowmill(folder: &Path, arguments: &[&str]) -> Output {
    let child = command(folder, arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap();
    // What is printed here fits into the pipes.
    let ended = wait_until("the end of the verb", LONG, || Ok(child.try_wait()?));
    if let Err(error) = ended {
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        panic!("{arguments:?}: {error}\n{}", String::from_utf8_lossy(&output.stderr));
    }
    child.wait_with_output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A pipeline whose parts a test exchanges.
pub struct Given {
    pub url: String,
    pub table: &'static str,
    pub plugins: &'static str,
    pub route: &'static str,
    pub sink: String,
}

impl Given {
    pub fn good(cluster: &Cluster) -> Self {
        Self {
            url: cluster.url("shop"),
            table: "public.orders",
            plugins: "",
            route: "",
            sink: "{ discard: {} }".to_owned(),
        }
    }

    pub fn yaml(&self) -> String {
        let Self {
            url,
            table,
            plugins,
            route,
            sink,
        } = self;
        format!(
            "name: shop\nconsole: off\nsource: {{ postgres: {{ url: '{url}', tables: [{table}] }} }}\n{plugins}\n\
             routes: [{{ tables: [{table}], sinks: [out]{route} }}]\nsinks: {{ out: {sink} }}\n"
        )
    }
}

/// `check` and `run` refuse it alike; `prepare` puts files beside pipeline.yaml.
pub fn refused(cluster: &Cluster, given: &Given, code: &str, exit: i32, prepare: impl Fn(&Path)) {
    let before = left_on(cluster);
    for verb in [&["check", "--output", "json"][..], &["run"]] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("pipeline.yaml"), given.yaml()).unwrap();
        prepare(folder.path());
        let output = rowmill(folder.path(), verb);
        let all = format!("{verb:?}\n{}\n{}", text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(exit), "{code} {all}");
        assert!(all.contains(code), "{code} {all}");
        // Where the file itself is at fault, nothing was checked.
        if verb.len() == 3 && !output.stdout.is_empty() {
            let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(
                (&result["ok"], &result["problems"][0]["code"]),
                (&false.into(), &code.into()),
                "{all}"
            );
        }
    }
    assert_eq!(before, left_on(cluster), "{code} changed the server");
}

pub fn nothing(_: &Path) {}
