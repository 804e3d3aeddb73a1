use std::fmt;

/// A decimal number to calculate with: an integer of up to 38 digits and the place of its point. Exact, or `None`.
///
/// ```
/// use rowmill_plugin::postgres::Decimal;
///
/// let total = Decimal::new(1_250, 2).checked_add(Decimal::new(5, 1)).unwrap();
/// assert_eq!(total.to_string(), "13.00");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
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
        let power = 10i128.checked_pow(scale - self.scale)?;
        self.unscaled.checked_mul(power)
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The size with a zero for each place before the first digit, and the point among its digits.
        let sign = if self.unscaled < 0 { "-" } else { "" };
        let (size, scale) = (self.unscaled.unsigned_abs(), self.scale as usize);
        if scale == 0 {
            return write!(f, "{sign}{size}");
        }
        let digits = format!("{size:0width$}", width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        write!(f, "{sign}{whole}.{fraction}")
    }
}
