//! One watched plugin: when its file is worth reading, and what is told of it.
//!
//! All decisions are made from the clock that is passed in.

use super::links::{Way, follow};
use super::reading::{ModuleRefusal, Reading, Stamp, read};
use super::store::ModuleStore;
use super::{ModuleHash, ReloadEvent, WatchSettings, WatchedPlugin};
use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind};
use std::time::Instant;

/// What was last told, so that it isn't told again with each look.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Gone,
    Refused(String),
}

pub(super) struct Candidate {
    plugin: WatchedPlugin,
    pub(super) way: Way,
    /// As it was at the last look; `None` where there was no file.
    stamp: Option<Stamp>,
    /// Since when nothing has changed, while the change before that is still to be read.
    quiet_since: Option<Instant>,
    /// Written to and not closed since: it is likely half there.
    open_for_writing: bool,
    delivered: Option<ModuleHash>,
    delivered_at: Option<Instant>,
    told: Told,
}

impl Candidate {
    /// Reads the file once in any case: it may have changed since the running version was loaded.
    pub(super) fn new(plugin: WatchedPlugin, now: Instant) -> Self {
        Self {
            way: follow(&plugin.module),
            stamp: Stamp::of(&plugin.module),
            quiet_since: Some(now),
            open_for_writing: false,
            delivered: plugin.running,
            delivered_at: None,
            told: Told::Nothing,
            plugin,
        }
    }

    /// Something happened in one of the folders on the way.
    pub(super) fn event(&mut self, event: &Event, now: Instant) {
        if event.paths.contains(&self.way.target) {
            match event.kind {
                EventKind::Modify(ModifyKind::Data(_)) => {
                    // Even with equal stamps: two writes within one tick of the file system's clock.
                    self.open_for_writing = true;
                    self.quiet_since = Some(now);
                }
                EventKind::Access(AccessKind::Close(AccessMode::Write)) => self.open_for_writing = false,
                EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => self.open_for_writing = false,
                _ => {}
            }
        }
        self.look(now);
    }

    /// Compares the file with what it was.
    pub(super) fn look(&mut self, now: Instant) {
        let stamp = Stamp::of(&self.plugin.module);
        if stamp != self.stamp {
            self.stamp = stamp;
            self.quiet_since = Some(now);
            self.way = follow(&self.plugin.module);
        }
    }

    /// When the file is to be read, if nothing happens before.
    pub(super) fn due(&self, settings: &WatchSettings) -> Option<Instant> {
        let patience = if self.open_for_writing {
            settings.settle.max(settings.poll)
        } else {
            settings.settle
        };
        let settled = self.quiet_since? + patience;
        let allowed = self.delivered_at.map(|at| at + settings.interval);
        Some(allowed.map_or(settled, |allowed| allowed.max(settled)))
    }

    /// Reads the file if it is due, and says what has become of it.
    pub(super) fn settle(
        &mut self,
        now: Instant,
        settings: &WatchSettings,
        store: &ModuleStore,
    ) -> Option<ReloadEvent> {
        if self.due(settings).is_none_or(|due| due > now) {
            return None;
        }
        self.open_for_writing = false;
        let read = || read(&self.plugin.module, settings.root.as_deref(), self.plugin.limit);
        let outcome = match (read(), read()) {
            (Ok(first), Ok(second)) if self.is_same(&first, &second) => Ok(second),
            (Ok(_), _) | (_, Ok(_)) => return self.not_yet(now),
            (Err(_), Err(refusal)) => Err(refusal),
        };
        if Stamp::of(&self.plugin.module) != self.stamp {
            return self.not_yet(now);
        }
        self.quiet_since = None;
        match outcome {
            Ok(reading) => self.whole(reading, now, store),
            Err(ModuleRefusal::Missing) => self.tell(Told::Gone),
            Err(refusal) => self.tell(Told::Refused(refusal.to_string())),
        }
    }

    fn is_same(&self, first: &Reading, second: &Reading) -> bool {
        self.stamp == Some(first.stamp) && first.stamp == second.stamp && first.hash == second.hash
    }

    fn not_yet(&mut self, now: Instant) -> Option<ReloadEvent> {
        self.stamp = Stamp::of(&self.plugin.module);
        self.quiet_since = Some(now);
        None
    }

    fn whole(&mut self, reading: Reading, now: Instant, store: &ModuleStore) -> Option<ReloadEvent> {
        if self.delivered == Some(reading.hash) {
            self.told = Told::Nothing;
            return None;
        }
        let stored = match store.put(&reading.bytes) {
            Ok((_, stored)) => stored,
            Err(error) => {
                // The file is good and stays worth another try, as seldom as any reload.
                self.quiet_since = Some(now);
                self.delivered_at = Some(now);
                return self.tell(Told::Refused(format!("it can't be stored: {error}")));
            }
        };
        self.told = Told::Nothing;
        self.delivered = Some(reading.hash);
        self.delivered_at = Some(now);
        Some(ReloadEvent::Change {
            plugin: self.plugin.name.clone(),
            bytes: reading.bytes,
            hash: reading.hash,
            stored,
        })
    }

    /// The change that was told last couldn't be taken up, for no fault of the file's.
    pub(super) fn again(&mut self, at: Instant) {
        self.delivered = None;
        // A change of the file is read earlier.
        self.quiet_since = Some(self.quiet_since.map_or(at, |earlier| earlier.min(at)));
    }

    fn tell(&mut self, told: Told) -> Option<ReloadEvent> {
        if self.told == told {
            return None;
        }
        let plugin = self.plugin.name.clone();
        let event = match &told {
            Told::Nothing => return None,
            Told::Gone => ReloadEvent::Gone { plugin },
            Told::Refused(reason) => ReloadEvent::Refused {
                plugin,
                reason: reason.clone(),
            },
        };
        self.told = told;
        Some(event)
    }
}
