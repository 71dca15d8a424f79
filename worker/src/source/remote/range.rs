//! The `Range` header towards ffprobe, after RFC 9110 §14. Pure; called by `server`.

/// Which bytes an answer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of them, with status 200.
    Whole,
    /// From the first up to before the second offset, with status 206.
    Part(u64, u64),
    /// None: the range is not within the object, names several parts, or cannot be read. Status 416.
    Unsatisfiable,
}

/// What a `Range` header asks of an object of `size` bytes. Other units than bytes are ignored, as the RFC wants it.
pub(super) fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some((unit, range)) = header.and_then(|h| h.split_once('=')) else { return Wanted::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Wanted::Whole;
    }
    let Some((first, last)) = range.trim().split_once('-') else { return Wanted::Unsatisfiable };
    let part = match (number(first), number(last)) {
        (Some(first), None) if last.is_empty() => (first, size),
        (Some(first), Some(last)) if first <= last => (first, last.saturating_add(1).min(size)),
        (None, Some(suffix)) if first.is_empty() => (size.saturating_sub(suffix), size),
        _ => return Wanted::Unsatisfiable,
    };
    if part.0 < part.1 { Wanted::Part(part.0, part.1) } else { Wanted::Unsatisfiable }
}

/// A number of digits only; one too large for 64 bits is after the end of everything.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_ranges_are_understood() {
        for (header, expected) in [
            ("bytes=0-", Wanted::Part(0, 100)),
            ("bytes=0-0", Wanted::Part(0, 1)),
            ("bytes=10-19", Wanted::Part(10, 20)),
            ("Bytes = 10-19", Wanted::Part(10, 20)),
            ("bytes=99-", Wanted::Part(99, 100)),
            ("bytes=50-99999999999999999999999", Wanted::Part(50, 100)),
            ("bytes=-1", Wanted::Part(99, 100)),
            ("bytes=-100", Wanted::Part(0, 100)),
            ("bytes=-18446744073709551616", Wanted::Part(0, 100)),
            ("lines=1-2", Wanted::Whole),
            ("bytes", Wanted::Whole),
        ] {
            assert_eq!(wanted(Some(header), 100), expected, "{header}");
        }
        assert_eq!(wanted(None, 100), Wanted::Whole);
    }

    #[test]
    fn all_else_is_refused() {
        for header in [
            "bytes=100-",
            "bytes=18446744073709551615-",
            "bytes=99999999999999999999999-",
            "bytes=-0",
            "bytes=-",
            "bytes=5-4",
            "bytes=0-1,5-6",
            "bytes=a-b",
            "bytes=+1-2",
            "bytes=1 - 2",
            "bytes=--1",
            "bytes=",
        ] {
            assert_eq!(wanted(Some(header), 100), Wanted::Unsatisfiable, "{header}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_part_is_never_empty_and_always_inside(header in "bytes=[0-9]{0,21}-[0-9]{0,21}|\\PC{0,40}", size in 1_u64..) {
            if let Wanted::Part(from, until) = wanted(Some(&header), size) {
                proptest::prop_assert!(from < until && until <= size);
            }
        }
    }
}
