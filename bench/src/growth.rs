//! How the cost of a row grows with what there is: tables, plugins, columns that nobody reads, width.
//!
//! Tables and widths are streamed from a server; plugins and columns are measured inside one process, where a tenth of a
//! microsecond can be told from noise.

use crate::engine::stay_on;
use crate::orders::DATABASE;
use crate::parts;
use crate::plot::{Plot, Series};
use crate::report::{Bound, Floor, floors, median, store};
use crate::rows::{self, ROWS};
use crate::timed::timed;
use crate::workplace::{FILTER_AND_MASK, Workplace, cluster, drop_slot, make_slot};
use anyhow::{Context, Result};
use rowmill::batch::{Batch, Row};
use rowmill::plugin::Chain;
use rowmill_tests::Cluster;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Instant;

pub struct Options {
    pub rowmill: PathBuf,
    pub rows: u64,
    pub rounds: usize,
}

const TABLES: [u64; 4] = [1, 10, 100, 1_000];
const PLUGINS: [usize; 5] = [1, 2, 4, 6, 8];
const COLUMNS: [usize; 5] = [10, 25, 50, 100, 200];
/// Bytes of the text in each row.
const WIDTHS: [u64; 4] = [50, 200, 1_000, 5_000];
/// A run of rows of one table before the next table's.
const ROWS_PER_TABLE: u64 = 10;
const ROWS_PER_TRANSACTION: u64 = 10_000;
/// So many times the rows of other cases, so that what a table costs once weighs little: it is no part of a row's cost,
/// and `bench start` has it.
const MORE_FOR_TABLES: u64 = 5;
/// Batches of one measurement inside the process.
const BATCHES: usize = 50;
/// So many times the rounds of the others inside the process: short ones, so that a machine which changes its speed doesn't
/// change it within one.
const MORE_ROUNDS: usize = 8;

/// Makes a schema for an x, and returns its name and the statement that fills it.
type Load<'a> = &'a dyn Fn(&Cluster, u64) -> Result<(String, String)>;
/// Costs by x: a list of measurements each.
type Points = Vec<(f64, Vec<f64>)>;

pub fn run(options: &Options) -> Result<()> {
    let tables = tables(options)?;
    let widths = widths(options)?;
    // From here on in this process, which then keeps to one core.
    stay_on(1)?;
    let plugins = plugins(options)?;
    let (with_columns, without) = columns(options)?;
    let held = floors(&[
        Floor::new(
            "CPU per row, 1,000 tables beside 1",
            last_beside_first(&tables),
            Bound::AtMost(1.25),
        ),
        Floor::new(
            "8 plugins beside 8 times one",
            last_beside_first(&plugins) / 8.0,
            Bound::AtMost(1.1),
        ),
        Floor::new(
            "plugins' cost per row, 200 columns beside 10",
            last_beside_first(&with_columns),
            Bound::AtMost(1.25),
        ),
    ]);
    let series = json!([
        told("tables", "tables", "host's CPU, µs per row", &[("", &tables)])?,
        told(
            "width",
            "bytes of text in a row",
            "host's CPU, µs per row",
            &[("", &widths)]
        )?,
        told("plugins", "plugins (masks)", "ns per row", &[("", &plugins)])?,
        told(
            "columns",
            "columns of the table, 2 read",
            "ns per row",
            &[("a filter and a mask", &with_columns), ("decoding", &without)],
        )?,
    ]);
    store(
        "growth",
        json!({"rows": options.rows, "series": series, "floors": held}),
    )
}

/// What the last x costs beside the first one: the median of the rounds, as both are measured at the same speed within one.
fn last_beside_first(points: &Points) -> f64 {
    let (first, last) = (&points[0].1, &points[points.len() - 1].1);
    median(first.iter().zip(last).map(|(first, last)| last / first).collect())
}

/// Prints one figure, draws its plot and returns it for the JSON.
fn told(name: &str, x: &str, y: &str, of: &[(&str, &Points)]) -> Result<Value> {
    let mut lines = Vec::new();
    let mut drawn = Vec::new();
    for (label, points) in of {
        println!("\n{name} {label}: {y} by {x}");
        let mut table = Vec::new();
        for (at, costs) in points.iter() {
            let middle = median(costs.clone());
            let (low, high) = spread(costs);
            println!("{at:>8} {middle:>10.3}   ({low:.3} to {high:.3})");
            table.push(json!({"x": at, "y": middle, "spread": [low, high]}));
        }
        drawn.push(Series {
            label: (*label).to_owned(),
            points: points.iter().map(|(x, costs)| (*x, median(costs.clone()))).collect(),
        });
        lines.push(json!({"label": label, "points": table}));
    }
    let plot = Plot {
        x: x.to_owned(),
        y: y.to_owned(),
        series: drawn,
    };
    std::fs::create_dir_all("target/bench")?;
    std::fs::write(format!("target/bench/growth-{name}.svg"), plot.svg())?;
    Ok(json!({"name": name, "x": x, "y": y, "lines": lines}))
}

