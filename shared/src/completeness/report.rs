//! What a walker found out, and the sentences that say so. Filled by the walkers of this folder, turned into
//! [`Completeness`] by [`super::judge`]. It bounds the evidence and never prints a byte of the file unescaped.
//! It never judges more than one end against the length of the file.

use super::{Completeness, Container, Verdict};

/// Sentences kept as evidence.
pub const MAX_EVIDENCE: usize = 8;
/// Bytes of one sentence.
pub const MAX_SENTENCE_BYTES: usize = 256;

/// The longest file there can be, in bytes: offsets are signed on every system we know. A size beyond it is damage, not a
/// promise.
const LONGEST_FILE: u64 = i64::MAX as u64;

/// What was found out so far.
pub(super) struct Report {
    pub(super) container: Container,
    pub(super) expected: Option<u64>,
    pub(super) trailing: Option<u64>,
    pub(super) faststart: Option<bool>,
    pub(super) fragmented: Option<bool>,
    /// Bytes of tags before the container.
    pub(super) tag_bytes: u64,
    evidence: Vec<String>,
    actual: u64,
}

impl Report {
    pub(super) fn new(actual: u64) -> Self {
        Self {
            container: Container::Unknown,
            expected: None,
            trailing: None,
            faststart: None,
            fragmented: None,
            tag_bytes: 0,
            evidence: Vec::new(),
            actual,
        }
    }

    /// Adds a sentence to the evidence.
    pub(super) fn say(&mut self, mut sentence: String) {
        if sentence.len() > MAX_SENTENCE_BYTES {
            sentence.truncate(sentence.floor_char_boundary(MAX_SENTENCE_BYTES - 1));
            sentence.push('.');
        }
        if self.evidence.len() < MAX_EVIDENCE {
            self.evidence.push(sentence);
        }
    }

    /// The end of something that has to be in the file, against the end of the file.
    pub(super) fn closes(&mut self, what: &str, end: u64) -> Verdict {
        if end > LONGEST_FILE {
            self.say(format!("{what} claims to end at {}, where no file can end.", digits(end)));
            return Verdict::Unknown;
        }
        self.expected = Some(end);
        if let Some(missing) = end.checked_sub(self.actual).filter(|missing| *missing > 0) {
            self.say(format!("{what} ends at {}, {} beyond the end of the file.", digits(end), bytes(missing)));
            return Verdict::Truncated;
        }
        self.trails(end);
        let place = if end == self.actual { " with the file" } else { "" };
        self.say(format!("{what} ends{place} at {}.", digits(end)));
        Verdict::Complete
    }

    /// Notes what follows after the end that the container states.
    pub(super) fn trails(&mut self, end: u64) {
        if let Some(trailing) = self.actual.checked_sub(end).filter(|trailing| *trailing > 0) {
            self.trailing = Some(trailing);
            self.say(format!("The {} from {} on do not belong to the container.", bytes(trailing), digits(end)));
        }
    }

    pub(super) fn finish(self, verdict: Verdict) -> Completeness {
        Completeness {
            verdict,
            container: self.container,
            evidence: self.evidence,
            expected_bytes: self.expected,
            actual_bytes: self.actual,
            trailing_bytes: self.trailing,
            faststart: self.faststart,
            fragmented: self.fragmented,
            tag_bytes: self.tag_bytes,
        }
    }
}

/// A number of bytes in words: `1 byte`, `1,048,576 bytes`.
pub(super) fn bytes(count: u64) -> String {
    if count == 1 { "1 byte".into() } else { format!("{} bytes", digits(count)) }
}

/// A number with its thousands apart: `1,048,576`.
pub(super) fn digits(number: u64) -> String {
    let plain = number.to_string();
    let mut apart = String::with_capacity(plain.len() + plain.len() / 3);
    for (place, digit) in plain.chars().enumerate() {
        if place > 0 && (plain.len() - place).is_multiple_of(3) {
            apart.push(',');
        }
        apart.push(digit);
    }
    apart
}

/// A four-character name as it may be printed.
pub(super) fn name(four: [u8; 4]) -> String {
    format!("'{}'", four.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_easy_to_read() {
        let numbers = [0, 7, 999, 1000, 123_456, 1_048_576, u64::MAX];
        let expected = ["0", "7", "999", "1,000", "123,456", "1,048,576", "18,446,744,073,709,551,615"];
        assert_eq!(numbers.map(digits), expected);
        assert_eq!((bytes(1), bytes(2000)), ("1 byte".into(), "2,000 bytes".into()));
        assert_eq!(name(*b"a\0\n\xff"), r"'a\x00\n\xff'");
    }

    #[test]
    fn the_end_decides() {
        let sides = [(99, Verdict::Complete), (100, Verdict::Complete), (101, Verdict::Truncated)];
        for (end, verdict) in sides {
            let mut report = Report::new(100);
            assert_eq!(report.closes("It", end), verdict);
            assert_eq!(report.finish(verdict).expected_bytes, Some(end));
        }
        let mut report = Report::new(100);
        assert_eq!(report.closes("It", u64::MAX), Verdict::Unknown);
        assert_eq!(report.expected, None);
    }

    #[test]
    fn evidence_is_bounded() {
        let mut report = Report::new(1);
        for _ in 0..100 {
            report.say("é".repeat(500));
        }
        let found = report.finish(Verdict::Unknown).evidence;
        assert_eq!(found.len(), MAX_EVIDENCE);
        assert!(found.iter().all(|sentence| sentence.len() <= MAX_SENTENCE_BYTES));
    }
}
