//! Whether the slot outlives a failover: servers from 17 on keep such slots on their standbys.

use super::{Findings, Level, Request, Server, codes};
use crate::problem::{Exit, Problem};
use crate::source::failure::{headline, refused, shown};
use crate::source::slot::SlotState;
use tokio_postgres::Client;

/// The first that knows failover slots.
pub const VERSION_FIRST: i32 = 170_000;

/// Physical slots are those of standbys. The setting has another name in no version that has failover slots.
const STANDBYS: &str = r"
SELECT EXISTS (SELECT FROM pg_catalog.pg_replication_slots WHERE slot_type = 'physical') AS has_standby,
       COALESCE(current_setting('synchronized_standby_slots', true), '') AS waits_for";

pub(super) async fn check(
    client: &Client,
    server: &Server,
    slot: Option<&SlotState>,
    request: &Request<'_>,
    findings: &mut Findings,
) -> Result<(), Box<Problem>> {
    if server.version < VERSION_FIRST {
        if request.failover_slot == Some(true) {
            findings.problem(too_old(server));
        }
        return Ok(());
    }
    let Some(slot) = slot else { return Ok(()) };
    let standbys = client.query_typed_one(STANDBYS, &[]).await;
    let standbys = standbys.map_err(|error| refused("read the standbys' slots", &error))?;
    if !standbys.get::<_, bool>("has_standby") {
        return Ok(());
    }
    let name = shown(&slot.name);
    if slot.failover != Some(true) && request.failover_slot != Some(true) {
        findings.note(
            Level::Info,
            codes::FAILOVER_WITHOUT,
            format!("replication slot {name} doesn't outlive a failover"),
            Some("standbys don't keep it: behind a failover the tables have to be copied anew".into()),
            Some("`failover_slot: true` under source.postgres, `sync_replication_slots = on` at the standby".into()),
        );
    } else if standbys.get::<_, &str>("waits_for").is_empty() {
        findings.note(
            Level::Info,
            codes::FAILOVER_AHEAD,
            format!("replication slot {name} may be ahead of a standby"),
            Some("behind a failover to one that lacks what was delivered, a start refuses to go on".into()),
            Some("name the standbys' slots in `synchronized_standby_slots` at the primary".into()),
        );
    }
    Ok(())
}

fn too_old(server: &Server) -> Problem {
    let text = format!(
        "failover slots need PostgreSQL 17, the server is {}",
        server.version_text
    );
    let help = "take `failover_slot: true` out of source.postgres";
    Problem::new(codes::FAILOVER_VERSION, Exit::Preflight, headline(text), help)
}
