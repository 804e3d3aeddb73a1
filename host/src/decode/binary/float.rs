//! Floats as Postgres writes them where `extra_float_digits` is above 0: d2s.c and f2s.c.
//!
//! Those write the shortest decimal that lies *between* the middles to the neighbours. The usual algorithms also take a
//! middle itself where reading rounds it to this float (`1e23`); that is told apart here.

use super::number::{int, zeros};

/// A float as a whole number times a power of two, and what its text looks like.
struct Parts {
    mantissa: u64,
    exponent: i32,
    /// Whether the float below is only half as far as the one above.
    is_at_step: bool,
    /// From this power of ten on it has an exponent.
    exponent_from: i32,
}

/// Digits times a power of ten.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Decimal {
    digits: u64,
    exponent: i32,
}

pub(crate) fn write_f64(value: f64, out: &mut Vec<u8>) {
    let bits = value.to_bits();
    let (biased, fraction) = ((bits >> 52 & 0x7FF) as i32, bits & ((1 << 52) - 1));
    let parts = Parts {
        mantissa: if biased == 0 { fraction } else { fraction | 1 << 52 },
        exponent: biased.max(1) - 1075,
        is_at_step: fraction == 0 && biased > 1,
        exponent_from: 15,
    };
    write(
        value.is_sign_negative(),
        value.is_nan(),
        biased == 0x7FF,
        &parts,
        out,
        || {
            let shortest = read(zmij::Buffer::new().format_finite(value.abs()));
            parts.within(
                shortest,
                |decimals| read(&format!("{:.*e}", decimals, value.abs())),
                |decimal| format!("{}e{}", decimal.digits, decimal.exponent).parse() == Ok(value.abs()),
            )
        },
    );
}

pub(crate) fn write_f32(value: f32, out: &mut Vec<u8>) {
    let bits = value.to_bits();
    let (biased, fraction) = ((bits >> 23 & 0xFF) as i32, u64::from(bits & ((1 << 23) - 1)));
    let parts = Parts {
        mantissa: if biased == 0 { fraction } else { fraction | 1 << 23 },
        exponent: biased.max(1) - 150,
        is_at_step: fraction == 0 && biased > 1,
        exponent_from: 6,
    };
    write(
        value.is_sign_negative(),
        value.is_nan(),
        biased == 0xFF,
        &parts,
        out,
        || {
            let shortest = read(zmij::Buffer::new().format_finite(value.abs()));
            parts.within(
                shortest,
                |decimals| read(&format!("{:.*e}", decimals, value.abs())),
                |decimal| format!("{}e{}", decimal.digits, decimal.exponent).parse() == Ok(value.abs()),
            )
        },
    );
}

fn write(
    negative: bool,
    nan: bool,
    special: bool,
    parts: &Parts,
    out: &mut Vec<u8>,
    shortest: impl FnOnce() -> Decimal,
) {
    if nan {
        return out.extend_from_slice(b"NaN");
    }
    if negative {
        out.push(b'-');
    }
    if special {
        return out.extend_from_slice(b"Infinity");
    }
    if parts.mantissa == 0 {
        return out.push(b'0');
    }
    spell(shortest(), parts.exponent_from, out);
}

fn spell(decimal: Decimal, exponent_from: i32, out: &mut Vec<u8>) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(decimal.digits).as_bytes();
    // The power of ten of the first digit.
    let power = decimal.exponent + digits.len() as i32 - 1;
    if power < -4 || power >= exponent_from {
        out.push(digits[0]);
        if digits.len() > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        out.extend_from_slice(if power < 0 { b"e-" } else { b"e+" });
        super::number::padded(u64::from(power.unsigned_abs()), 2, out);
    } else if power < 0 {
        out.extend_from_slice(b"0.");
        zeros((-power - 1) as usize, out);
        out.extend_from_slice(digits);
    } else if decimal.exponent >= 0 {
        int(decimal.digits, out);
        zeros(decimal.exponent as usize, out);
    } else {
        let (whole, behind) = digits.split_at(power as usize + 1);
        out.extend_from_slice(whole);
        out.push(b'.');
        out.extend_from_slice(behind);
    }
}

/// Of `12.5`, `1e23`, `1.25e-7`: without zeros at its end.
fn read(text: &str) -> Decimal {
    let (number, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let mut exponent: i32 = exponent.parse().unwrap_or(0);
    let (mut digits, mut behind_point) = (0_u64, false);
    for byte in number.bytes() {
        match byte {
            b'0'..=b'9' => {
                digits = digits.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
                exponent -= i32::from(behind_point);
            }
            _ => behind_point = true,
        }
    }
    while digits != 0 && digits.is_multiple_of(10) {
        digits /= 10;
        exponent += 1;
    }
    Decimal { digits, exponent }
}

impl Parts {
    /// `shortest`, or where that is a middle the shortest that isn't. `rounded` is the float with so many decimals behind
    /// the first digit, `reads_as_it` whether a decimal is read as the float.
    fn within(
        &self,
        shortest: Decimal,
        rounded: impl Fn(usize) -> Decimal,
        reads_as_it: impl Fn(Decimal) -> bool,
    ) -> Decimal {
        if !self.mantissa.is_multiple_of(2) || !self.is_middle(shortest) {
            return shortest;
        }
        let length = |decimal: Decimal| itoa::Buffer::new().format(decimal.digits).len();
        for decimals in length(shortest) - 1..17 {
            let nearest = rounded(decimals);
            // As many digits as were asked for, those that are zero too.
            let missing = (decimals + 1).saturating_sub(length(nearest)) as u32;
            let digits = nearest.digits.saturating_mul(10_u64.saturating_pow(missing));
            let exponent = nearest.exponent - missing as i32;
            for digits in [digits, digits - 1, digits + 1] {
                let decimal = Decimal { digits, exponent };
                if reads_as_it(decimal) && !self.is_middle(decimal) {
                    return trimmed(decimal);
                }
            }
        }
        shortest
    }

    fn is_middle(&self, decimal: Decimal) -> bool {
        let above = 4 * self.mantissa + 2;
        let below = 4 * self.mantissa - if self.is_at_step { 1 } else { 2 };
        [above, below]
            .into_iter()
            .any(|middle| is_equal(decimal, middle, self.exponent - 2))
    }
}

fn trimmed(mut decimal: Decimal) -> Decimal {
    while decimal.digits != 0 && decimal.digits.is_multiple_of(10) {
        decimal.digits /= 10;
        decimal.exponent += 1;
    }
    decimal
}

/// Whether a decimal is `number` times two to the `exponent`. Beyond 27 powers of ten it can't be: one of the two has
/// fewer bits than so many factors of five need.
fn is_equal(decimal: Decimal, number: u64, exponent: i32) -> bool {
    if decimal.exponent.abs() > 27 {
        return false;
    }
    let fives = 5_u128.pow(decimal.exponent.unsigned_abs());
    let (mut left, mut right) = (u128::from(decimal.digits), u128::from(number));
    match decimal.exponent >= 0 {
        true => left *= fives,
        false => right *= fives,
    }
    let twos = |number: u128| number.trailing_zeros() as i32;
    let (left_twos, right_twos) = (twos(left), twos(right));
    left >> left_twos == right >> right_twos && left_twos + decimal.exponent == right_twos + exponent
}
