//! Finds the rows that differ.

use super::sql::Shape;
use super::{Difference, Kind, Rows};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, Error};

/// Buckets whose rows are listed at a time. Where rows are under way in all of them, they are gone through in turn.
const BUCKETS_LISTED_MAX: usize = 64;
/// Differences that are kept.
const DIFFERENCES_MAX: usize = 100;
/// Between two looks at rows that differ.
const PAUSE: Duration = Duration::from_millis(500);

/// Rows and sum of their hashes, by bucket.
type Sums = HashMap<i32, (i64, String)>;
/// Hash and key of a row, by the key's hash.
type Listed = HashMap<i64, (i64, String)>;

/// Compares a table; what is under way may take `wait` to arrive. A bucket counts as equal once its sums are or once all
/// that differed in it has arrived; each is looked at, however many differ.
pub(super) async fn rows(source: &Client, target: &Client, shape: &Shape, wait: Duration) -> Result<Rows, Error> {
    let begun = Instant::now();
    let (mut settled, mut moving) = (HashSet::new(), 0);
    loop {
        let (at_source, at_target) = sums(source, target, shape).await?;
        let mut rows = Rows {
            source: total(&at_source),
            target: total(&at_target),
            moving,
            ..Rows::default()
        };
        let mut differing = differing(&at_source, &at_target);
        differing.retain(|bucket| !settled.contains(bucket));
        if differing.is_empty() {
            return Ok(rows);
        }
        if shape.is_keyed() {
            rows.more = differing.len() > BUCKETS_LISTED_MAX;
            differing.truncate(BUCKETS_LISTED_MAX);
            let rows = named(source, target, shape, rows, &differing, wait).await?;
            if rows.differs() || !rows.more {
                return Ok(rows);
            }
            moving = rows.moving;
            settled.extend(differing);
        } else if begun.elapsed() >= wait {
            rows.unnamed = true;
            return Ok(rows);
        } else {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Lists the rows of buckets that differ, until they don't or the wait is over.
async fn named(
    source: &Client,
    target: &Client,
    shape: &Shape,
    mut rows: Rows,
    buckets: &[i32],
    wait: Duration,
) -> Result<Rows, Error> {
    let begun = Instant::now();
    // What differed at the look before, with the source's hash of it then.
    let mut before: Option<HashMap<i64, Option<i64>>> = None;
    loop {
        let (at_source, at_target) = tokio::try_join!(
            listed(source, shape, &shape.source, buckets),
            listed(target, shape, &shape.target, buckets)
        )?;
        let mut found = differences(&at_source, &at_target);
        if let Some(before) = &before {
            found.retain(|difference| before.contains_key(&difference.key_hash));
        }
        let over = begun.elapsed() >= wait;
        if found.is_empty() || over && before.is_some() {
            let hash = |difference: &Difference| at_source.get(&difference.key_hash).map(|(hash, _)| *hash);
            // With no time to wait nothing is known to move.
            let moves = |difference: &Difference| {
                let earlier = before.as_ref().and_then(|before| before.get(&difference.key_hash));
                earlier.is_some_and(|earlier| *earlier != hash(difference))
            };
            let all = found.len();
            found.retain(|difference| !moves(difference));
            rows.moving += (all - found.len()) as u64;
            found.sort_by_key(|difference| difference.key_hash);
            rows.more |= found.len() > DIFFERENCES_MAX;
            found.truncate(DIFFERENCES_MAX);
            rows.differences = found;
            return Ok(rows);
        }
        let hashes = found.iter().map(|difference| {
            let hash = at_source.get(&difference.key_hash).map(|(hash, _)| *hash);
            (difference.key_hash, hash)
        });
        before = Some(hashes.collect());
        tokio::time::sleep(PAUSE.min(wait)).await;
    }
}

async fn sums(source: &Client, target: &Client, shape: &Shape) -> Result<(Sums, Sums), Error> {
    let of = async |client: &Client, side: &str| {
        let rows = client.query(&shape.sums(side), &[]).await?;
        let sum = |row: &tokio_postgres::Row| (row.get(0), (row.get(1), row.get(2)));
        Ok::<Sums, Error>(rows.iter().map(sum).collect())
    };
    tokio::try_join!(of(source, &shape.source), of(target, &shape.target))
}

async fn listed(client: &Client, shape: &Shape, side: &str, buckets: &[i32]) -> Result<Listed, Error> {
    let rows = client.query(&shape.listed(side), &[&buckets]).await?;
    Ok(rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect())
}

fn total(sums: &Sums) -> u64 {
    sums.values().map(|(rows, _)| rows.unsigned_abs()).sum()
}

fn differing(source: &Sums, target: &Sums) -> Vec<i32> {
    let mut buckets: Vec<i32> = source.keys().chain(target.keys()).copied().collect();
    buckets.sort_unstable();
    buckets.dedup();
    buckets.retain(|bucket| source.get(bucket) != target.get(bucket));
    buckets
}

fn differences(source: &Listed, target: &Listed) -> Vec<Difference> {
    let of = |kind, key_hash: &i64, key: &String| Difference {
        kind,
        key_hash: *key_hash,
        key: key.clone(),
    };
    let at_source = source
        .iter()
        .filter_map(|(key_hash, (hash, key))| match target.get(key_hash) {
            None => Some(of(Kind::Missing, key_hash, key)),
            Some((other, _)) if other != hash => Some(of(Kind::Different, key_hash, key)),
            Some(_) => None,
        });
    let extra = target.iter().filter(|(key_hash, _)| !source.contains_key(key_hash));
    at_source
        .chain(extra.map(|(key_hash, (_, key))| of(Kind::Extra, key_hash, key)))
        .collect()
}
