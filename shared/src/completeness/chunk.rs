//! Chunks, as RIFF and IFF have them: a name of four characters, a size, the content, a byte of padding if it is odd. Used by
//! the walkers of WAVE, AIFF and AVI. The padding of the last chunk may be missing: many writers forget it.
//! It never reads the content of a chunk.

use super::Verdict;
use super::field::{array, be32, le32};
use super::reader::{Look, Reader};
use super::report::{Report, digits, name};

/// Bytes of a chunk's name and size.
pub(super) const HEADER_BYTES: u64 = 8;
/// What writers put where the size belongs when they cannot know it.
pub(super) const NO_SIZE: u64 = 0xffff_ffff;
/// Chunks of a form that are looked at.
const MAX_CHUNKS: usize = 512;
/// How far the size of a form may be off: some writers count its own header.
const FORM_TOLERANCE: u64 = HEADER_BYTES;

/// The order of the bytes in a size.
#[derive(Debug, Clone, Copy)]
pub(super) enum Order {
    /// RIFF: the lowest byte first.
    Little,
    /// IFF: the highest byte first.
    Big,
}

/// A chunk: its name and where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunk {
    pub(super) id: [u8; 4],
    pub(super) body: u64,
    pub(super) size: u64,
}

impl Chunk {
    /// Where its content ends.
    pub(super) fn end(&self) -> u64 {
        self.body.saturating_add(self.size)
    }

    /// Where the next chunk begins.
    pub(super) fn next(&self) -> u64 {
        self.end().saturating_add(self.size & 1)
    }
}

/// The chunk that begins at an offset; nothing if these bytes cannot be the header of one.
pub(super) fn read(reader: &mut Reader<'_>, at: u64, order: Order) -> Look<Option<Chunk>> {
    let head = reader.view(at, HEADER_BYTES as usize)?;
    let size = match order {
        Order::Little => le32(head, 4),
        Order::Big => be32(head, 4),
    };
    let (Some(id), Some(size)) = (array::<4>(head, 0), size) else { return Ok(None) };
    let readable = id.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    Ok(readable.then(|| Chunk { id, body: at.saturating_add(HEADER_BYTES), size: size.into() }))
}

/// A form that holds sound in one chunk: WAVE or AIFF.
pub(super) struct Form {
    /// `RIFF` or `FORM`.
    pub(super) what: &'static str,
    pub(super) order: Order,
    /// Where its chunks begin.
    pub(super) chunks: u64,
    /// Where it says it ends; nothing if it has no size.
    pub(super) end: Option<u64>,
    /// The name of the chunk with the sound.
    pub(super) sound: [u8; 4],
    /// The size of that chunk in 64 bits, for a form whose chunks say [`NO_SIZE`].
    pub(super) sound_bytes: Option<u64>,
}

/// What the walk over a form's chunks came to.
enum Walked {
    /// The chunk with the sound has no size yet.
    Open(Chunk),
    /// A chunk reaches beyond the end of the file.
    Beyond(Chunk),
    /// The chunk with the sound, if there is one, and where the content of the last chunk ends.
    Whole(Option<Chunk>, u64),
}

/// The verdict on a form.
pub(super) fn judge(reader: &mut Reader<'_>, form: &Form, report: &mut Report) -> Look<Verdict> {
    let (len, what) = (reader.len(), form.what);
    Ok(match walk(reader, form)? {
        Walked::Open(sound) => {
            report.say(format!("The chunk {} has no size: the file was streamed or never finished.", name(sound.id)));
            Verdict::Unknown
        }
        Walked::Beyond(chunk) => {
            let end = chunk.end().max(form.end.filter(|end| end - chunk.body.min(*end) <= NO_SIZE).unwrap_or(0));
            report.closes(&format!("The chunk {} at {}", name(chunk.id), digits(chunk.body - HEADER_BYTES)), end)
        }
        Walked::Whole(sound, last) => match (form.end, sound) {
            (Some(end), None) if end > len => report.closes(&format!("The form '{what}'"), end),
            (_, None) => {
                report.say(format!("The form '{what}' has no chunk {}.", name(form.sound)));
                Verdict::Unknown
            }
            (Some(end), Some(_)) if end > len && end - len > FORM_TOLERANCE => {
                report.closes(&format!("The form '{what}'"), end)
            }
            (Some(end), Some(_)) if end <= len && end >= last => report.closes(&format!("The form '{what}'"), end),
            // without a size, with the size of a shorter form, or a few bytes off: the chunks are what counts
            (_, Some(sound)) => {
                report.say(format!("The chunk {} ends at {}.", name(sound.id), digits(sound.end())));
                report.closes("The last chunk", last)
            }
        },
    })
}

fn walk(reader: &mut Reader<'_>, form: &Form) -> Look<Walked> {
    let len = reader.len();
    let (mut at, mut last, mut sound) = (form.chunks, form.chunks, None);
    for _ in 0..MAX_CHUNKS {
        // Behind the sound, the form's own size says whether there is more.
        let over = form.end.is_some_and(|end| at >= end) && sound.is_some();
        if at >= len || over {
            break;
        }
        let Some(mut chunk) = read(reader, at, form.order)? else { break };
        if chunk.id == form.sound && sound.is_none() {
            if chunk.size == NO_SIZE {
                chunk.size = form.sound_bytes.unwrap_or(chunk.size);
            }
            if is_open(reader, form, chunk)? {
                return Ok(Walked::Open(chunk));
            }
            sound = Some(chunk);
        }
        if chunk.end() > len {
            return Ok(Walked::Beyond(chunk));
        }
        last = chunk.end();
        at = chunk.next();
    }
    Ok(Walked::Whole(sound, last))
}

/// Whether the chunk with the sound has only a place for its size: all ones, or zero although something follows that is no
/// chunk.
fn is_open(reader: &mut Reader<'_>, form: &Form, chunk: Chunk) -> Look<bool> {
    let len = reader.len();
    if chunk.size != 0 || chunk.body >= len {
        return Ok(chunk.size == NO_SIZE || chunk.size == u64::MAX);
    }
    Ok(read(reader, chunk.body, form.order)?.is_none_or(|next| next.end() > len))
}
