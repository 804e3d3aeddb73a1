//! Postgres' types beyond integers, floats, booleans, text and bytes, read from Postgres' own text without loss and,
//! where they borrow from the batch, without allocation. What a plugin doesn't use isn't in its module.
//!
//! [`Row::get`](crate::Row::get) reads any of them, and each has an accessor of its own:
//!
//! | Postgres | here | accessor |
//! | --- | --- | --- |
//! | uuid | [`Uuid`] | [`Row::uuid`](crate::Row::uuid) |
//! | date | [`Date`] | [`Row::date`](crate::Row::date) |
//! | time, time with time zone | [`Time`], [`TimeTz`] | [`Row::time`](crate::Row::time), [`Row::time_tz`](crate::Row::time_tz) |
//! | timestamp, timestamptz | [`Timestamp`], [`TimestampTz`] | [`Row::timestamp`](crate::Row::timestamp), [`Row::timestamp_tz`](crate::Row::timestamp_tz) |
//! | interval | [`Interval`] | [`Row::interval`](crate::Row::interval) |
//! | numeric | [`Numeric`], [`Decimal`] | [`Row::numeric`](crate::Row::numeric) |
//! | json, jsonb | [`Json`] | [`Row::json`](crate::Row::json) |
//! | any array | [`Array`] | [`Row::array`](crate::Row::array) |
//! | any range | [`Range`] | [`Row::range`](crate::Row::range) |
//!
//! The text forms are those of the settings that Rowmill gives its sessions: `DateStyle` ISO, `IntervalStyle`
//! postgres. What is infinite is so, and what Postgres can hold has a place: years BC, 24:00, NaN.

mod array;
mod date;
mod decimal;
mod interval;
mod json;
mod numeric;
mod quoted;
mod range;
mod scan;
mod time;
mod timestamp;
mod uuid;

use crate::{Column, ascii};

pub use array::{Array, Dimension, Element, Elements};
pub use date::Date;
pub use decimal::Decimal;
pub use interval::Interval;
pub use json::{Items, Json, JsonKind, Members};
pub use numeric::Numeric;
pub use range::{Bound, Range};
pub use time::{Time, TimeTz};
pub use timestamp::{Timestamp, TimestampTz};
pub use uuid::Uuid;

