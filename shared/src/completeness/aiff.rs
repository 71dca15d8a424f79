//! AIFF and AIFF-C: the sizes of the form and of the chunk `SSND`. Used by [`super::judge`]. It reads headers of chunks only;
//! a size that was never filled in says nothing.
//! It never reads sound.

use super::Verdict;
use super::chunk::{self, Form, NO_SIZE, Order};
use super::field::be32;
use super::reader::{Look, Reader};
use super::report::Report;

/// Bytes of `FORM`, its size and `AIFF`.
const FORM_HEADER_BYTES: u64 = 12;

pub(super) fn judge(reader: &mut Reader<'_>, start: u64, report: &mut Report) -> Look<Verdict> {
    let size = be32(reader.view(start, 8)?, 4).map(u64::from).filter(|size| *size != 0 && *size != NO_SIZE);
    let form = Form {
        what: "FORM",
        order: Order::Big,
        chunks: start.saturating_add(FORM_HEADER_BYTES),
        end: size.map(|size| start.saturating_add(chunk::HEADER_BYTES).saturating_add(size)),
        sound: *b"SSND",
        sound_bytes: None,
    };
    chunk::judge(reader, &form, report)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::memory::judged;

    #[test]
    fn sizes_decide() {
        let file = b"FORM\0\0\0\x18AIFCFVER\0\0\0\x02..SSND\0\0\0\x02..".to_vec();
        let whole = judged(&file);
        assert_eq!((whole.verdict, whole.expected_bytes), (Verdict::Complete, Some(32)), "{:?}", whole.evidence);
        let cut = judged(&file[..21]);
        assert_eq!((cut.verdict, cut.expected_bytes), (Verdict::Truncated, Some(32)), "{:?}", cut.evidence);
        let trailing = judged(&[file, vec![0; 7]].concat());
        assert_eq!((trailing.verdict, trailing.trailing_bytes), (Verdict::Complete, Some(7)));
    }
}
