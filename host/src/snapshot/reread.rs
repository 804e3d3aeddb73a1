//! Reads single keys again for the merger, which waits: the stream of all tables stands still meanwhile. So nobody is
//! waited for longer than a moment, neither whoever has a lock on the table nor commits that aren't visible yet (as beside
//! a synchronous standby): the merger asks again later (`patience`).

use super::barrier;
use super::cut;
use super::fault::{self, Fault};
use super::merge::Reread;
use super::patience::Limits;
use super::read::{self, Rows, View};
use super::shared::{Shared, UnitId};
use super::sql;
use super::{key, worker::Event};
use crate::batch::Batch;
use crate::postgres::Reader;
use crate::problem::Problem;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Keys in one statement.
const KEYS_PER_STATEMENT: usize = 500;

const ATTEMPTS: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// How often it looks what is visible by now, so that changes needn't be remembered for as long as units take that
/// are being read.
const REFRESH: Duration = Duration::from_secs(2);

/// Keys of one table, to be read under one snapshot.
pub(super) struct Request {
    /// The unit that the rows go out with.
    pub unit: UnitId,
    pub keys: Vec<Reread>,
    /// How long others may be waited for.
    pub limits: Limits,
    pub reply: oneshot::Sender<Result<Answer, Box<Problem>>>,
}

pub(super) enum Answer {
    Rows(Again),
    /// They can't be read now, for this reason.
    NotNow(&'static str),
}

/// Rows as they were read again; a key that isn't among them is gone. There may be rows that nobody asked for.
pub(super) struct Again {
    pub view: View,
    pub batches: Vec<Batch>,
    /// How long others were waited for.
    pub waited: Duration,
}

/// Answers until the merger is gone.
pub(super) async fn run(
    shared: Arc<Shared>,
    mut requests: mpsc::UnboundedReceiver<Request>,
    events: mpsc::UnboundedSender<Event>,
) {
    let mut reader = None;
    loop {
        let request = tokio::select! {
            request = requests.recv() => request,
            () = events.closed() => None,
            () = tokio::time::sleep(REFRESH) => {
                refresh(&shared, &mut reader).await;
                continue;
            }
        };
        let Some(request) = request else { return };
        let again = answer(&shared, &mut reader, &request).await;
        let _ = request.reply.send(again);
    }
}

/// Learns what every coming snapshot will see; a connection that fails is made anew the next time.
async fn refresh(shared: &Shared, kept: &mut Option<Reader>) {
    let snapshot = async {
        let mut reader = match kept.take() {
            Some(reader) => reader,
            None => read::connect(&shared.connect).await?,
        };
        let snapshot = barrier::current(&mut reader).await?;
        *kept = Some(reader);
        Ok::<_, Fault>(snapshot)
    };
    match snapshot.await {
        Ok(snapshot) => shared.floors().saw(&snapshot),
        Err(fault) => tracing::debug!(?fault, "no snapshot to forget changes by"),
    }
}

async fn answer(shared: &Shared, kept: &mut Option<Reader>, request: &Request) -> Result<Answer, Box<Problem>> {
    let table = &shared.tables[request.unit.table];
    let mut pause = FIRST_PAUSE;
    for attempt in 1.. {
        let read = async {
            let mut reader = match kept.take() {
                Some(reader) => reader,
                None => read::connect(&shared.connect).await?,
            };
            let again = read_keys(shared, &mut reader, request).await?;
            *kept = Some(reader);
            Ok(again)
        };
        match read.await {
            Ok(again) => return Ok(again),
            Err(Fault::Definite(problem)) => return Err(problem),
            Err(Fault::Transient(error)) if attempt == ATTEMPTS => {
                return Err(fault::unreachable(&table.copy, &error));
            }
            Err(Fault::Transient(error)) => {
                tracing::warn!(
                    table = table.copy.relation.full_name(),
                    attempt,
                    "keys are read again: {error:#}"
                );
            }
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    Err(fault::stopped())
}

async fn read_keys(shared: &Shared, reader: &mut Reader, request: &Request) -> Result<Answer, Fault> {
    let table = &shared.tables[request.unit.table];
    let columns = cut::key_columns(table, reader).await?;
    let xids: HashSet<u32> = request.keys.iter().filter_map(|reread| reread.xid).collect();
    let (Limits { whole, lock, .. }, begun) = (request.limits, Instant::now());
    if !barrier::wait_for(reader, &xids, whole).await? {
        return Ok(Answer::NotNow("its last changes are visible (synchronous standby?)"));
    }
    let lock = lock.min(whole.saturating_sub(begun.elapsed()));
    let Some(view) = read::begin_within(table, reader, lock).await? else {
        return Ok(Answer::NotNow("nobody has a lock on it"));
    };
    let waited = begun.elapsed();
    let mut batches = Vec::new();
    for chunk in request.keys.chunks(KEYS_PER_STATEMENT) {
        let texts: Result<Vec<_>, _> = chunk.iter().map(|reread| key::texts(&reread.key)).collect();
        let texts = texts.map_err(|_| fault::no_key(&table.copy))?;
        let sql = sql::copy_keys(&table.copy, &columns, &texts);
        let mut rows = Rows::open(&table.copy, shared.name_unit(request.unit), reader, &sql).await?;
        while let Some(batch) = rows.next().await? {
            batches.push(batch);
        }
    }
    cut::rows(&table.copy, reader, "COMMIT").await?;
    Ok(Answer::Rows(Again { view, batches, waited }))
}
