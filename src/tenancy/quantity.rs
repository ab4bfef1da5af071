//! Sizes, durations and shares as people write them in manifests, held as integers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A number of bytes. Written with a binary unit (`512Mi`, `2Gi`, `1Ti`) or as plain bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

/// A span of time in milliseconds. Written as `500ms`, `5s`, `30m`, `2h`, `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

/// A share in whole percent, 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Percent(pub u8);

/// `1 tenant`, `2 tenants`, `0 tenants`.
pub fn counted(count: impl TryInto<u64>, thing: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// What is wrong with a quantity; completes "`2Gb` …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadQuantity {
    #[error("has no number in front of its unit")]
    NoNumber,
    #[error("has the unknown unit `{unit}`; use one of {known}")]
    Unit { unit: String, known: &'static str },
    #[error("is too large")]
    TooLarge,
    #[error("must be a whole number from 0% to 100%")]
    Percent,
}

const BYTE_UNITS: [(&str, u64); 5] = [("Ti", 1 << 40), ("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10), ("", 1)];
const TIME_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

fn parse_scaled(text: &str, units: &[(&str, u64)], known: &'static str) -> Result<u64, BadQuantity> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(BadQuantity::NoNumber);
    }
    let number: u64 = number.parse().map_err(|_| BadQuantity::TooLarge)?;
    let Some((_, scale)) = units.iter().find(|(name, _)| *name == unit) else {
        return Err(BadQuantity::Unit { unit: unit.to_owned(), known });
    };
    // A signed 64-bit column holds it later.
    number.checked_mul(*scale).filter(|n| i64::try_from(*n).is_ok()).ok_or(BadQuantity::TooLarge)
}

fn show_scaled(f: &mut fmt::Formatter<'_>, value: u64, units: &[(&str, u64)], zero: &str) -> fmt::Result {
    let unit = units.iter().find(|(_, scale)| value != 0 && value.is_multiple_of(*scale));
    match unit {
        Some((name, scale)) => write!(f, "{}{name}", value / scale),
        None => f.write_str(zero),
    }
}

impl Bytes {
    pub fn parse(text: &str) -> Result<Bytes, BadQuantity> {
        parse_scaled(text, &BYTE_UNITS, "Ki, Mi, Gi, Ti (or plain bytes)").map(Bytes)
    }

    pub fn mebibytes(self) -> u64 {
        self.0 >> 20
    }
}

impl Millis {
    pub fn parse(text: &str) -> Result<Millis, BadQuantity> {
        parse_scaled(text, &TIME_UNITS, "ms, s, m, h, d").map(Millis)
    }
}

impl Percent {
    pub fn parse(text: &str) -> Result<Percent, BadQuantity> {
        let number = text.strip_suffix('%').ok_or(BadQuantity::Percent)?;
        let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        match number.parse::<u8>() {
            Ok(n) if plain && n <= 100 => Ok(Percent(n)),
            _ => Err(BadQuantity::Percent),
        }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show_scaled(f, self.0, &BYTE_UNITS, "0")
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show_scaled(f, self.0, &TIME_UNITS, "0s")
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written_in_the_largest_unit_that_divides_them() {
        for (text, bytes) in [("10Gi", 10 << 30), ("512Mi", 512 << 20), ("1500", 1500), ("0", 0)] {
            assert_eq!(Bytes::parse(text), Ok(Bytes(bytes)));
            assert_eq!(Bytes(bytes).to_string(), text);
        }
        assert_eq!(Bytes(2048 << 20).to_string(), "2Gi");
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["", "Gi", "-1Gi", "1.5Gi", "2GB", "2 Gi", "99999999999Ti", "18446744073709551616"] {
            assert!(Bytes::parse(bad).is_err(), "{bad}");
        }
        for bad in ["", "5", "5 s", "-5s", "5min", "1h30m"] {
            assert!(Millis::parse(bad).is_err(), "{bad}");
        }
        for bad in ["", "%", "101%", "-1%", "+1%", "1.5%", "10"] {
            assert!(Percent::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_are_read_and_written() {
        for (text, ms) in [("5s", 5_000), ("30m", 1_800_000), ("500ms", 500), ("7d", 604_800_000)] {
            assert_eq!(Millis::parse(text), Ok(Millis(ms)));
            assert_eq!(Millis(ms).to_string(), text);
        }
    }
}
