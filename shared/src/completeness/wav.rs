//! WAVE, and its forms for more than 4 GiB: RF64 (EBU Tech 3306) and BW64 (ITU-R BS.2088). Used by [`super::judge`].
//!
//! The sizes of the form and of the chunk `data` decide. Writers that stream leave them at zero or all ones, which says
//! nothing about the end. It reads headers of chunks only.

use super::Verdict;
use super::chunk::{self, Form, NO_SIZE, Order};
use super::field::{le32, le64};
use super::reader::{Look, Reader};
use super::report::Report;

/// Bytes of `RIFF`, its size and `WAVE`.
const FORM_HEADER_BYTES: u64 = 12;

pub(super) fn judge(reader: &mut Reader<'_>, start: u64, report: &mut Report) -> Look<Verdict> {
    let head = reader.view(start, 36)?;
    let short = le32(head, 4).map(u64::from).filter(|size| *size != 0 && *size != NO_SIZE);
    // The chunk `ds64` comes first (EBU Tech 3306, 4.2): the size of the form, then that of the sound.
    let large = head.get(..4) != Some(b"RIFF") && head.get(12..16) == Some(b"ds64");
    let number = |place| le64(head, place).filter(|size| large && *size != 0 && *size != u64::MAX);
    let size = number(20).or(short);
    let form = Form {
        what: "RIFF",
        order: Order::Little,
        chunks: start.saturating_add(FORM_HEADER_BYTES),
        end: size.map(|size| start.saturating_add(chunk::HEADER_BYTES).saturating_add(size)),
        sound: *b"data",
        sound_bytes: number(28),
    };
    chunk::judge(reader, &form, report)
}

#[cfg(test)]
mod tests {
    use super::super::memory::{Memory, judged};
    use super::super::{Completeness, Verdict};

    const FMT: &[u8] = b"fmt \x04\0\0\0....";

    fn wav(riff: u32, data: u32, sound: usize, rest: &[u8]) -> Completeness {
        let sizes = (riff.to_le_bytes(), data.to_le_bytes());
        let file = [b"RIFF", &sizes.0[..], b"WAVE", FMT, b"data", &sizes.1, &vec![1; sound], rest].concat();
        judged(&file)
    }

    #[test]
    fn sizes_decide() {
        for (riff, data, sound, rest, verdict, expected, trailing) in [
            (124, 100, 100, &b""[..], Verdict::Complete, Some(132), None),
            (124, 100, 99, b"", Verdict::Truncated, Some(132), None),
            (124, 100, 100, b"\0\x01\x02\xff", Verdict::Complete, Some(132), Some(4)),
            // followed by a list that is counted, one that is cut and one that is missing
            (136, 100, 100, b"LIST\x04\0\0\0abcd", Verdict::Complete, Some(144), None),
            (136, 100, 100, b"LIST\x04\0\0\0abc", Verdict::Truncated, Some(144), None),
            (136, 100, 100, b"", Verdict::Truncated, Some(144), None),
            // odd, with its padding and without
            (124, 99, 99, b"\0", Verdict::Complete, Some(132), None),
            (124, 99, 99, b"", Verdict::Complete, Some(131), None),
            // the header of the form counted too
            (132, 100, 100, b"", Verdict::Complete, Some(132), None),
            // streamed, and never finished
            (u32::MAX, u32::MAX, 100, b"", Verdict::Unknown, None, None),
            (0, 0, 100, b"", Verdict::Unknown, None, None),
            (0, 100, 100, b"", Verdict::Complete, Some(132), None),
            (24, 0, 0, b"", Verdict::Complete, Some(32), None),
        ] {
            let found = wav(riff, data, sound, rest);
            let says = (found.verdict, found.expected_bytes, found.trailing_bytes);
            assert_eq!(says, (verdict, expected, trailing), "{riff} {data} {sound} {rest:?}: {:?}", found.evidence);
        }
    }

    #[test]
    fn large_files_have_their_sizes_in_ds64() {
        let len: u64 = 50_000_000_000;
        for (form, missing, verdict) in [(b"RF64", 0, Verdict::Complete), (b"BW64", 1, Verdict::Truncated)] {
            let ones = [0xff; 4];
            let sound = len - 76;
            let sizes = [(len - 8).to_le_bytes(), sound.to_le_bytes(), [0; 8]].concat();
            let head = [form, &ones[..], b"WAVEds64\x1c\0\0\0", &sizes, &[0; 4], FMT, b"pad \0\0\0\0", b"data", &ones];
            assert_eq!(head.concat().len(), 76);
            let found = Memory::sparse(len - missing, vec![(0, head.concat())]).judge();
            assert_eq!((found.verdict, found.expected_bytes), (verdict, Some(len)), "{:?}", found.evidence);
        }
    }
}
