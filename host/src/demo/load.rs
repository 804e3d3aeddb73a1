//! The shop at work: orders come in, are paid, are shipped, and go; customers come and change their numbers.

use super::changes::{Changes, Kind};
use super::cluster::Cluster;
use super::codes;
use super::shop::{self, ITEMS, NAMES, SHOP};
use crate::problem::Problem;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

/// A transaction every 10 ms.
const PACE: Duration = Duration::from_millis(10);
/// Shipped orders kept before the oldest are deleted.
const SHIPPED_KEPT: usize = 200;

const STATEMENTS: [&str; 6] = [
    "INSERT INTO public.customers (name, email, phone) VALUES ($1::text, $2::text, $3::text)",
    "UPDATE public.customers SET phone = $2::text WHERE id = $1::bigint",
    "INSERT INTO public.orders (customer_id, item, total) VALUES ($1::bigint, $2::text, $3::bigint / 100.0)",
    "UPDATE public.orders SET status = 'paid', updated_at = clock_timestamp() WHERE id = $1::bigint",
    "UPDATE public.orders SET status = 'shipped', updated_at = clock_timestamp() WHERE id = $1::bigint",
    "DELETE FROM public.orders WHERE id = $1::bigint",
];

/// Writes until `stop` is true. Each change is a transaction.
pub(super) struct Load {
    client: Client,
    statements: Vec<Statement>,
    changes: Arc<Changes>,
    open: VecDeque<i64>,
    paid: VecDeque<i64>,
    shipped: VecDeque<i64>,
    customers: i64,
    random: u64,
    /// When the statement under way was sent.
    sent: Instant,
}

impl Load {
    pub(super) async fn new(cluster: &Cluster, changes: Arc<Changes>) -> Result<Self, Problem> {
        let client = shop::connect(cluster, SHOP).await?;
        let mut statements = Vec::new();
        for (kind, statement) in Kind::ALL.into_iter().zip(STATEMENTS) {
            let row = if kind.is_customers() {
                "name, email, phone"
            } else {
                "status, total::text, item"
            };
            let statement = format!("{statement} RETURNING pg_current_xact_id()::text, id, {row}");
            statements.push(client.prepare(&statement).await.map_err(codes::sql)?);
        }
        let ids = async |status: &str| -> Result<VecDeque<i64>, Problem> {
            let select = "SELECT id FROM public.orders WHERE status = $1 ORDER BY id";
            let rows = client.query(select, &[&status]).await.map_err(codes::sql)?;
            rows.iter().map(|row| row.try_get(0).map_err(codes::sql)).collect()
        };
        let (open, paid, shipped) = (ids("open").await?, ids("paid").await?, ids("shipped").await?);
        let customers = client.query_one("SELECT count(*) FROM public.customers", &[]).await;
        let customers = customers.and_then(|row| row.try_get(0)).map_err(codes::sql)?;
        Ok(Self {
            client,
            statements,
            changes,
            open,
            paid,
            shipped,
            customers,
            random: 0x9E37_79B9_7F4A_7C15,
            sent: Instant::now(),
        })
    }

    pub(super) async fn run(mut self, stop: watch::Receiver<bool>) -> Result<(), Problem> {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !*stop.borrow() {
            pace.tick().await;
            self.sent = Instant::now();
            self.change().await?;
        }
        Ok(())
    }

    async fn change(&mut self) -> Result<(), Problem> {
        match self.next_random() % 100 {
            0..=3 => self.customer().await,
            4..=7 => self.contact().await,
            8..=40 => self.order().await,
            41..=67 => self.pay().await,
            68..=88 => self.ship().await,
            _ => self.delete().await,
        }
    }

    async fn customer(&mut self) -> Result<(), Problem> {
        let name = self.one_of(&NAMES);
        let email = format!("{}.{}@example.org", name.to_lowercase(), self.customers + 1);
        let phone = self.phone();
        let row = self.execute(Kind::Customer, &[&name, &email, &phone]).await?;
        self.customers += 1;
        self.told(Kind::Customer, &row, "insert", "")
    }

    async fn contact(&mut self) -> Result<(), Problem> {
        let customer = self.any_customer();
        let phone = self.phone();
        let row = self.execute(Kind::Contact, &[&customer, &phone]).await?;
        self.told(Kind::Contact, &row, "update", "")
    }

    async fn order(&mut self) -> Result<(), Problem> {
        let customer = self.any_customer();
        let item = self.one_of(&ITEMS);
        let cents = 500 + (self.next_random() % 9_500).cast_signed();
        let row = self.execute(Kind::Order, &[&customer, &item, &cents]).await?;
        self.open.push_back(row.try_get(1).map_err(codes::sql)?);
        self.told(Kind::Order, &row, "insert", "")
    }

    async fn pay(&mut self) -> Result<(), Problem> {
        // The newest first, every other time: so that orders are seen on their way.
        let order = if self.next_random().is_multiple_of(2) {
            self.open.pop_back()
        } else {
            self.open.pop_front()
        };
        let Some(order) = order else { return self.order().await };
        let row = self.execute(Kind::Paid, &[&order]).await?;
        self.paid.push_back(order);
        self.told(Kind::Paid, &row, "update", "open → ")
    }

    async fn ship(&mut self) -> Result<(), Problem> {
        let Some(order) = self.paid.pop_front() else {
            return self.pay().await;
        };
        let row = self.execute(Kind::Shipped, &[&order]).await?;
        self.shipped.push_back(order);
        self.told(Kind::Shipped, &row, "update", "paid → ")
    }

    async fn delete(&mut self) -> Result<(), Problem> {
        // The newest, so that it is one that was seen being shipped.
        let order = if self.shipped.len() > SHIPPED_KEPT {
            self.shipped.pop_back()
        } else {
            None
        };
        let Some(order) = order else { return self.order().await };
        let row = self.execute(Kind::Deleted, &[&order]).await?;
        self.told(Kind::Deleted, &row, "delete", "")
    }

    async fn execute(&self, kind: Kind, parameters: &[&(dyn ToSql + Sync)]) -> Result<Row, Problem> {
        let statement = &self.statements[kind as usize];
        self.client.query_one(statement, parameters).await.map_err(codes::sql)
    }

    /// Puts the change before the view, as the shop has it.
    fn told(&self, kind: Kind, row: &Row, op: &str, before: &str) -> Result<(), Problem> {
        let text = |at: usize| row.try_get::<_, &str>(at).map_err(codes::sql);
        let id: i64 = row.try_get(1).map_err(codes::sql)?;
        let xid = text(0)?.parse().map_err(codes::sql)?;
        let raw = format!("{op} #{id} {before}{} {} {}", text(2)?, text(3)?, text(4)?);
        self.changes.committed(xid, kind, raw, self.sent);
        Ok(())
    }

    fn any_customer(&mut self) -> i64 {
        1 + (self.next_random() % self.customers.max(1).unsigned_abs()).cast_signed()
    }

    fn phone(&mut self) -> String {
        format!("+1 555 {:04}", self.next_random() % 10_000)
    }

    fn one_of(&mut self, words: &'static [&'static str]) -> &'static str {
        words[(self.next_random() % words.len() as u64) as usize]
    }

    /// Xorshift: the same shop every time.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 11
    }
}
