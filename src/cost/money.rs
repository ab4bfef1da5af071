//! Money as an integer number of nano-dollars.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, Neg, Sub};

use serde::{Deserialize, Serialize};

/// 10^-9 US dollars; never a float. `Display` rounds half away from zero to cents, for people.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nanos(pub i128);

impl Nanos {
    pub const CENT: i128 = 10_000_000;
    pub const DOLLAR: i128 = 1_000_000_000;

    pub fn dollars(dollars: i128) -> Nanos {
        Nanos(dollars * Self::DOLLAR)
    }

    /// `+$4.05`, `-$0.10`, `+$0.00`: a difference.
    pub fn signed(self) -> String {
        if self.0 < 0 { self.to_string() } else { format!("+{self}") }
    }
}

impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cents = (self.0.abs() + Self::CENT / 2) / Self::CENT;
        let sign = if self.0 < 0 && cents > 0 { "-" } else { "" };
        write!(f, "{sign}${}.{:02}", cents / 100, cents % 100)
    }
}

impl Add for Nanos {
    type Output = Nanos;
    fn add(self, other: Nanos) -> Nanos {
        Nanos(self.0 + other.0)
    }
}

impl Sub for Nanos {
    type Output = Nanos;
    fn sub(self, other: Nanos) -> Nanos {
        Nanos(self.0 - other.0)
    }
}

impl Neg for Nanos {
    type Output = Nanos;
    fn neg(self) -> Nanos {
        Nanos(-self.0)
    }
}

impl Sum for Nanos {
    fn sum<I: Iterator<Item = Nanos>>(parts: I) -> Nanos {
        parts.fold(Nanos(0), Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cents_are_rounded_half_away_from_zero() {
        for (nanos, text) in [
            (4_050_000_000, "$4.05"),
            (5_000_000, "$0.01"),
            (4_999_999, "$0.00"),
            (-5_000_000, "-$0.01"),
            (-4_999_999, "$0.00"),
            (1_234_560_000_000, "$1234.56"),
        ] {
            assert_eq!(Nanos(nanos).to_string(), text);
        }
        assert_eq!(Nanos(0).signed(), "+$0.00");
    }
}
