//! The end of the demo: whether warehouse and feed hold just what the shop's rows should make.

use super::cluster::Cluster;
use super::codes;
use super::shop::{SHOP, WAREHOUSE, connect};
use super::swap::Phase;
use crate::problem::Problem;
use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;
use tokio_postgres::{Client, Row};

/// Every address of the shop ends so; none of them may leave.
const ADDRESS: &str = "@example.org";
/// How far before the swap an order may have been shipped and yet gone through the new version, lag apart.
const SWAP_MARGIN: Duration = Duration::from_secs(1);

/// What was compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verified {
    pub customers: usize,
    pub orders: usize,
    /// Of these, those that are at the warehouse thanks to the swap.
    pub shipped: usize,
}

/// Compares all rows of both databases.
///
/// # Errors
/// The first difference, without the row's values.
pub(super) async fn warehouse(cluster: &Cluster, phase: Phase, lag: Duration) -> Result<Verified, Problem> {
    let (shop, warehouse) = (connect(cluster, SHOP).await?, connect(cluster, WAREHOUSE).await?);
    let customers = customers(&shop, &warehouse).await?;
    let (orders, shipped) = orders(&shop, &warehouse, phase, lag).await?;
    Ok(Verified {
        customers,
        orders,
        shipped,
    })
}

/// The same customers, none with the address or number that the shop knows.
async fn customers(shop: &Client, warehouse: &Client) -> Result<usize, Problem> {
    let select = "SELECT id, name, email, phone FROM public.customers";
    let (source, target) = (by_id(shop, select).await?, by_id(warehouse, select).await?);
    same_number("customers", source.len(), target.len())?;
    for (id, row) in &source {
        let Some(masked) = target.get(id) else {
            return Err(codes::different(format!("customer {id} is missing")));
        };
        let text = |row: &Row, at: usize| row.try_get::<_, String>(at).map_err(codes::sql);
        if text(row, 1)? != text(masked, 1)? {
            return Err(codes::different(format!("customer {id} differs")));
        }
        if text(row, 2)? == text(masked, 2)? || text(row, 3)? == text(masked, 3)? {
            return Err(codes::different(format!("customer {id} isn't masked")));
        }
    }
    Ok(target.len())
}

/// The orders that are paid, and those that were shipped since the swap; each as the shop has it.
async fn orders(shop: &Client, warehouse: &Client, phase: Phase, lag: Duration) -> Result<(usize, usize), Problem> {
    let select =
        "SELECT id, status, (extract(epoch FROM updated_at) * 1000000)::bigint, orders::text FROM public.orders";
    let (source, target) = (by_id(shop, select).await?, by_id(warehouse, select).await?);
    let mut shipped = 0;
    let mut met = 0;
    for (id, row) in &source {
        let status: &str = row.try_get(1).map_err(codes::sql)?;
        let updated_us = row.try_get(2).map_err(codes::sql)?;
        let found = target.get(id);
        match (belongs(status, updated_us, phase, lag), found) {
            (Some(true), None) => return Err(codes::different(format!("order {id}, {status}, is missing"))),
            (Some(false), Some(_)) => return Err(codes::different(format!("order {id}, {status}, is too much"))),
            (_, Some(copy)) => {
                let text = |row: &Row| row.try_get::<_, String>(3).map_err(codes::sql);
                if text(row)? != text(copy)? {
                    return Err(codes::different(format!("order {id} differs")));
                }
                met += 1;
                shipped += usize::from(status == "shipped");
            }
            (_, None) => {}
        }
    }
    same_number("orders", met, target.len())?;
    Ok((target.len(), shipped))
}

/// Whether an order belongs to the set; `None` where it was shipped just as the plugin was swapped.
fn belongs(status: &str, updated_us: i64, phase: Phase, lag: Duration) -> Option<bool> {
    match (status, phase) {
        ("paid", _) => Some(true),
        (
            "shipped",
            Phase::Done {
                written_us, running_us, ..
            },
        ) => {
            let margin = i64::try_from((lag + SWAP_MARGIN).as_micros()).unwrap_or(i64::MAX);
            if updated_us >= running_us {
                Some(true)
            } else if updated_us < written_us.saturating_sub(margin) {
                Some(false)
            } else {
                None
            }
        }
        _ => Some(false),
    }
}

async fn by_id(client: &Client, select: &str) -> Result<HashMap<i64, Row>, Problem> {
    let rows = client.query(select, &[]).await.map_err(codes::sql)?;
    rows.into_iter()
        .map(|row| Ok((row.try_get(0).map_err(codes::sql)?, row)))
        .collect()
}

fn same_number(what: &str, expected: usize, found: usize) -> Result<(), Problem> {
    if expected == found {
        return Ok(());
    }
    let cause = format!("{expected} {what} expected at the warehouse, {found} found");
    Err(codes::different(cause))
}

/// The lines of the feed: of all tables, and of customers, which are masked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Feed {
    pub lines: u64,
    pub masked: u64,
}

/// Counts the feed's lines.
///
/// # Errors
/// An address in one of them; a file that can't be read.
pub(super) fn feed(folder: &Path) -> Result<Feed, Problem> {
    let mut feed = Feed::default();
    for entry in fs::read_dir(folder).map_err(codes::folder)? {
        let path = entry.map_err(codes::folder)?.path();
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            continue;
        }
        for line in BufReader::new(fs::File::open(&path).map_err(codes::folder)?).lines() {
            let line = line.map_err(codes::folder)?;
            feed.lines += 1;
            if line.contains(ADDRESS) {
                let cause = format!("an address stands in the feed, line {}", feed.lines);
                return Err(codes::different(cause));
            }
            feed.masked += u64::from(line.contains(r#""table":"customers""#));
        }
    }
    Ok(feed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_shipped_since_the_swap_belongs() {
        let phase = Phase::Done {
            written_us: 10_000_000,
            running_us: 11_000_000,
            at: Duration::ZERO,
        };
        let belongs = |status, at| belongs(status, at, phase, Duration::from_secs(1));
        assert_eq!(belongs("shipped", 11_000_000), Some(true));
        assert_eq!(belongs("shipped", 10_500_000), None);
        assert_eq!(belongs("shipped", 7_999_999), Some(false));
        assert_eq!(belongs("paid", 0), Some(true));
        assert_eq!(belongs("open", 11_000_000), Some(false));
    }

    #[test]
    fn without_a_swap_no_shipped_order_belongs() {
        assert_eq!(belongs("shipped", i64::MAX, Phase::First, Duration::ZERO), Some(false));
    }
}
