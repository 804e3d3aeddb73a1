//! `binary: true`: values are received as the server keeps them, and leave as they do without it.

#[path = "types/values.rs"]
mod values;

use rowmill_tests::{Cluster, Host, LONG, Shop, wait_until};
use std::path::Path;
use tempfile::TempDir;
use values::{BUILT_IN, EXTENSIONS, FROM_15, FROM_17, OF_EXTENSIONS, TYPES, Values};

fn pipeline(cluster: &Cluster, name: &str, binary: bool, tables: &str) -> String {
    format!(
        "name: {name}
console: off
source:
  postgres:
    url: {}
    tables: [{tables}]
    binary: {binary}
routes:
  - {{ tables: [{tables}], sinks: [feed] }}
sinks:
  feed: {{ file: {{ path: out/feed.jsonl }} }}
",
        cluster.url("postgres")
    )
}

/// A running host, in a folder of its own.
struct Run {
    folder: TempDir,
    host: Host,
}

impl Run {
    fn start(pipeline: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let host = Host::run(folder.path(), pipeline).unwrap();
        Self { folder, host }
    }

    /// Waits until what it has written meets the condition.
    fn wait(&mut self, what: &str, condition: impl Fn(&str) -> bool) {
        let (host, feed) = (&mut self.host, self.folder.path().join("out/feed.jsonl"));
        let waited = wait_until(what, LONG, || match host.must_run() {
            Err(error) => Ok(Some(Err(error))),
            Ok(()) => Ok(condition(&std::fs::read_to_string(&feed).unwrap_or_default()).then_some(Ok(()))),
        });
        let ended = waited.and_then(|ended| ended);
        ended.map_err(|error| error.context(host.log())).unwrap();
    }
}

/// Lines without what tells two pipelines apart: rows of a copy have numbers of their own.
fn lines(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join("out/feed.jsonl")).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    // A copy's rows come in any order, and are told at the position that the stream has by then.
    let copied = lines.iter().take_while(|line| line.contains("\"op\":\"read\"")).count();
    for line in &mut lines[..copied] {
        let row = line.find(",\"position\":").unwrap();
        line.truncate(row);
    }
    lines[..copied].sort_unstable();
    lines
}

/// All types but those whose text is the catalog's.
fn columns(cluster: &Cluster) -> Vec<Values> {
    let mut columns = BUILT_IN.to_vec();
    let available = cluster
        .sql("postgres", "SELECT name FROM pg_available_extensions")
        .unwrap();
    if EXTENSIONS
        .iter()
        .all(|name| available.lines().any(|found| found == *name))
    {
        for name in EXTENSIONS {
            cluster.sql("postgres", &format!("CREATE EXTENSION {name}")).unwrap();
        }
        columns.extend(OF_EXTENSIONS);
    }
    let version: u32 = cluster
        .sql("postgres", "SHOW server_version_num")
        .unwrap()
        .parse()
        .unwrap();
    for (from, of_version) in [(150_000, FROM_15), (170_000, FROM_17)] {
        if version >= from {
            columns.extend(of_version);
        }
    }
    columns.retain(|(_, kind, _)| !kind.starts_with("reg"));
    columns
}

/// Row `n` holds the `n`th value of each column, NULL where there is none.
fn inserts(columns: &[Values], from: usize) -> String {
    let rows = columns.iter().map(|(.., values)| values.len()).max().unwrap() + 1;
    let row = |row: usize| {
        let values = columns.iter().map(|(_, kind, texts)| match texts.get(row) {
            Some(text) => format!("'{}'::{kind}", text.replace('\'', "''")),
            None => "NULL".to_owned(),
        });
        let values: Vec<String> = values.collect();
        format!("INSERT INTO typed VALUES ({}, {});\n", from + row, values.join(", "))
    };
    let rows: String = (0..rows).map(row).collect();
    format!("SET search_path = public; SET lc_monetary = 'C'; BEGIN;\n{rows}COMMIT;\n")
}

