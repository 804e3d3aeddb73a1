//! Every type through copy and stream, into a Postgres and into JSON lines, between databases whose own settings write
//! values in every other way: what arrives is what was there.

mod lines;
mod values;

use anyhow::{Result, ensure};
use lines::{Image, images};
use rowmill_tests::{Host, Shop};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use values::{BUILT_IN, EXTENSIONS, FROM_15, FROM_17, OF_EXTENSIONS, TYPES, Values};

/// Settings that change how values are written or read. None may change what arrives.
const SOURCE_SETTINGS: &[(&str, &str)] = &[
    ("datestyle", "'German, DMY'"),
    ("intervalstyle", "'sql_standard'"),
    ("timezone", "'Asia/Kathmandu'"),
    ("extra_float_digits", "-15"),
    ("bytea_output", "'escape'"),
    ("lc_monetary", "'C.UTF-8'"),
    ("xmloption", "'document'"),
    ("quote_all_identifiers", "on"),
    ("search_path", "'Odd. schema', public"),
    ("client_encoding", "'LATIN1'"),
];
const TARGET_SETTINGS: &[(&str, &str)] = &[
    ("datestyle", "'SQL, MDY'"),
    ("intervalstyle", "'iso_8601'"),
    ("timezone", "'America/St_Johns'"),
    ("extra_float_digits", "0"),
    ("bytea_output", "'escape'"),
    ("xmloption", "'document'"),
    ("array_nulls", "off"),
    ("quote_all_identifiers", "on"),
    ("search_path", "public"),
    ("client_encoding", "'LATIN1'"),
];
/// For the sessions of the test itself.
const PLAIN: &str = "SET DateStyle = 'ISO, MDY'; SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC'; \
    SET extra_float_digits = 3; SET bytea_output = 'hex'; SET search_path = public; SET client_encoding = 'UTF8'; \
    SET array_nulls = on; SET xmloption = content; SET quote_all_identifiers = off; SET lc_monetary = 'C';";

const ROUTES: &str = "routes:
  - { tables: [public.typed, public.whole], sinks: [warehouse, feed] }";

/// Their text is the catalog's.
const NOT_IN_BINARY: &[&str] = &["regclass", "regtype"];

/// What a streamed row's id is beyond its copied twin's.
const STREAMED: i64 = 1_000;

/// Characters of a value in the golden file.
const SHOWN: usize = 200;

struct World {
    shop: Shop,
    columns: Vec<Values>,
}

impl World {
    /// Two tables with all columns that are `wanted`: `typed` has a key, rows of `whole` are known by all that is in them.
    fn new(wanted: impl Fn(&Values) -> bool) -> Result<Self> {
        let shop = Shop::with(TYPES)?;
        let mut columns = BUILT_IN.to_vec();
        let available = shop.source("SELECT name FROM pg_available_extensions")?;
        if EXTENSIONS
            .iter()
            .all(|name| available.lines().any(|found| found == *name))
        {
            columns.extend(OF_EXTENSIONS);
            for (database, name) in ["source", "target"]
                .iter()
                .flat_map(|at| EXTENSIONS.iter().map(move |name| (at, name)))
            {
                shop.cluster.sql(database, &format!("CREATE EXTENSION {name}"))?;
            }
        }
        let version: u32 = shop.source("SHOW server_version_num")?.parse()?;
        if version >= 150_000 {
            columns.extend(FROM_15);
        }
        if version >= 170_000 {
            columns.extend(FROM_17);
        }
        columns.retain(wanted);
        let world = Self { shop, columns };
        let list: Vec<String> = world
            .columns
            .iter()
            .map(|(name, kind, _)| format!("{name} {kind}"))
            .collect();
        let tables = format!(
            "CREATE TABLE typed (id int PRIMARY KEY, {list}); CREATE TABLE whole (id int, {list});
             ALTER TABLE whole REPLICA IDENTITY FULL;",
            list = list.join(", ")
        );
        for (database, settings) in [("source", SOURCE_SETTINGS), ("target", TARGET_SETTINGS)] {
            world.sql(database, &tables)?;
            for (name, value) in settings {
                world.sql(database, &format!("ALTER DATABASE {database} SET {name} = {value}"))?;
                world.sql(
                    database,
                    &format!("ALTER ROLE postgres IN DATABASE {database} SET {name} = {value}"),
                )?;
            }
        }
        Ok(world)
    }

