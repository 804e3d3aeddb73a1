//! Which letters are asked for.

use super::{LiveRequest, Requested, Selection};
use crate::dead_letter::fault;
use crate::dead_letter::line::{Record, Request};
use crate::dead_letter::store::State;
use crate::problem::Problem;
use std::collections::BTreeSet;

/// Requests that wait.
const REQUESTS_MAX: usize = 1_000;

impl State {
    pub(in crate::dead_letter) fn select(&self, selection: &Selection) -> Result<Vec<u64>, Box<Problem>> {
        let entries = &self.index.entries;
        Ok(match selection {
            Selection::Numbers(numbers) => {
                if let Some(missing) = numbers.iter().find(|number| !entries.contains_key(number)) {
                    return Err(fault::unknown(*missing));
                }
                numbers.iter().copied().collect::<BTreeSet<u64>>().into_iter().collect()
            }
            Selection::Table(table) => {
                let of_table = entries.iter().filter(|(_, entry)| *entry.table == **table);
                of_table.map(|(number, _)| *number).collect()
            }
            Selection::All => entries.keys().copied().collect(),
        })
    }

    pub(in crate::dead_letter) fn request(
        &mut self,
        selection: &Selection,
        force: bool,
    ) -> Result<Requested, Box<Problem>> {
        if self.requests.len() >= REQUESTS_MAX {
            return Err(fault::too_many_requests(REQUESTS_MAX));
        }
        let named = self.select(selection)?;
        let is_superseded = |number: &u64| self.index.entries.get(number).is_some_and(|entry| entry.superseded);
        let mut superseded: Vec<u64> = Vec::new();
        if !force {
            superseded.extend(named.iter().copied().filter(is_superseded));
        }
        if let (Selection::Numbers(_), Some(first)) = (selection, superseded.first()) {
            let table = self
                .index
                .entries
                .get(first)
                .map_or_else(String::new, |e| e.table.to_string());
            return Err(fault::superseded(*first, &table));
        }
        let mut letters: BTreeSet<u64> = BTreeSet::new();
        for number in named.into_iter().filter(|number| !superseded.contains(number)) {
            if force {
                letters.insert(number);
            } else if !letters.contains(&number) {
                letters.extend(self.index.group(number));
            }
        }
        let letters: Vec<u64> = letters.into_iter().collect();
        let request = self.next_request;
        let record = Request {
            request,
            letters: letters.clone(),
            force,
            kept: Vec::new(),
        };
        if !letters.is_empty() {
            self.append(vec![Record::Replay(record.clone())])?;
            self.next_request += 1;
            self.requests.push_back(LiveRequest::from(record));
        }
        Ok(Requested {
            request,
            letters,
            superseded,
        })
    }
}
