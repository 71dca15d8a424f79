//! What an operator changes of the limits of a profile: the settings `LIMITS_*`, such as
//! `memory=2GiB,cpu=60s,deadline=5m,output=32MiB`. Pure parsing with words that say what is wrong; called by clap through
//! [`FromStr`] and by [`super::Limits`], which knows the defaults.

use std::str::FromStr;
use std::time::Duration;

/// Longest time that may be set: a week.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
/// Most bytes that may be set: a pebibyte.
const MOST_BYTES: u64 = 1 << 50;
/// Least memory: with less, a distribution's ffprobe does not even start.
const LEAST_MEMORY: u64 = 64 << 20;

/// The units of sizes, longer names first.
const SIZES: [(&str, u64); 7] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];
/// The units of times.
const TIMES: [(&str, u64); 3] = [("s", 1), ("m", 60), ("h", 3600)];

/// Changes for one profile. What is none stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Override {
    /// Address space, in bytes.
    pub memory: Option<u64>,
    /// Processor time.
    pub cpu: Option<Duration>,
    /// Wall-clock time; for scans, the part that does not depend on the input's size.
    pub deadline: Option<Duration>,
    /// Standard output, in bytes.
    pub output: Option<u64>,
    /// Bytes a second that the deadline of a scan allows for.
    pub rate: Option<u64>,
}

/// Changes for each profile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Of `quick`.
    pub quick: Override,
    /// Of `standard`.
    pub standard: Override,
    /// Of `packets`.
    pub packets: Override,
    /// Of `frames`.
    pub frames: Override,
}

impl Overrides {
    /// By the profile's word.
    pub(super) fn of(&self, profile: &str) -> Override {
        match profile {
            "quick" => self.quick,
            "packets" => self.packets,
            "frames" => self.frames,
            _ => self.standard,
        }
    }
}

impl FromStr for Override {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut changed = Self::default();
        for part in text.split(',').map(str::trim) {
            let (name, value) =
                part.split_once('=').ok_or_else(|| format!("'{part}' is not NAME=VALUE, such as memory=2GiB"))?;
            let (name, value) = (name.trim(), value.trim());
            let is_new = match name {
                "memory" => changed.memory.replace(size(name, value, LEAST_MEMORY)?).is_none(),
                "output" => changed.output.replace(size(name, value, 1)?).is_none(),
                "rate" => changed.rate.replace(size(name, value, 1)?).is_none(),
                "cpu" => changed.cpu.replace(time(name, value)?).is_none(),
                "deadline" => changed.deadline.replace(time(name, value)?).is_none(),
                _ => return Err(format!("'{name}' is no limit; there are memory, cpu, deadline, output and rate")),
            };
            if !is_new {
                return Err(format!("{name} is there twice"));
            }
        }
        Ok(changed)
    }
}

fn size(name: &str, value: &str, least: u64) -> Result<u64, String> {
    let bytes = number(value, &SIZES).ok_or_else(|| format!("'{value}' is no size; write 512MiB, 2GiB or 20MB"))?;
    if !(least..=MOST_BYTES).contains(&bytes) {
        return Err(format!("{name} must be between {least} and {MOST_BYTES} bytes"));
    }
    Ok(bytes)
}

fn time(name: &str, value: &str) -> Result<Duration, String> {
    let seconds = number(value, &TIMES).ok_or_else(|| format!("'{value}' is no time; write 90s, 10m or 2h"))?;
    if !(1..=LONGEST.as_secs()).contains(&seconds) {
        return Err(format!("{name} must be between 1 second and a week"));
    }
    Ok(Duration::from_secs(seconds))
}

/// A whole number and its unit, multiplied.
fn number(value: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (digits, unit) = units.iter().find_map(|(name, unit)| Some((value.strip_suffix(name)?, unit)))?;
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(*unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_units_are_read() {
        let seconds = |n| Some(Duration::from_secs(n));
        let all: Override = "memory=2GiB, cpu=60s,deadline=10m,output=32MiB,rate=20MB".parse().unwrap();
        let expected = Override {
            memory: Some(2 << 30),
            cpu: seconds(60),
            deadline: seconds(600),
            output: Some(32 << 20),
            rate: Some(20_000_000),
        };
        assert_eq!(all, expected);
        let one: Override = "deadline=2h".parse().unwrap();
        assert_eq!(one, Override { deadline: seconds(7200), ..Override::default() });
        assert_eq!("output=1000B".parse::<Override>().unwrap().output, Some(1000));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, word) in [
            ("", "NAME=VALUE"),
            ("memory", "memory"),
            ("memory=", "size"),
            ("memory=2", "2"),
            ("memory=+2GiB", "+2GiB"),
            ("memory=-2GiB", "size"),
            ("memory=1.5GiB", "1.5GiB"),
            ("memory=1MiB", "between"),
            ("memory=99999999999999999999GiB", "size"),
            ("memory=18446744073709551615GiB", "size"),
            ("cpu=0s", "between"),
            ("cpu=5", "5"),
            ("cpu=5MiB", "5MiB"),
            ("deadline=1000h", "week"),
            ("output=2s", "size"),
            ("cpu=1s,cpu=2s", "twice"),
            ("memroy=2GiB", "memroy"),
            ("cpu=1s,", "NAME=VALUE"),
        ] {
            let said = text.parse::<Override>().unwrap_err();
            assert!(said.contains(word), "{text}: {said}");
        }
    }
}
