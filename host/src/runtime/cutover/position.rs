//! How two sequences stand to each other, and where one is set to. No database here.

/// Where a sequence is: `last_value` and `is_called`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub last: i64,
    /// Whether `last` was handed out; else it is the value to come.
    pub called: bool,
}

/// How a sequence counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    pub increment: i64,
    pub min: i64,
    pub max: i64,
    pub cycles: bool,
}

/// Why a sequence can't stand where another one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// The position is none of its values.
    Range,
    /// One counts up, the other down.
    Direction,
}

impl Position {
    /// The value to come, at a sequence that doesn't cycle.
    fn next(self, rules: &Rules) -> i128 {
        i128::from(self.last) + if self.called { i128::from(rules.increment) } else { 0 }
    }

    /// The value to come; `None` where there is none any more.
    pub fn next_value(self, rules: &Rules) -> Option<i64> {
        match i64::try_from(self.next(rules)).ok().filter(|next| rules.has(*next)) {
            None if rules.cycles => Some(rules.first()),
            next => next,
        }
    }
}

impl Rules {
    fn has(&self, value: i64) -> bool {
        (self.min..=self.max).contains(&value)
    }

    fn sign(&self) -> i128 {
        i128::from(self.increment.signum())
    }

    /// Where a cycle begins.
    fn first(&self) -> i64 {
        if self.increment > 0 { self.min } else { self.max }
    }

    /// Whether `there` comes later than `here`. In a cycle there is no later: the shorter way round tells.
    pub fn is_behind(&self, here: Position, there: Position) -> bool {
        let ahead = (there.next(self) - here.next(self)) * self.sign();
        if !self.cycles {
            return ahead > 0;
        }
        let length = i128::from(self.max) - i128::from(self.min) + 1;
        let ahead = ahead.rem_euclid(length);
        ahead > 0 && ahead <= length / 2
    }

    /// The position `margin` values behind `source`, and whether the margin was left out for want of room.
    ///
    /// # Errors
    /// A sequence that can't stand there at all.
    pub fn goal(&self, source: Position, of_source: &Rules, margin: u32) -> Result<(Position, bool), Unfit> {
        if self.sign() != of_source.sign() {
            return Err(Unfit::Direction);
        }
        if !self.has(source.last) {
            return Err(Unfit::Range);
        }
        let last = i128::from(source.last) + i128::from(margin) * i128::from(self.increment);
        // The value behind it has to be there too, or nothing could be inserted.
        let with_margin = i64::try_from(last).ok().map(|last| Position { last, ..source });
        let fits = |at: &Position| self.has(at.last) && i64::try_from(at.next(self)).is_ok_and(|next| self.has(next));
        match with_margin.filter(fits) {
            Some(goal) => Ok((goal, false)),
            None => Ok((source, margin > 0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: Rules = Rules {
        increment: 1,
        min: 1,
        max: 1000,
        cycles: false,
    };

    fn at(last: i64) -> Position {
        Position { last, called: true }
    }

    #[test]
    fn a_fresh_sequence_is_behind_one_that_was_used_once() {
        let fresh = Position { last: 1, called: false };
        assert!(UP.is_behind(fresh, at(1)));
        assert!(!UP.is_behind(at(1), fresh));
        assert!(!UP.is_behind(at(1), at(1)));
        // Not called at 2 and called at 1 come to the same.
        assert!(!UP.is_behind(Position { last: 2, called: false }, at(1)));
        assert_eq!(UP.goal(fresh, &UP, 0), Ok((fresh, false)));
        assert_eq!(fresh.next_value(&UP), Some(1));
    }

    #[test]
    fn a_sequence_that_counts_down_is_behind_above() {
        let down = Rules {
            increment: -5,
            min: -1000,
            max: -1,
            cycles: false,
        };
        assert!(down.is_behind(at(-100), at(-105)));
        assert!(!down.is_behind(at(-105), at(-100)));
        assert_eq!(down.goal(at(-105), &down, 10), Ok((at(-155), false)));
        assert_eq!(down.goal(at(-105), &UP, 0), Err(Unfit::Direction));
    }

    #[test]
    fn a_margin_counts_values_and_is_left_out_at_the_end() {
        let tens = Rules { increment: 10, ..UP };
        assert_eq!(tens.goal(at(100), &tens, 5), Ok((at(150), false)));
        assert_eq!(UP.goal(at(999), &UP, 5), Ok((at(999), true)));
        assert_eq!(UP.goal(at(1000), &UP, 0), Ok((at(1000), false)));
        assert_eq!(at(1000).next_value(&UP), None);
        let all = Rules { max: i64::MAX, ..UP };
        assert_eq!(all.goal(at(i64::MAX), &all, u32::MAX), Ok((at(i64::MAX), true)));
        assert_eq!(UP.goal(at(5000), &all, 0), Err(Unfit::Range));
    }

    #[test]
    fn a_cycle_is_compared_by_the_shorter_way_round() {
        let cycle = Rules { cycles: true, ..UP };
        assert!(cycle.is_behind(at(990), at(5)));
        assert!(!cycle.is_behind(at(5), at(990)));
        assert!(cycle.is_behind(at(5), at(400)));
        // The last value is called: the first one comes.
        assert_eq!(at(1000).next_value(&cycle), Some(1));
        assert!(!cycle.is_behind(at(1000), Position { last: 1, called: false }));
        let all = Rules {
            increment: 1,
            min: i64::MIN,
            max: i64::MAX,
            cycles: true,
        };
        assert!(all.is_behind(at(i64::MAX - 1), at(i64::MIN)));
    }
}
