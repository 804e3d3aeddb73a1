//! What a Postgres snapshot sees, judged by transaction ids alone.

use std::fmt;
use std::str::FromStr;

/// A snapshot as `pg_current_snapshot()` writes it: `xmin:xmax:running,running,...`, with 64-bit ids.
///
/// Snapshots of one server are ordered: one taken later sees everything that an earlier one sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Every id below has ended.
    xmin: u64,
    /// Every id from here on had not begun to be visible.
    xmax: u64,
    /// The ids in between that were running, ascending. Sub-transactions are not listed: their top id counts.
    running: Box<[u64]>,
}

/// A text that is no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no snapshot of the form 785:787:785")]
pub struct NotASnapshot(String);

impl Snapshot {
    /// One that sees nothing: older than all.
    pub(super) fn nothing() -> Self {
        Self {
            xmin: 0,
            xmax: 0,
            running: Box::default(),
        }
    }

    /// Whether the effects of the transaction with this id, as the wire has it, are in the snapshot. An id that
    /// aborted counts as seen; the stream never has one.
    pub fn sees(&self, xid: u32) -> bool {
        let xid = self.extend(xid);
        xid < self.xmin || (xid < self.xmax && self.running.binary_search(&xid).is_err())
    }

    /// Whether this was taken after `other`, as far as their contents can tell; equal ones are not.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        (self.xmax, other.running.len()) > (other.xmax, self.running.len())
    }

    /// The 64-bit id of a 32-bit one. Ids in use at the same time lie less than 2^31 apart, or Postgres could not
    /// compare them either; so it is the one nearest to the snapshot.
    fn extend(&self, xid: u32) -> u64 {
        let distance = xid.wrapping_sub(self.xmax as u32) as i32;
        self.xmax.saturating_add_signed(i64::from(distance))
    }

    /// The ids below `xid` (64 bits) that were running.
    pub(super) fn running_below(&self, xid: u64) -> impl Iterator<Item = u64> {
        self.running.iter().copied().take_while(move |running| *running < xid)
    }
}

impl FromStr for Snapshot {
    type Err = NotASnapshot;

    fn from_str(text: &str) -> Result<Self, NotASnapshot> {
        let error = || NotASnapshot(text.to_owned());
        let number = |part: &str| part.parse::<u64>().map_err(|_| error());
        let mut parts = text.splitn(3, ':');
        let mut next = || parts.next().ok_or_else(error);
        let (xmin, xmax, list) = (number(next()?)?, number(next()?)?, next()?);
        let mut running = Vec::new();
        for part in list.split(',').filter(|part| !part.is_empty()) {
            running.push(number(part)?);
        }
        running.sort_unstable();
        if xmin > xmax {
            return Err(error());
        }
        Ok(Self {
            xmin,
            xmax,
            running: running.into(),
        })
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.xmin, self.xmax)?;
        for (at, xid) in self.running.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{xid}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(text: &str) -> Snapshot {
        text.parse().unwrap()
    }

    #[test]
    fn running_and_later_transactions_are_not_seen() {
        let snapshot = snapshot("785:790:785,788");
        let seen: Vec<u32> = (783..793).filter(|xid| snapshot.sees(*xid)).collect();
        assert_eq!(seen, [783, 784, 786, 787, 789]);
        assert_eq!(snapshot.to_string(), "785:790:785,788");
    }

    #[test]
    fn ids_from_the_wire_are_extended_across_the_wrap() {
        let epoch = 1_u64 << 32;
        let behind = snapshot(&format!("{}:{}:{}", epoch + 3, epoch + 10, epoch + 5));
        assert!(behind.sees(u32::MAX), "the last id of the epoch before");
        assert!(behind.sees(4) && !behind.sees(5) && behind.sees(9) && !behind.sees(10));
        let before = snapshot(&format!("{}:{}:", epoch - 5, epoch - 5));
        assert!(before.sees(u32::MAX - 5) && !before.sees(u32::MAX - 4));
        assert!(!before.sees(3), "an id of the epoch to come");
        let young = snapshot("700:700:");
        assert!(young.sees(3) && young.sees(699) && !young.sees(700));
    }

    #[test]
    fn snapshots_are_ordered_by_what_they_see() {
        let (first, second, third) = (snapshot("5:9:5,7"), snapshot("7:9:7"), snapshot("7:12:7,9,10"));
        assert!(second.is_newer_than(&first) && third.is_newer_than(&second) && third.is_newer_than(&first));
        assert!(!first.is_newer_than(&first) && !first.is_newer_than(&third));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "1", "1:2", "2:1:", "a:b:", "1:2:x", "1:2:-1"] {
            assert!(text.parse::<Snapshot>().is_err(), "{text}");
        }
    }
}
