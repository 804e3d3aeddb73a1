//! The positions of shares, and what they say after a crash: which rows are there beyond the sink's position.

use super::division::{Division, Ways};
use crate::batch::{Delivery, Lsn, Origin, Row};
use crate::problem::{Exit, Problem};
use crate::sink::postgres::error;
use crate::sink::postgres::position::Identity;
use crate::sink::postgres::target::literal;
use crate::sink::{SinkContext, SinkError};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// How long connections of an earlier session may take to end.
const FENCE_WAIT: &str = "5s";

/// Rows go with the position: where that is taken out, so are they.
pub(super) const CREATE: &str = "CREATE TABLE IF NOT EXISTS rowmill.shares (\
    pipeline text NOT NULL, \
    sink text NOT NULL, \
    share integer NOT NULL, \
    shares integer NOT NULL, \
    lsn pg_lsn NOT NULL, \
    ordinal bigint NOT NULL, \
    rules jsonb NOT NULL, \
    updated_at timestamptz NOT NULL DEFAULT pg_catalog.now(), \
    PRIMARY KEY (pipeline, sink, share), \
    FOREIGN KEY (pipeline, sink) REFERENCES rowmill.positions ON DELETE CASCADE)";

/// Moves the shares from `$3` to `$4` to the bound `$6`, `$7`, and never back.
pub(super) const UPDATE: &str = "INSERT INTO rowmill.shares (pipeline, sink, share, shares, lsn, ordinal, rules) \
    SELECT $1::text, $2::text, share, ($5::text)::integer, '0/0'::pg_catalog.pg_lsn + ($6::text)::numeric, \
        ($7::text)::bigint, ($8::text)::jsonb \
    FROM pg_catalog.generate_series(($3::text)::integer, ($4::text)::integer) share \
    ON CONFLICT (pipeline, sink, share) DO UPDATE SET shares = EXCLUDED.shares, lsn = EXCLUDED.lsn, \
        ordinal = EXCLUDED.ordinal, rules = EXCLUDED.rules, updated_at = pg_catalog.now() \
    WHERE EXCLUDED.lsn > shares.lsn OR EXCLUDED.lsn = shares.lsn AND EXCLUDED.ordinal > shares.ordinal";

/// Before what change everything is there: the commit LSN of its transaction, and its number in it.
pub(in crate::sink::postgres) type Bound = (Lsn, u64);

/// Parameters of [`UPDATE`] for the shares from `first` to `last`.
pub(super) fn parameters(
    identity: &Identity,
    (first, last): (usize, usize),
    division: &Division,
    bound: Bound,
) -> [String; 8] {
    [
        identity.pipeline.clone(),
        identity.sink.clone(),
        first.to_string(),
        last.to_string(),
        division.shares().to_string(),
        bound.0.0.to_string(),
        bound.1.to_string(),
        division.to_text(),
    ]
}

/// What lies beyond the position, where a crash came between the commits of several connections.
#[derive(Debug)]
pub(in crate::sink::postgres) struct Ahead {
    division: Division,
    /// By share.
    bounds: Vec<Bound>,
    /// The furthest.
    until: Bound,
}

impl Ahead {
    /// Waits until the connections of earlier sessions have ended, and reads what they have left. `position` is the
    /// sink's.
    pub(in crate::sink::postgres) async fn read(
        client: &Client,
        context: &SinkContext,
        position: Option<Lsn>,
    ) -> Result<Option<Self>, SinkError> {
        let failed = |error| error::of(&error, context);
        let there = "SELECT pg_catalog.to_regclass('rowmill.shares') IS NOT NULL";
        if !client.query_one(there, &[]).await.map_err(failed)?.get::<_, bool>(0) {
            return Ok(None);
        }
        fence(client, context).await?;
        let select = "SELECT share, shares, (lsn - '0/0')::text, ordinal, rules::text FROM rowmill.shares \
            WHERE pipeline = $1 AND sink = $2 AND lsn >= '0/0'::pg_catalog.pg_lsn + ($3::text)::numeric \
            ORDER BY lsn, ordinal";
        let position = position.unwrap_or_default();
        let found = client
            .query(select, &[&context.pipeline, &context.sink, &position.0.to_string()])
            .await
            .map_err(failed)?;
        let bound = |row: &tokio_postgres::Row| -> Bound {
            let lsn: &str = row.get(2);
            let ordinal: i64 = row.get(3);
            (Lsn(lsn.parse().unwrap_or_default()), ordinal.unsigned_abs())
        };
        let Some(furthest) = found.last().filter(|last| bound(last) > (position, 0)) else {
            return Ok(None);
        };
        let shares = usize::try_from(furthest.get::<_, i32>(1)).unwrap_or_default();
        let division = Division::from_text(shares, furthest.get(4)).ok_or_else(|| unreadable(context))?;
        let mut bounds = vec![Bound::default(); shares];
        for row in &found {
            let share = usize::try_from(row.get::<_, i32>(0)).unwrap_or(usize::MAX);
            if let Some(at) = bounds.get_mut(share) {
                *at = bound(row);
            }
        }
        let until = bound(furthest);
        Ok(Some(Self {
            division,
            bounds,
            until,
        }))
    }

