use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

/// A decimal number to calculate with: an integer of up to 38 digits and the place of its point. Exact, or `None`. Compared
/// by value, as Postgres does: 1.0 is 1.00.
///
/// ```
/// use rowmill_plugin::postgres::Decimal;
///
/// let total = Decimal::new(1_250, 2).checked_add(Decimal::new(5, 1)).unwrap();
/// assert_eq!(total.to_string(), "13.00");
/// assert!(total == Decimal::new(13, 0) && total < Decimal::new(131, 1));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Decimal {
    unscaled: i128,
    scale: u32,
}

impl Decimal {
    /// `unscaled` divided by ten to the power of `scale`.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::Decimal;
    /// assert_eq!(Decimal::new(-5, 2).to_string(), "-0.05");
    /// ```
    pub const fn new(unscaled: i128, scale: u32) -> Self {
        Self { unscaled, scale }
    }

    /// All digits as an integer.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::Decimal;
    /// assert_eq!(Decimal::new(1_250, 2).unscaled(), 1_250);
    /// ```
    pub const fn unscaled(self) -> i128 {
        self.unscaled
    }

    /// Digits behind the point.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::Decimal;
    /// assert_eq!(Decimal::new(1_250, 2).scale(), 2);
    /// ```
    pub const fn scale(self) -> u32 {
        self.scale
    }

    /// The sum, with the larger scale, as Postgres has it; `None` where it is too large.
    ///
    /// ```
    /// # use rowmill_plugin::postgres::Decimal;
    /// let sum = Decimal::new(1, 0).checked_add(Decimal::new(25, 2));
    /// assert_eq!(sum, Some(Decimal::new(125, 2)));
    /// ```
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let scale = self.scale.max(other.scale);
        let unscaled = self.at(scale)?.checked_add(other.at(scale)?)?;
        Some(Self { unscaled, scale })
    }

    /// The difference, as [`checked_add`](Self::checked_add).
    ///
    /// ```
    /// # use rowmill_plugin::postgres::Decimal;
    /// let rest = Decimal::new(1, 0).checked_sub(Decimal::new(25, 2));
    /// assert_eq!(rest, Some(Decimal::new(75, 2)));
    /// ```
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        let unscaled = other.unscaled.checked_neg()?;
        self.checked_add(Self { unscaled, ..other })
    }

    fn at(self, scale: u32) -> Option<i128> {
        if self.unscaled == 0 {
            return Some(0);
        }
        let power = 10i128.checked_pow(scale - self.scale)?;
        self.unscaled.checked_mul(power)
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.unscaled < 0 { "-" } else { "" };
        let (digits, scale) = (self.unscaled.unsigned_abs().to_string(), self.scale as usize);
        if scale == 0 {
            return write!(f, "{sign}{digits}");
        }
        if let Some(whole @ 1..) = digits.len().checked_sub(scale) {
            let (whole, fraction) = digits.split_at(whole);
            return write!(f, "{sign}{whole}.{fraction}");
        }
        // A zero for each place before the first digit. No width of a format: those end at 65,535.
        write!(f, "{sign}0.")?;
        (digits.len()..scale).try_for_each(|_| f.write_str("0"))?;
        f.write_str(&digits)
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let scale = self.scale.max(other.scale);
        match (self.at(scale), other.at(scale)) {
            (Some(mine), Some(theirs)) => mine.cmp(&theirs),
            // Beyond 38 digits at a scale at which the other, which has it already, is not.
            (None, _) => self.unscaled.cmp(&0),
            (_, None) => 0i128.cmp(&other.unscaled),
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Decimal {}

impl Hash for Decimal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self {
            mut unscaled,
            mut scale,
        } = *self;
        while unscaled % 10 == 0 && scale > 0 && unscaled != 0 {
            (unscaled, scale) = (unscaled / 10, scale - 1);
        }
        (unscaled, if unscaled == 0 { 0 } else { scale }).hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn equal_values_are_equal_whatever_their_scale() {
        let ordered = [
            Decimal::new(i128::MIN, 0),
            Decimal::new(i128::MIN, 1),
            Decimal::new(-10, 1),
            Decimal::new(-1, 40),
            Decimal::new(0, 0),
            Decimal::new(1, 70_000),
            Decimal::new(1, 40),
            Decimal::new(100, 2),
            Decimal::new(101, 2),
            Decimal::new(i128::MAX, 1),
            Decimal::new(i128::MAX, 0),
        ];
        for (at, one) in ordered.iter().enumerate() {
            for (other_at, other) in ordered.iter().enumerate() {
                assert_eq!(one.cmp(other), at.cmp(&other_at), "{one:?} {other:?}");
            }
        }
        let equal =
            [(1, 0), (10, 1), (1_000, 3), (10i128.pow(38), 38)].map(|(value, scale)| Decimal::new(value, scale));
        assert!(equal.iter().all(|one| *one == equal[0]));
        assert_eq!(HashSet::from(equal).len(), 1);
        let zeros = [0, 1, 50, u32::MAX].map(|scale| Decimal::new(0, scale));
        assert_eq!(HashSet::from(zeros).len(), 1);
        assert_eq!(
            zeros[2]
                .checked_add(Decimal::new(1, 0))
                .map(|sum| sum == Decimal::new(1, 0)),
            None
        );
        assert_eq!(zeros[2].checked_add(Decimal::new(0, 1)), Some(zeros[0]));
    }

    /// As many places as a text may have that a column holds.
    #[test]
    fn a_number_of_many_places_is_written() {
        for scale in [1, 2, 3, 4, 100, 65_534, 65_535, 65_536, 100_000] {
            let zeros = "0".repeat((scale as usize).saturating_sub(2));
            let expected = match scale {
                1 => "1.2".to_owned(),
                scale => format!("0.{}12", &zeros[..scale as usize - 2]),
            };
            assert_eq!(Decimal::new(12, scale).to_string(), expected);
            assert_eq!(Decimal::new(-12, scale).to_string(), format!("-{expected}"));
        }
    }
}