    fn sql(&self, database: &str, sql: &str) -> Result<String> {
        self.shop.cluster.sql(database, &format!("{PLAIN} {sql}"))
    }

    /// Row `n` holds the `n`th value of each column, NULL where there is none; the last one NULLs alone.
    fn load(&self, table: &str, offset: i64) -> Result<()> {
        let rows = self.columns.iter().map(|(.., values)| values.len()).max().unwrap_or(0) + 1;
        let mut script = format!("{PLAIN}\nBEGIN;\n");
        for row in 0..rows {
            let mut values = String::new();
            for (_, kind, texts) in &self.columns {
                match texts.get(row) {
                    Some(text) => write!(values, ", '{}'::{kind}", text.replace('\'', "''"))?,
                    None => values.push_str(", NULL"),
                }
            }
            writeln!(script, "INSERT INTO {table} VALUES ({}{values});", offset + row as i64)?;
        }
        script.push_str("COMMIT;\n");
        self.shop.cluster.script("source", &script)
    }

    /// All of a table, one line per row.
    fn rows(&self, database: &str, table: &str) -> Result<String> {
        self.sql(
            database,
            &format!("SELECT replace(t::text, E'\\n', '<LF>') FROM {table} t ORDER BY id"),
        )
    }

    /// Waits until the target has what the source has; names the columns that differ where it doesn't come to that.
    fn wait_equal(&self, host: &mut Host, table: &str) -> Result<()> {
        let source = self.rows("source", table)?;
        let waited = self.shop.wait_for(host, "target equals source", || {
            ensure!(self.rows("target", table)? == source, "{table} differs");
            Ok(true)
        });
        waited.map_err(|error| {
            let differing = self.columns.iter().filter_map(|(name, ..)| {
                let of = |database: &str| {
                    self.sql(
                        database,
                        &format!("SELECT id || ': ' || coalesce({name}::text, '') FROM {table} ORDER BY id"),
                    )
                };
                let (source, target) = (of("source").ok()?, of("target").ok()?);
                (source != target).then(|| format!("{name}\nsource {source}\ntarget {target}"))
            });
            let log = self.shop.cluster.log();
            let refused = log
                .lines()
                .filter(|line| line.contains("ERROR:") || line.contains("CONTEXT:"));
            error
                .context(refused.chain([""]).collect::<Vec<_>>().join("\n"))
                .context(differing.collect::<Vec<_>>().join("\n"))
        })
    }

    fn images(&self, table: &str, operation: &str) -> BTreeMap<i64, Image> {
        let file = self.shop.folder().join("out/feed.jsonl");
        images(&file, table, operation).unwrap()
    }

    /// A table's values by id, in the order of the columns, as the types' own output functions write them.
    fn texts(&self, table: &str) -> Result<BTreeMap<i64, Vec<Option<String>>>> {
        let of = |(name, ..): &Values| format!("CASE num_nonnulls({name}) WHEN 1 THEN format('%s', {name}) END");
        let list: Vec<String> = self.columns.iter().map(of).collect();
        let list = list.join(", ");
        let rows = self.sql(
            "source",
            &format!("SELECT id || ' ' || to_json(ARRAY[{list}]) FROM {table}"),
        )?;
        let row = |line: &str| {
            let (id, texts) = line.split_once(' ').unwrap_or_default();
            Ok((id.parse()?, serde_json::from_str(texts)?))
        };
        rows.lines().map(row).collect()
    }
}

/// A value of JSON as Postgres writes it.
fn text_of(json: &str) -> Option<String> {
    match json {
        "null" => None,
        "true" => Some("t".to_owned()),
        "false" => Some("f".to_owned()),
        text if text.starts_with('"') => Some(serde_json::from_str(text).unwrap()),
        number => Some(number.to_owned()),
    }
}