    /// The furthest position of which something is there.
    pub(in crate::sink::postgres) fn position(&self) -> Lsn {
        let (commit, ordinal) = self.until;
        // Rows of the transaction that commits there.
        Lsn(commit.0.saturating_add(u64::from(ordinal > 0)))
    }

    /// Whether a position is behind all of it.
    pub(in crate::sink::postgres) fn is_passed(&self, position: Lsn) -> bool {
        (position, 0) >= self.until
    }

    /// The delivery without the rows that are there; `None` where it has none of them.
    pub(in crate::sink::postgres) fn without_known(&self, delivery: &Delivery) -> Option<Delivery> {
        let ways = self.division.ways(&delivery.batch);
        let known = |row: &Row| self.has(delivery, &ways, row);
        delivery.rows.iter().any(known).then(|| Delivery {
            rows: delivery.rows.iter().filter(|row| !known(row)).copied().collect(),
            ..delivery.clone()
        })
    }

    fn has(&self, delivery: &Delivery, ways: &Ways, row: &Row) -> bool {
        let transaction = delivery.batch.transaction(row);
        if transaction.origin != Origin::Stream || transaction.is_aside() {
            return false;
        }
        let at = (transaction.commit_lsn, row.ordinal);
        if at >= self.until {
            return false;
        }
        match ways.share(&delivery.batch, row) {
            Ok(Some(share)) => self.bounds.get(share).is_some_and(|bound| at < *bound),
            // What concerns all shares was applied with none of them under way.
            _ => self.bounds.iter().all(|bound| at < *bound),
        }
    }
}

/// The key of the lock that all connections of a sink but its first share.
fn lock_key(context: &SinkContext) -> String {
    let name = literal(&format!("rowmill shares {} {}", context.pipeline, context.sink));
    format!("pg_catalog.hashtextextended({name}, 0)")
}

/// Taken by a connection for as long as it lasts.
pub(super) async fn enter(client: &Client, context: &SinkContext) -> Result<(), SinkError> {
    let enter = format!("SELECT pg_catalog.pg_advisory_lock_shared({})", lock_key(context));
    let entered = client.batch_execute(&enter).await;
    entered.map_err(|error| error::of(&error, context))
}

/// Waits for the end of connections that may still commit.
async fn fence(client: &Client, context: &SinkContext) -> Result<(), SinkError> {
    let key = lock_key(context);
    let wait = format!(
        "SET lock_timeout = '{FENCE_WAIT}'; SELECT pg_catalog.pg_advisory_lock({key}); SET lock_timeout = 0; \
         SELECT pg_catalog.pg_advisory_unlock({key})"
    );
    match client.batch_execute(&wait).await {
        Ok(()) => Ok(()),
        Err(refused) if refused.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            let headline = format!("sink {} is in use by another host", context.sink);
            let cause = format!("further sessions at the target hold its second lock, waited {FENCE_WAIT}");
            Err(Problem::new("E0405", Exit::Sink, headline, "stop the other host")
                .with_cause(cause)
                .into())
        }
        Err(other) => Err(error::of(&other, context)),
    }
}

fn unreadable(context: &SinkContext) -> SinkError {
    let headline = format!("the shares of sink {} can't be read", context.sink);
    let help = "start the version of Rowmill that wrote them, and stop it in order";
    Problem::new("E0411", Exit::Sink, headline, help)
        .with_cause("the rules in rowmill.shares are of another form")
        .into()
}