fn spread(costs: &[f64]) -> (f64, f64) {
    costs.iter().fold((f64::MAX, 0.0), |(low, high): (f64, f64), cost| {
        (low.min(*cost), high.max(*cost))
    })
}

fn tables(options: &Options) -> Result<Points> {
    let rows = MORE_FOR_TABLES * options.rows;
    let load = |cluster: &Cluster, tables: u64| {
        let fill = make_tables(cluster, tables, rows)?;
        Ok((format!("of_{tables}"), fill))
    };
    streamed(options, &TABLES, "tables", &load, &|_| rows)
}

/// Makes so many tables in the schema `of_<tables>`, and returns what fills them with `rows` together, ten in turn.
pub fn make_tables(cluster: &Cluster, tables: u64, rows: u64) -> Result<String> {
    let make = format!(
        "DO $$ BEGIN FOR t IN 1..{tables} LOOP
           EXECUTE format('CREATE TABLE of_%s.t_%s (id bigint PRIMARY KEY, status text, email text, note text)', {tables}, t);
         END LOOP; END $$"
    );
    cluster.sql(DATABASE, &format!("CREATE SCHEMA of_{tables}"))?;
    cluster.sql(DATABASE, &make)?;
    let statements = rows / ROWS_PER_TABLE;
    let commit_every = ROWS_PER_TRANSACTION / ROWS_PER_TABLE;
    Ok(format!(
        "DO $$ BEGIN FOR s IN 1..{statements} LOOP
           EXECUTE format('INSERT INTO of_%s.t_%s SELECT %s + n, ''paid'', ''customer'' || n || ''@example.com'',
             ''a note of some forty characters, more or less'' FROM generate_series(1, {ROWS_PER_TABLE}) n',
             {tables}, 1 + s % {tables}, s * {ROWS_PER_TABLE});
           IF s % {commit_every} = 0 THEN COMMIT; END IF;
         END LOOP; END $$"
    ))
}

fn widths(options: &Options) -> Result<Points> {
    let load = |cluster: &Cluster, width: u64| {
        let make = format!(
            "CREATE SCHEMA wide_{width};
             CREATE TABLE wide_{width}.t (id bigint PRIMARY KEY, status text, email text, note text);
             ALTER TABLE wide_{width}.t ALTER note SET STORAGE EXTERNAL"
        );
        cluster.sql(DATABASE, &make)?;
        // Fewer of the wide ones: the bytes of a run stay within a factor of ten.
        let rows = rows_of_width(options, width);
        let fill = format!(
            "DO $$ BEGIN FOR lowest IN 0..{} BY 1000 LOOP
               INSERT INTO wide_{width}.t SELECT n, 'paid', 'customer' || n || '@example.com', repeat('x', {width})
                 FROM generate_series(lowest, least(lowest + 1000, {rows}) - 1) n; COMMIT;
             END LOOP; END $$",
            rows - 1
        );
        Ok((format!("wide_{width}"), fill))
    };
    streamed(options, &WIDTHS, "width", &load, &|width| rows_of_width(options, width))
}

fn rows_of_width(options: &Options, width: u64) -> u64 {
    (options.rows * 200 / width.max(200)).max(1_000)
}

