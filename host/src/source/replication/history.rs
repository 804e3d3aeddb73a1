//! How a server came to be on its timeline.

use crate::batch::Lsn;

/// The timelines that one comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The one that it is of.
    timeline: u32,
    /// Those before it, the oldest first, and where each was left for the next.
    left: Vec<(u32, Lsn)>,
}

impl History {
    /// A line of a history file is `timeline TAB where it was left TAB why`; lines of people begin with `#`.
    pub(super) fn parse(timeline: u32, content: &str) -> Self {
        let lines = content.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
        });
        Self {
            timeline,
            left: lines.collect(),
        }
    }

    /// Where `timeline` was left; `None` where this one doesn't come from it.
    pub fn left(&self, timeline: u32) -> Option<Lsn> {
        let mut left = self.left.iter();
        left.find(|(number, _)| *number == timeline).map(|(_, at)| *at)
    }

    /// Where `timeline` began: where the one before it was left. `None` for the first, and where this one doesn't come from it.
    pub fn began(&self, timeline: u32) -> Option<Lsn> {
        let behind = match timeline == self.timeline {
            true => self.left.len(),
            false => self.left.iter().position(|(number, _)| *number == timeline)?,
        };
        Some(self.left.get(behind.checked_sub(1)?)?.1)
    }

    /// Where this one parts from `timeline`, which began at `began` as far as that is known; `None` where it is that one still, or
    /// doesn't come from it. Two servers that were promoted each for itself gave their timelines one number.
    pub fn parts_from(&self, timeline: u32, began: Option<Lsn>) -> Option<Lsn> {
        match (began, self.began(timeline)) {
            (Some(ours), Some(theirs)) if ours != theirs => Some(ours.min(theirs)),
            _ => self.left(timeline),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTENT: &str = "1\t0/3000148\tno recovery target specified\n\n# by hand\n2\t1/AB\tbefore 2026-11-26\n";
    const FIRST: Lsn = Lsn(0x300_0148);
    const SECOND: Lsn = Lsn(0x1_0000_00AB);

    #[test]
    fn a_history_says_where_a_timeline_was_left() {
        let history = History::parse(3, CONTENT);
        assert_eq!(
            [1, 2, 3].map(|timeline| history.left(timeline)),
            [Some(FIRST), Some(SECOND), None]
        );
        assert_eq!(History::parse(2, "1").left(1), None);
        assert_eq!(History::parse(2, "").left(1), None);
    }

    #[test]
    fn and_where_one_began() {
        let history = History::parse(3, CONTENT);
        let began = [1, 2, 3, 4].map(|timeline| history.began(timeline));
        assert_eq!(began, [None, Some(FIRST), Some(SECOND), None]);
        assert_eq!(History::default().began(1), None);
    }

    #[test]
    fn timelines_of_one_number_part_where_the_first_of_them_began() {
        let history = History::parse(3, CONTENT);
        let other = Some(Lsn(FIRST.0 + 8));
        assert_eq!(history.parts_from(1, None), Some(FIRST));
        assert_eq!(history.parts_from(2, Some(FIRST)), Some(SECOND));
        assert_eq!(
            history.parts_from(2, None),
            Some(SECOND),
            "of a state that doesn't know"
        );
        assert_eq!(history.parts_from(2, other), Some(FIRST), "another one's second");
        assert_eq!(history.parts_from(3, Some(SECOND)), None, "it is on it");
        assert_eq!(history.parts_from(3, None), None);
        assert_eq!(history.parts_from(3, Some(FIRST)), Some(FIRST));
        assert_eq!(history.parts_from(4, Some(SECOND)), None);
    }
}
