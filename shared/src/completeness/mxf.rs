//! MXF (SMPTE ST 377-1): header partition, footer partition and random index pack. Used by [`super::judge`].
//!
//! The header names the footer, or the random index pack at the end does. A file is complete if the footer is there and what
//! it announces fits. A header that is still open and names no footer is a file that is being written or was given up; the
//! two look the same. It reads no essence and no metadata.

use super::Verdict;
use super::field::{array, be32, be64};
use super::reader::{Look, Reader};
use super::report::{Report, bytes, digits};
use super::sniff::{self, MXF_PARTITION};

/// Bytes of a key.
const KEY_BYTES: u64 = 16;
/// How keys of SMPTE begin.
const SMPTE: [u8; 4] = [0x06, 0x0e, 0x2b, 0x34];
/// The key of the random index pack, but for its version.
const RANDOM_INDEX: [u8; 15] =
    [0x06, 0x0e, 0x2b, 0x34, 0x02, 0x05, 0x01, 0x01, 0x0d, 0x01, 0x02, 0x01, 0x01, 0x11, 0x01];
/// The key of a filler, but for the registry's version and its own.
const FILLER: [u8; 7] = [0x03, 0x01, 0x02, 0x10, 0x01, 0x00, 0x00];
/// Bytes of the longest random index pack that is believed; 12 per partition.
const MAX_RANDOM_INDEX_BYTES: u64 = 16 * 1024 * 1024;
/// Bytes at the start of a partition pack that are read.
const PACK_BYTES: usize = 48;

/// A key, a length and where the value stands.
struct Item {
    key: [u8; 16],
    body: u64,
    end: u64,
}

/// What a partition pack says.
struct Partition {
    kind: u8,
    status: u8,
    /// Where its pack ends.
    end: u64,
    /// Where it says it is.
    this: u64,
    footer: u64,
    /// Bytes of metadata and index behind the pack.
    follows: u64,
}

pub(super) fn judge(reader: &mut Reader<'_>, start: u64, report: &mut Report) -> Look<Verdict> {
    let run_in = sniff::mxf_run_in(reader.view(start, super::HEAD_BYTES)?).unwrap_or(0);
    let origin = start.saturating_add(run_in as u64);
    let Some(header) = partition(reader, origin)? else {
        report.say("The file ends inside of its header partition pack.".into());
        return Ok(Verdict::Truncated);
    };
    let random_index = random_index(reader)?;
    let footer = match (header.footer, &random_index) {
        (0, Some((last, _))) => *last,
        (0, None) => {
            let open = if matches!(header.status, 1 | 3) { "open" } else { "closed" };
            report.say(format!(
                "The header is {open} and names no footer, and the file ends without a random index pack."
            ));
            report.say("The file is still written, was never finished, or has no footer.".into());
            return Ok(Verdict::Unknown);
        }
        (named, _) => named,
    };
    let at = origin.saturating_add(footer);
    if at.saturating_add(KEY_BYTES) > reader.len() {
        let what = format!("The footer partition that the header names at {}", digits(at));
        return Ok(report.closes(&what, at.saturating_add(KEY_BYTES)));
    }
    judge_footer(reader, origin, at, random_index.map(|(_, start)| start), report)
}

fn judge_footer(
    reader: &mut Reader<'_>,
    origin: u64,
    at: u64,
    random_index: Option<u64>,
    report: &mut Report,
) -> Look<Verdict> {
    let footer = partition(reader, at)?.filter(|it| it.kind == 4 && origin.checked_add(it.this) == Some(at));
    let Some(footer) = footer else {
        let verdict = match item(reader, at)? {
            Some(pack) if pack.end > reader.len() => report.closes("The footer partition", pack.end),
            _ => Verdict::Unknown,
        };
        if verdict == Verdict::Unknown {
            report.say(format!("There is no footer partition at {}: the file is damaged.", digits(at)));
        }
        return Ok(verdict);
    };
    let follows = behind_filler(reader, footer.end)?.saturating_add(footer.follows);
    if follows > reader.len() {
        return Ok(report.closes("The metadata and index of the footer partition", follows));
    }
    report.say(format!("The footer partition at {} and what it announces are there.", digits(at)));
    if let Some(start) = random_index.filter(|start| *start >= footer.end) {
        report.say(format!("The random index pack at {} ends the file.", digits(start)));
        return Ok(report.closes("The random index pack", reader.len()));
    }
    match item(reader, follows)? {
        Some(pack) if pack.key.starts_with(&RANDOM_INDEX) => Ok(report.closes("The random index pack", pack.end)),
        _ => judge_without_index(reader, footer.end, follows, report),
    }
}

