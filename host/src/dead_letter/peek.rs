//! Reading the store without its lock, beside a host that runs.

use super::file;
use super::letter::Letter;
use super::line::Record;
use crate::batch::Lsn;
use crate::problem::Problem;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What a store holds.
#[derive(Debug, Default)]
pub struct Peeked {
    pub letters: BTreeMap<u64, Letter>,
    pub superseded: BTreeSet<u64>,
    /// Those that were asked to be sent again.
    pub requested: BTreeSet<u64>,
    /// Changes that are to be set aside when they come again: position, ordinal, and the sink that can't take them.
    pub refused: BTreeMap<(Lsn, u64), String>,
}

/// Whether there is a store at all.
pub fn exists(state_dir: &Path) -> bool {
    file::path(state_dir).exists()
}

/// Reads all letters; `keep` takes out of each what isn't wanted, its values mostly, before the next is read.
///
/// # Errors
/// Damage, or a disk that can't be read.
pub fn peek(state_dir: &Path, mut keep: impl FnMut(&mut Letter)) -> Result<Peeked, Box<Problem>> {
    let mut peeked = Peeked::default();
    let mut requests: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    file::peek(state_dir, |_, record| match record {
        Record::Letter(mut letter) => {
            keep(&mut letter);
            peeked
                .refused
                .remove(&(letter.change.commit_lsn, letter.change.ordinal));
            peeked.letters.insert(letter.number, *letter);
        }
        Record::Gone(gone) => gone.letters.iter().for_each(|number| {
            peeked.letters.remove(number);
            peeked.superseded.remove(number);
        }),
        Record::Superseded { letters } => peeked.superseded.extend(letters),
        Record::Replay(request) => {
            requests.insert(request.request, request.letters);
        }
        Record::Refused(refused) => {
            let change = (Lsn(refused.lsn), refused.ordinal);
            match refused.forgotten {
                true => peeked.refused.remove(&change),
                false => peeked.refused.insert(change, refused.sink),
            };
        }
        Record::File(_) | Record::Ghost(_) => {}
    })?;
    let is_there = |number: &u64| peeked.letters.contains_key(number);
    peeked.requested = requests.into_values().flatten().filter(is_there).collect();
    Ok(peeked)
}
