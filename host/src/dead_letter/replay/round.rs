//! What of a request goes out next.

use super::LiveRequest;
use crate::batch::Lsn;
use crate::dead_letter::store::State;
use rustc_hash::FxHashSet;

/// Sent at once: a batch's worth, so that the stream isn't held up for long.
const ROUND_LETTERS: usize = 10_000;
const ROUND_BYTES: u64 = 8 << 20;

impl State {
    /// What of a request goes out next, in order: whole groups of letters that share keys, but for those in which one
    /// has failed again, and those of which the stream, at `position`, has one before it; cut off where it gets too much.
    pub(super) fn round(&self, request: &mut LiveRequest, position: Lsn) -> Vec<u64> {
        let entries = &self.index.entries;
        let force = request.force;
        request
            .letters
            .retain(|number| entries.get(number).is_some_and(|entry| force || !entry.superseded));
        let is_behind = |number: &u64| {
            let order = entries[number].order;
            !order.streamed || order.lsn < position
        };
        let mut chosen: Vec<u64> = if force {
            request.letters.iter().copied().filter(is_behind).collect()
        } else {
            let mut seen: FxHashSet<u64> = FxHashSet::default();
            let mut chosen = Vec::new();
            for number in request.letters.clone() {
                if seen.contains(&number) {
                    continue;
                }
                let group = self.index.group(number);
                seen.extend(&group);
                if !group.iter().all(is_behind) {
                    continue;
                }
                if group.is_disjoint(&request.failed) {
                    chosen.extend(&group);
                    request.letters.extend(group);
                } else {
                    request.letters.retain(|number| !group.contains(number));
                    request.failed.extend(group);
                }
            }
            chosen
        };
        chosen.sort_by_key(|number| (entries[number].order, *number));
        let mut bytes = 0;
        let fitting = chosen.iter().take(ROUND_LETTERS).take_while(|number| {
            let fits = bytes == 0 || bytes + entries[number].place.len <= ROUND_BYTES;
            bytes += entries[number].place.len;
            fits
        });
        let count = fitting.count();
        chosen.truncate(count);
        chosen
    }

    /// Whether so many wait in a table that more might stop the pipeline before this is through.
    pub(super) fn is_crowded(&self, round: &[u64]) -> bool {
        let mut entries = round.iter().filter_map(|number| self.index.entries.get(number));
        entries.any(|entry| self.index.behind(entry.route, entry.oid) * 2 > self.limits.max_behind)
    }
}