/// Values as the golden file has them.
fn show(columns: &[Values], images: &BTreeMap<i64, Image>) -> String {
    let mut text = String::new();
    for (name, kind, values) in columns {
        let _ = writeln!(text, "{name} {kind}");
        for image in images.values().take(values.len()) {
            let value = &image[*name];
            let _ = match value.char_indices().nth(SHOWN) {
                Some((at, _)) => writeln!(text, "    {}... {} bytes", &value[..at], value.len()),
                None => writeln!(text, "    {value}"),
            };
        }
    }
    text
}

/// Compares with a golden file; `BLESS=1` writes it.
fn assert_golden(text: &str, name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/types").join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap());
}

#[test]
fn every_type_arrives_as_it_is_from_copy_and_from_stream() {
    arrives(&World::new(|_| true).unwrap(), "", true);
}

#[test]
fn every_type_arrives_as_it_is_in_binary_form() {
    let world = World::new(|(_, kind, _)| !NOT_IN_BINARY.contains(kind)).unwrap();
    arrives(&world, "    binary: true\n", false);
}

/// Copy and stream bring the same, which is what the server's output functions write; `golden` where all types are there.
fn arrives(world: &World, source: &str, golden: bool) {
    for table in ["typed", "whole"] {
        world.load(table, 0).unwrap();
    }
    let rest = format!("{source}{ROUTES}");
    let pipeline = world.shop.pipeline_of("public.typed, public.whole", &rest);
    let mut host = Host::run(world.shop.folder(), &pipeline).unwrap();
    for table in ["typed", "whole"] {
        world.wait_equal(&mut host, table).unwrap();
    }

    // The same again while it runs.
    for table in ["typed", "whole"] {
        world.load(table, STREAMED).unwrap();
        world.wait_equal(&mut host, table).unwrap();
    }
    let texts: Vec<_> = ["typed", "whole"]
        .iter()
        .map(|table| world.texts(table).unwrap())
        .collect();
    // All columns again as an update; rows without a key are found by what is in them.
    for table in ["typed", "whole"] {
        let half = "id = id + 5000 WHERE id % 2 = 0";
        world.sql("source", &format!("UPDATE {table} SET {half}")).unwrap();
        world
            .sql("source", &format!("DELETE FROM {table} WHERE id % 3 = 0"))
            .unwrap();
        world.wait_equal(&mut host, table).unwrap();
    }
    host.terminate().unwrap();

    for (table, texts) in ["typed", "whole"].into_iter().zip(texts) {
        let copied = world.images(table, "read");
        let streamed = world.images(table, "insert");
        assert_eq!(copied.len() + streamed.len(), texts.len());
        for (id, image) in &copied {
            assert_eq!(*image, streamed[&(id + STREAMED)], "{table} {id}: copy and stream");
            for ((name, kind, _), text) in world.columns.iter().zip(&texts[id]) {
                let json = image[*name].as_str();
                let as_is = matches!(*kind, "json" | "jsonb");
                let expected = text
                    .as_ref()
                    .map(|text| if as_is { text.replace('\n', " ") } else { text.clone() });
                let is_null = image
                    .get("json_null")
                    .is_some_and(|names| names.contains(&format!("\"{name}\"")));
                assert_eq!(
                    is_null,
                    as_is && expected.as_deref() == Some("null"),
                    "{table} {id} {name}"
                );
                let found = if as_is && text.is_some() {
                    Some(json.to_owned())
                } else {
                    text_of(json)
                };
                assert_eq!(found, expected, "{table} {id} {name}");
            }
        }
        if table == "typed" && golden {
            assert_golden(&show(BUILT_IN, &copied), "built_in.txt");
            if world.columns.iter().any(|(name, ..)| *name == OF_EXTENSIONS[0].0) {
                assert_golden(&show(OF_EXTENSIONS, &copied), "of_extensions.txt");
            }
        }
    }
}
