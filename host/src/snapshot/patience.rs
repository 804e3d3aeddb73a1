//! Keys that can't be read again for now, as somebody has a lock on their table or a commit isn't visible yet: the stream
//! goes on meanwhile.
//!
//! ```text
//!   waits     a--         b---             a------                            b--------
//!   pause        .........    ............        ........................             ....
//! ```
//!
//! Who asks waits, and with him the stream of all tables. At first for a moment alone; whoever has asked in vain asks again for
//! longer, as one that always asks for a moment alone may never meet the moment. All of them share one [`Budget`]: behind each
//! wait nobody waits for four times as long, so that the stream stands still for a fifth of the time at most, however many
//! tables are locked. They take turns, whoever has asked longest ago first. Who hasn't asked in vain yet needs no turn: he asks at
//! once, but hardly waits where others wait for theirs, or have waited just now.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long the first of one that asks waits for a lock, and for all together; doubled with each in vain.
const LOCK_LIMIT: Duration = Duration::from_millis(100);
const WHOLE_LIMIT: Duration = Duration::from_millis(500);
/// How long any of them waits. Those that wait for a turn share it: so a round of theirs takes no longer than one's.
const LONGEST_LIMIT: Duration = Duration::from_secs(5);
/// How long one waits that has no turn: a commit is visible right behind its WAL, but where a standby is waited for.
const MOMENT: Duration = Duration::from_millis(5);
/// So many times as long as somebody has waited, nobody waits again.
const PAUSE: u32 = 4;
/// How long it waits before it says so.
const QUIET: Duration = Duration::from_secs(2);

/// How long one waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// For commits to become visible, and for a lock.
    pub(super) whole: Duration,
    /// For a lock alone.
    pub(super) lock: Duration,
    /// Whether that counts.
    is_spent: bool,
}

impl Limits {
    const MOMENT: Self = Self {
        whole: MOMENT,
        lock: MOMENT,
        is_spent: false,
    };

    /// Of one of so many that wait.
    fn after(tries: u32, waiting: usize) -> Self {
        let longest = LONGEST_LIMIT / u32::try_from(waiting).unwrap_or(u32::MAX);
        let doubled = |first: Duration| longest.min(first * 2_u32.pow(tries.min(10)));
        Self {
            whole: doubled(WHOLE_LIMIT),
            lock: doubled(LOCK_LIMIT),
            is_spent: true,
        }
    }
}

/// Of all tables of all copies: when somebody may wait again.
#[derive(Clone, Debug, Default)]
pub(super) struct Budget(Arc<Mutex<Option<Instant>>>);

impl Budget {
    pub(super) fn is_free(&self, now: Instant) -> bool {
        self.lock().is_none_or(|free_at| now >= free_at)
    }

    /// What one may wait that asks now, beside so many others that wait for their turn. One that waits for its own asks in
    /// its turn alone.
    pub(super) fn limits(&self, asker: &Asker, others: usize, now: Instant) -> Limits {
        match asker.tries > 0 || others == 0 && self.is_free(now) {
            true => Limits::after(asker.tries, others + 1),
            false => Limits::MOMENT,
        }
    }

    /// One has waited.
    pub(super) fn spend(&self, limits: Limits, waited: Duration, now: Instant) {
        if limits.is_spent {
            *self.lock() = Some(now + waited * PAUSE);
        }
    }

    /// Differs from what it was where somebody has waited.
    pub(super) fn spent(&self) -> Option<Instant> {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What keys of a table are read again for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    /// Units, which wait for theirs.
    Units,
    /// What the stream has brought without all of its values.
    Stream,
}

/// Of one table.
#[derive(Debug, Default)]
pub(super) struct Patience {
    units: Asker,
    stream: Asker,
}

impl Patience {
    pub(super) fn of(&self, what: For) -> &Asker {
        match what {
            For::Units => &self.units,
            For::Stream => &self.stream,
        }
    }

    pub(super) fn of_mut(&mut self, what: For) -> &mut Asker {
        match what {
            For::Units => &mut self.units,
            For::Stream => &mut self.stream,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Asker {
    /// What its patience is made of: how often it has asked in vain, less where that wasn't needed since.
    tries: u32,
    asked: Option<Instant>,
    /// Since when it asks in vain.
    since: Option<Instant>,
    said: bool,
}

impl Asker {
    /// Whether it waits for its turn: since when.
    pub(super) fn waits(&self) -> Option<Instant> {
        self.asked.filter(|_| self.tries > 0)
    }

    /// It has asked in vain. Whether it has for so long by now that it is to be said, once.
    pub(super) fn in_vain(&mut self, now: Instant) -> bool {
        self.asked = Some(now);
        self.tries += 1;
        let since = *self.since.get_or_insert(now);
        let is_long = now.duration_since(since) > QUIET;
        is_long && !std::mem::replace(&mut self.said, is_long)
    }

    /// It has got its rows. Half of its patience goes, where it would have got them with that: beside a standby that always
    /// lags as much the next needs it again.
    pub(super) fn served(&mut self, waited: Duration, now: Instant) {
        self.asked = Some(now);
        (self.since, self.said) = (None, false);
        let half = self.tries / 2;
        if waited <= Limits::after(half, 1).lock {
            self.tries = half;
        }
    }
}

#[cfg(test)]
mod tests;