#[test]
fn binary_and_text_write_the_same_lines() {
    let cluster = Cluster::start().unwrap();
    cluster.script("postgres", TYPES).unwrap();
    let columns = columns(&cluster);
    let list: Vec<String> = columns.iter().map(|(name, kind, _)| format!("{name} {kind}")).collect();
    let table = format!(
        "CREATE TABLE typed (id int PRIMARY KEY, {}, big bytea);
         ALTER TABLE typed ALTER big SET STORAGE EXTERNAL;",
        list.join(", ")
    );
    cluster.script("postgres", &table).unwrap();
    cluster.script("postgres", &inserts(&columns, 0)).unwrap();
    let copied: usize = cluster
        .sql("postgres", "SELECT count(*) FROM typed")
        .unwrap()
        .parse()
        .unwrap();
    let mut runs = [true, false].map(|binary| {
        let name = if binary { "on" } else { "off" };
        Run::start(&pipeline(&cluster, name, binary, "public.typed"))
    });
    for run in &mut runs {
        run.wait("the copy", |lines| {
            lines.lines().count() == copied && lines.ends_with('\n')
        });
    }
    // Whole old rows, old keys, values that are left alone.
    cluster.script("postgres", &inserts(&columns, 1000)).unwrap();
    let changes = "
        UPDATE typed SET big = decode(repeat('00ff10', 5000), 'hex') WHERE id % 2 = 0;
        -- One that isn't made a text of, and is sent again as an old value.
        UPDATE typed SET big = decode(repeat('00ff10', 400000), 'hex') WHERE id = 1002;
        UPDATE typed SET id = id + 5000 WHERE id % 3 = 0;
        ALTER TABLE typed REPLICA IDENTITY FULL;
        UPDATE typed SET c_bool = NOT c_bool WHERE id >= 1000;
        DELETE FROM typed WHERE id % 5 = 1;
        CREATE TYPE later AS ENUM ('x, y', 'z');
        ALTER TABLE typed ADD COLUMN later later[];
        UPDATE typed SET later = '{z,\"x, y\"}' WHERE id = 1003;
        INSERT INTO typed (id) VALUES (100000);";
    cluster.script("postgres", changes).unwrap();
    for run in &mut runs {
        run.wait("the last row", |lines| {
            lines.contains(r#""new":{"id":100000,"#) && lines.ends_with('\n')
        });
    }
    let [on, off] = runs.map(|run| {
        run.host.terminate().unwrap();
        lines(run.folder.path())
    });
    assert!(on.len() > 2 * copied, "{}", on.len());
    assert_eq!(on.len(), off.len());
    for (binary, text) in on.iter().zip(&off) {
        assert_eq!(binary, text);
    }
    assert!(
        on.iter().any(|line| line.contains(r#""later":"{z,\"x, y\"}""#)),
        "the type that came later"
    );
}

/// A column of text alone lies in a binary COPY as it is: it is no line of the text form.
#[test]
fn texts_of_a_binary_copy_arrive_as_they_are() {
    let shop = Shop::with("CREATE TABLE words (word text PRIMARY KEY)").unwrap();
    // Read as a line, each would be another text, and none an error.
    let insert = r"INSERT INTO words SELECT E'back\\new \\t ' || n FROM generate_series(1, 300) n";
    shop.source(insert).unwrap();
    let rest = "    binary: true\nroutes:\n  - { tables: [public.words], sinks: [warehouse] }";
    let mut host = Host::run(shop.folder(), &shop.pipeline_of("public.words", rest)).unwrap();
    let all = "SELECT count(*), md5(string_agg(word, '|' ORDER BY word)) FROM words";
    let expected = shop.source(all).unwrap();
    shop.wait_target(&mut host, all, &expected).unwrap();
    host.terminate().unwrap();
}