/// The verdict where no random index pack stands behind the footer, which may go without.
fn judge_without_index(reader: &mut Reader<'_>, pack_end: u64, follows: u64, report: &mut Report) -> Look<Verdict> {
    let rest = reader.len().saturating_sub(follows);
    let begun = reader.view(follows, RANDOM_INDEX.len())?;
    if rest > 0 && rest < KEY_BYTES + 1 && RANDOM_INDEX.starts_with(begun) {
        report.say(format!("Of the random index pack at {} there are only {}.", digits(follows), bytes(rest)));
        return Ok(Verdict::Truncated);
    }
    // A footer that announces nothing, and nothing behind it, may have lost a random index pack.
    if follows == pack_end && rest == 0 {
        report.say("No random index pack follows it.".into());
    }
    Ok(report.closes("The footer partition", follows))
}

/// The partition pack at an offset; nothing if there is none or the file ends in it.
fn partition(reader: &mut Reader<'_>, at: u64) -> Look<Option<Partition>> {
    let Some(pack) = item(reader, at)?.filter(|it| it.key.starts_with(&MXF_PARTITION)) else { return Ok(None) };
    if pack.end > reader.len() {
        return Ok(None);
    }
    let value = reader.view(pack.body, PACK_BYTES)?;
    let number = |place| be64(value, place);
    let (Some(this), Some(footer), Some(metadata), Some(index)) = (number(8), number(24), number(32), number(40))
    else {
        return Ok(None);
    };
    let [.., kind, status, _] = pack.key;
    Ok(Some(Partition { kind, status, end: pack.end, this, footer, follows: metadata.saturating_add(index) }))
}

/// The key and length at an offset (SMPTE ST 336); nothing if there is no SMPTE key or the file ends in it.
fn item(reader: &mut Reader<'_>, at: u64) -> Look<Option<Item>> {
    let head = reader.view(at, KEY_BYTES as usize + 9)?;
    let Some(key) = array::<16>(head, 0).filter(|key| key.starts_with(&SMPTE)) else { return Ok(None) };
    let (length, length_bytes) = match head.get(16) {
        Some(short @ ..=0x7f) => (u64::from(*short), 1),
        Some(long @ 0x81..=0x88) => {
            let count = usize::from(long & 0x0f);
            let Some(bytes) = head.get(17..17 + count) else { return Ok(None) };
            (bytes.iter().fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte)), count as u64 + 1)
        }
        _ => return Ok(None),
    };
    let body = at.saturating_add(KEY_BYTES + length_bytes);
    Ok(Some(Item { key, body, end: body.saturating_add(length) }))
}

/// Where the filler at an offset ends, if there is one; the counts of a partition begin behind it.
fn behind_filler(reader: &mut Reader<'_>, at: u64) -> Look<u64> {
    let filler = item(reader, at)?.filter(|it| it.key[8..15] == FILLER);
    Ok(filler.map_or(at, |it| it.end))
}

/// The random index pack that ends the file: the offset of the last partition that it names, and where it is.
fn random_index(reader: &mut Reader<'_>) -> Look<Option<(u64, u64)>> {
    let len = reader.len();
    let (at, tail) = reader.tail(12)?;
    // the offset of the last partition, and the length of the pack
    let (Some(last), Some(length)) = (be64(tail, 0), be32(tail, 8).map(u64::from)) else { return Ok(None) };
    if length > MAX_RANDOM_INDEX_BYTES || at < KEY_BYTES {
        return Ok(None);
    }
    let Some(start) = len.checked_sub(length) else { return Ok(None) };
    let pack = item(reader, start)?.filter(|it| it.key.starts_with(&RANDOM_INDEX) && it.end == len);
    Ok(pack.map(|_| (last, start)))
}