/// Makes what `load` says for each x, streams it `rounds` times in turn and returns the host's CPU µs per row.
fn streamed(options: &Options, xs: &[u64], name: &str, load: Load<'_>, rows: &dyn Fn(u64) -> u64) -> Result<Points> {
    let cluster = cluster(&["max_locks_per_transaction=1024"])?;
    let place = Workplace::new(&options.rowmill)?;
    let mut of_x = Vec::new();
    for x in xs {
        let (schema, fill) = load(&cluster, *x)?;
        cluster.sql(
            DATABASE,
            &format!("CREATE PUBLICATION {schema} FOR TABLES IN SCHEMA {schema}"),
        )?;
        for round in 0..options.rounds {
            make_slot(&cluster, &format!("{schema}_{round}"), "pgoutput")?;
        }
        println!("growth of {name}: loading {x}");
        cluster.sql(DATABASE, &fill)?;
        // Slots of the next x begin behind this: each reads its own rows.
        of_x.push((schema, cluster.sql(DATABASE, "SELECT pg_current_wal_flush_lsn()")?));
    }
    cluster.sql(DATABASE, "CHECKPOINT")?;
    let mut points: Points = xs.iter().map(|x| (*x as f64, Vec::new())).collect();
    for round in 0..options.rounds {
        for (at, (schema, _)) in of_x.iter().enumerate() {
            let seconds = stream(&place, &cluster, schema, round)?;
            points[at].1.push(seconds * 1e6 / rows(xs[at]) as f64);
        }
    }
    Ok(points)
}

/// CPU seconds of the host for all rows of a schema.
fn stream(place: &Workplace, cluster: &Cluster, schema: &str, round: usize) -> Result<f64> {
    let url = cluster.url(DATABASE);
    let slot = format!("{schema}_{round}");
    let rest = format!(
        "source:
  postgres: {{ url: \"{url}\", publication: {schema}, slot: {slot}, snapshot: never }}
{FILTER_AND_MASK}routes:
  - {{ tables: [{schema}.*], plugins: [paid-only, mask-pii], sinks: [nowhere] }}
sinks:
  nowhere: {{ discard: {{}} }}
"
    );
    let taken = timed(place.run(&slot, &rest)?.arg("--once"), cluster).with_context(|| place.log(&slot))?;
    place.keep_compiled(&slot)?;
    drop_slot(cluster, &slot)?;
    Ok(taken.cpu_seconds)
}

fn plugins(options: &Options) -> Result<Points> {
    let batch = rows::batch(rows::COLUMNS.len());
    let mut points: Points = PLUGINS.iter().map(|count| (*count as f64, Vec::new())).collect();
    let mut chains = Vec::new();
    for count in PLUGINS {
        let mut chain = parts::chain(&vec![("mask_one", json!({"column": "email"})); count])?;
        chain.relation(&batch.relations[0])?;
        chains.push(chain);
    }
    for _ in 0..MORE_ROUNDS * options.rounds {
        for (chain, (_, costs)) in chains.iter_mut().zip(&mut points) {
            let (mut through, mut rows) = (batch.clone(), Vec::new());
            costs.push(middle_of_chain(chain, &batch, &mut through, &mut rows));
        }
    }
    Ok(points)
}

/// A filter and a mask, and decoding, by the number of columns.
fn columns(options: &Options) -> Result<(Points, Points)> {
    let empty = || {
        COLUMNS
            .iter()
            .map(|count| (*count as f64, Vec::new()))
            .collect::<Points>()
    };
    let (mut with, mut without) = (empty(), empty());
    let mut of_count = Vec::new();
    for count in COLUMNS {
        let batch = rows::batch(count);
        let guests = [("filter_one", json!({})), ("mask_one", json!({"column": "email"}))];
        let mut chain = parts::chain(&guests)?;
        chain.relation(&batch.relations[0])?;
        of_count.push((batch, chain, parts::decode_columns(count)));
    }
    for _ in 0..MORE_ROUNDS * options.rounds {
        for (at, (batch, chain, decode)) in of_count.iter_mut().enumerate() {
            let (mut through, mut rows) = (batch.clone(), Vec::new());
            with[at].1.push(middle_of_chain(chain, batch, &mut through, &mut rows));
            without[at].1.push(middle_ns(&mut (), |()| (), |()| decode()));
        }
    }
    Ok((with, without))
}

fn middle_of_chain(chain: &mut Chain, batch: &Batch, through: &mut Batch, rows: &mut Vec<Row>) -> f64 {
    middle_ns(
        &mut (through, rows),
        |(through, rows)| parts::again(batch, through, rows),
        |(through, rows)| parts::through_once(chain, through, rows),
    )
}

/// ns per row of the median batch; what makes it ready isn't counted.
fn middle_ns<T>(of: &mut T, mut ready: impl FnMut(&mut T), mut round: impl FnMut(&mut T)) -> f64 {
    let mut taken = Vec::with_capacity(BATCHES);
    for at in 0..BATCHES {
        ready(of);
        let started = Instant::now();
        round(of);
        if at >= BATCHES / 10 {
            taken.push(started.elapsed().as_nanos() as f64 / ROWS as f64);
        }
    }
    median(taken)
}
