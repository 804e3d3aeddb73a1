//! What keys had before they were first written since a point in time: all that it takes to go back there.

use crate::checkpoint::EntryBytes;
use std::collections::HashMap;

/// Room that is kept for the next keys.
const ROOM: usize = 1 << 10;

/// By key. One that had nothing and has nothing isn't among them: so there are never more keys here than there were
/// entries then and are entries now, however often they are written and whatever comes and goes between.
#[derive(Clone, Debug)]
pub(in crate::plugin) struct Firsts<V>(HashMap<EntryBytes, Option<V>>);

impl<V> Default for Firsts<V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<V> Firsts<V> {
    /// A key was written that had `was`, which is asked for where nothing is known of it yet.
    #[inline]
    pub fn note(&mut self, key: &[u8], is_there: bool, was: impl FnOnce() -> Option<V>) {
        match self.0.get(key) {
            Some(None) if !is_there => {
                self.0.remove(key);
            }
            Some(_) => {}
            None => {
                let was = was();
                if was.is_some() || is_there {
                    self.0.insert(key.into(), was);
                }
            }
        }
    }

    /// Takes in what was noted from a later point in time on, up to now.
    pub fn absorb(&mut self, later: Self, is_there: impl Fn(&[u8]) -> bool) {
        if self.0.is_empty() {
            *self = later;
            return;
        }
        for (key, was) in later.0 {
            match self.0.get(&key) {
                None => {
                    self.0.insert(key, was);
                }
                Some(None) if !is_there(&key) => {
                    self.0.remove(&key);
                }
                Some(_) => {}
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn clear(&mut self) {
        self.0.clear();
        self.0.shrink_to(ROOM);
    }

    pub fn into_keys(self) -> impl Iterator<Item = EntryBytes> {
        self.0.into_keys()
    }

    /// The keys with what they had.
    pub fn take(&mut self) -> impl Iterator<Item = (EntryBytes, Option<V>)> + use<V> {
        std::mem::take(&mut self.0).into_iter()
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Of the keys and what they had.
    #[cfg(test)]
    pub fn bytes(&self, of: impl Fn(&V) -> usize) -> u64 {
        let values = self.0.values().flatten().map(of).sum::<usize>();
        (self.0.keys().map(|key| key.len()).sum::<usize>() + values) as u64
    }
}
