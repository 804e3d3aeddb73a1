//! Another timeline of the server: what may be ahead of where it parts from the stored one is noted together with it.

use super::format::{self, AHEAD, IDENTITY_DOCUMENT, PARTINGS_DOCUMENT};
use super::{Identity, StateStore, ahead, copies};
use crate::batch::Lsn;
use crate::problem::Problem;
use redb::ReadableTable;
use serde::{Deserialize, Serialize};

/// A sink that is still to be seen on the timeline that is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parting {
    pub sink: String,
    /// Where that timeline parts from the one that the sink was on, in bytes.
    pub at: u64,
}

impl StateStore {
    /// Stores the identity with its new timeline. These sinks are to be compared with where it parts from the one before, when
    /// they are opened next. Copies under way begin anew with their targets emptied, and nothing is ahead any more: what they
    /// have let out may be of transactions that there aren't on this timeline. Returns the tables of these copies.
    pub fn take_up_timeline(
        &self,
        identity: &Identity,
        parts_at: Lsn,
        sinks: &[String],
    ) -> Result<Vec<String>, Problem> {
        let mut partings = self.partings()?;
        // One that wasn't seen on the timeline in between has nothing of that: it is to be compared with the earlier point.
        partings
            .iter_mut()
            .for_each(|parting| parting.at = parting.at.min(parts_at.0));
        for sink in sinks {
            if !partings.iter().any(|parting| parting.sink == *sink) {
                let (sink, at) = (sink.clone(), parts_at.0);
                partings.push(Parting { sink, at });
            }
        }
        self.write(|transaction| {
            format::put_document(transaction, IDENTITY_DOCUMENT, identity)?;
            format::put_document(transaction, PARTINGS_DOCUMENT, &partings)?;
            let begun = copies::under_way(transaction)?;
            let mut anew = Vec::new();
            for copy in begun {
                let is_ahead = ahead::is_any(transaction, copy.table_oid)?;
                if is_ahead || !copy.basis.is_empty() {
                    anew.push(copy.table.clone());
                    copies::begin_anew(transaction, copy)?;
                }
            }
            transaction.open_table(AHEAD)?.retain(|_, _| false)?;
            Ok(anew)
        })
    }

    /// The sinks that are still to be seen on the stored timeline.
    pub fn partings(&self) -> Result<Vec<Parting>, Problem> {
        let partings = self.read(|transaction| format::document(transaction, PARTINGS_DOCUMENT))?;
        Ok(partings.unwrap_or_default())
    }

    /// The sink is on the stored timeline: to be stored before it gets anything of that.
    pub fn settle_parting(&self, sink: &str) -> Result<(), Problem> {
        self.write(|transaction| {
            let partings: Option<Vec<Parting>> = {
                let documents = transaction.open_table(format::DOCUMENTS)?;
                let stored = documents.get(PARTINGS_DOCUMENT)?;
                stored.map(|stored| format::decode(stored.value())).transpose()?
            };
            let mut partings = partings.unwrap_or_default();
            partings.retain(|parting| parting.sink != sink);
            format::put_document(transaction, PARTINGS_DOCUMENT, &partings)
        })
    }
}