/// What can be read from Postgres' text. Implement it for types of your own, such as an enum.
///
/// ```
/// use rowmill_plugin::postgres::FromText;
///
/// #[derive(Debug, PartialEq)]
/// enum Status { Open, Paid }
///
/// impl FromText<'_> for Status {
///     const WANTED: &'static str = "an order's status";
///
///     fn from_text(text: &str) -> Option<Self> {
///         match text {
///             "open" => Some(Self::Open),
///             "paid" => Some(Self::Paid),
///             _ => None,
///         }
///     }
/// }
///
/// # use rowmill_plugin::prelude::*;
/// fn is_paid(row: &Row) -> Result<bool> {
///     Ok(row.get("status")? == Some(Status::Paid))
/// }
/// assert_eq!(Status::from_text("paid"), Some(Status::Paid));
/// ```
pub trait FromText<'a>: Sized {
    /// What was expected, for the error of a value that isn't: "column born is not a date".
    const WANTED: &'static str;

    /// The value; `None` where the text isn't one.
    ///
    /// ```
    /// use rowmill_plugin::postgres::{Date, FromText};
    ///
    /// assert_eq!(Date::from_text("2024-02-29").unwrap().to_string(), "2024-02-29");
    /// assert_eq!(Date::from_text("yesterday"), None);
    /// ```
    fn from_text(text: &'a str) -> Option<Self>;

    /// The value of a text that may hold anything; for types that need no check of it beside their own.
    #[doc(hidden)]
    #[inline]
    fn from_bytes(text: &'a [u8]) -> Option<Self> {
        ascii::text(text).and_then(Self::from_text)
    }

    /// The same of a text that the first `len` bytes are, less than all: quicker where a fixed number of bytes is read.
    #[doc(hidden)]
    #[inline]
    fn from_block(text: &'a [u8; 32], len: usize) -> Option<Self> {
        Self::from_bytes(text.get(..len)?)
    }

    /// The value of a text that stands in this column; for types that are written in more than one way.
    #[doc(hidden)]
    fn from_column(text: &'a str, column: &Column) -> Option<Self> {
        let _ = column;
        Self::from_text(text)
    }

    /// The value of an integer column, which comes as a number; `None`, as where nothing is written here, for types
    /// that aren't read from integers.
    ///
    /// ```
    /// use rowmill_plugin::postgres::FromText;
    ///
    /// /// An id that is never negative, of a bigint or of a text.
    /// struct Id(u64);
    ///
    /// impl FromText<'_> for Id {
    ///     const WANTED: &'static str = "an id";
    ///
    ///     fn from_text(text: &str) -> Option<Self> {
    ///         text.parse().ok().map(Self)
    ///     }
    ///
    ///     fn from_int(value: i64) -> Option<Self> {
    ///         value.try_into().ok().map(Self)
    ///     }
    /// }
    ///
    /// assert_eq!(Id::from_int(7).unwrap().0, 7);
    /// assert!(Id::from_int(-7).is_none());
    /// ```
    fn from_int(value: i64) -> Option<Self> {
        let _ = value;
        None
    }

    /// The value of a float column, as [`from_int`](Self::from_int).
    ///
    /// ```
    /// use rowmill_plugin::postgres::FromText;
    ///
    /// /// Whole percents of a share, of a double precision or of a numeric.
    /// struct Percent(i64);
    ///
    /// impl FromText<'_> for Percent {
    ///     const WANTED: &'static str = "a share between 0 and 1";
    ///
    ///     fn from_text(text: &str) -> Option<Self> {
    ///         text.parse().ok().and_then(Self::from_float)
    ///     }
    ///
    ///     fn from_float(share: f64) -> Option<Self> {
    ///         (0.0..=1.0).contains(&share).then(|| Self((100.0 * share).round() as i64))
    ///     }
    /// }
    ///
    /// assert_eq!(Percent::from_float(0.25).unwrap().0, 25);
    /// assert!(Percent::from_float(f64::NAN).is_none());
    /// ```
    fn from_float(value: f64) -> Option<Self> {
        let _ = value;
        None
    }

    /// The value of a boolean column, as [`from_int`](Self::from_int).
    ///
    /// ```
    /// use rowmill_plugin::postgres::FromText;
    ///
    /// #[derive(Debug, PartialEq)]
    /// enum Consent { Given, Refused }
    ///
    /// impl FromText<'_> for Consent {
    ///     const WANTED: &'static str = "a consent";
    ///
    ///     fn from_text(text: &str) -> Option<Self> {
    ///         match text {
    ///             "given" => Some(Self::Given),
    ///             "refused" => Some(Self::Refused),
    ///             _ => None,
    ///         }
    ///     }
    ///
    ///     fn from_bool(value: bool) -> Option<Self> {
    ///         Some(if value { Self::Given } else { Self::Refused })
    ///     }
    /// }
    ///
    /// assert_eq!(Consent::from_bool(true), Some(Consent::Given));
    /// assert_eq!(i64::from_bool(true), None);
    /// ```
    fn from_bool(value: bool) -> Option<Self> {
        let _ = value;
        None
    }
}

impl<'a> FromText<'a> for &'a str {
    const WANTED: &'static str = "text";

    fn from_text(text: &'a str) -> Option<Self> {
        Some(text)
    }
}

macro_rules! integer {
    ($($type:ty: $wanted:literal),*) => {$(
        impl FromText<'_> for $type {
            const WANTED: &'static str = $wanted;

            fn from_text(text: &str) -> Option<Self> {
                text.parse().ok()
            }

            fn from_int(value: i64) -> Option<Self> {
                value.try_into().ok()
            }
        }
    )*};
}

integer! { i16: "a smallint", i32: "an integer", i64: "a bigint", i128: "an integer" }

macro_rules! float {
    ($($type:ty: $wanted:literal),*) => {$(
        impl FromText<'_> for $type {
            const WANTED: &'static str = $wanted;

            fn from_text(text: &str) -> Option<Self> {
                text.parse().ok()
            }

            fn from_int(value: i64) -> Option<Self> {
                Some(value as $type)
            }

            fn from_float(value: f64) -> Option<Self> {
                Some(value as $type)
            }
        }
    )*};
}

float! { f32: "a real", f64: "a number" }

impl FromText<'_> for bool {
    const WANTED: &'static str = "a boolean";

    fn from_text(text: &str) -> Option<Self> {
        match text {
            "t" | "true" => Some(true),
            "f" | "false" => Some(false),
            _ => None,
        }
    }

    fn from_bool(value: bool) -> Option<Self> {
        Some(value)
    }
}

/// Writes values that have a text form of Postgres' into patches.
macro_rules! to_value_by_display {
    ($($type:ty),*) => {$(
        impl $crate::ToValue for $type {
            fn write(self, out: &mut rowmill_abi::Writer) {
                out.display(&self);
            }
        }
    )*};
}

to_value_by_display! { Date, Decimal, Interval, Time, TimeTz, Timestamp, TimestampTz, Uuid }

impl crate::ToValue for Numeric<'_> {
    fn write(self, out: &mut rowmill_abi::Writer) {
        out.str(self.as_str());
    }
}

impl crate::ToValue for Json<'_> {
    fn write(self, out: &mut rowmill_abi::Writer) {
        out.str(self.as_str());
    }
}
