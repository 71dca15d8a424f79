//! EBML (Matroska, WebM): elements of any id and any claimed size, and the few that every file begins with. Used by the
//! writers of bombs and big files.

/// `EBML`.
pub const EBML: u32 = 0x1A45_DFA3;
/// `Segment`.
pub const SEGMENT: u32 = 0x1853_8067;
/// `SeekHead`.
pub const SEEK_HEAD: u32 = 0x114D_9B74;
/// `Info`.
pub const INFO: u32 = 0x1549_A966;
/// `Tracks`.
pub const TRACKS: u32 = 0x1654_AE6B;
/// `Cluster`.
pub const CLUSTER: u32 = 0x1F43_B675;
/// `Cues`.
pub const CUES: u32 = 0x1C53_BB6B;
/// `Attachments`.
pub const ATTACHMENTS: u32 = 0x1941_A469;
/// `Chapters`.
pub const CHAPTERS: u32 = 0x1043_A770;
/// `Tags`.
pub const TAGS: u32 = 0x1254_C367;
/// `Timestamp` of a cluster.
pub const TIMESTAMP: u32 = 0xE7;
/// `SimpleBlock`.
pub const SIMPLE_BLOCK: u32 = 0xA3;

/// A size that says: until something begins that cannot stand in here.
pub const UNKNOWN: u64 = (1 << 56) - 1;

/// The head of an element: its id and a size of eight bytes, whether or not the body has it.
pub fn head(id: u32, size: u64) -> Vec<u8> {
    let mut bytes = id_of(id);
    bytes.extend_from_slice(&(size | 1 << 56).to_be_bytes());
    bytes
}

/// An element.
pub fn element(id: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = id_of(id);
    match body.len() as u64 {
        size @ 0..=0x7e => bytes.push(0x80 | size as u8),
        size => bytes.extend_from_slice(&(size | 1 << 56).to_be_bytes()),
    }
    bytes.extend_from_slice(body);
    bytes
}

/// An element of elements.
pub fn master(id: u32, children: &[Vec<u8>]) -> Vec<u8> {
    element(id, &children.concat())
}

/// A number, in as few bytes as it needs.
pub fn uint(id: u32, number: u64) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    let zeros = bytes.iter().take(7).take_while(|b| **b == 0).count();
    element(id, &bytes[zeros..])
}

/// A number in eight bytes, for one whose value is not known when the place is taken.
pub fn uint_wide(id: u32, number: u64) -> Vec<u8> {
    element(id, &number.to_be_bytes())
}

fn id_of(id: u32) -> Vec<u8> {
    id.to_be_bytes().into_iter().skip_while(|b| *b == 0).collect()
}

/// The header of a Matroska file.
pub fn header() -> Vec<u8> {
    let children = [
        uint(0x4286, 1),
        uint(0x42F7, 1),
        uint(0x42F2, 4),
        uint(0x42F3, 8),
        element(0x4282, b"matroska"),
        uint(0x4287, 4),
        uint(0x4285, 2),
    ];
    master(EBML, &children)
}

/// `Info`: ticks of a millisecond, and a length in them.
pub fn info(milliseconds: f64) -> Vec<u8> {
    let children = [
        uint(0x002A_D7B1, 1_000_000),
        element(0x4489, &milliseconds.to_be_bytes()),
        element(0x4D80, b"x"),
        element(0x5741, b"x"),
    ];
    master(INFO, &children)
}

/// `Tracks` with one sound track at 8 kHz. `A_PCM/INT/LIT` needs nothing decoded and nothing set up.
pub fn sound_track(codec: &[u8]) -> Vec<u8> {
    let audio = [element(0xB5, &8000_f64.to_be_bytes()), uint(0x9F, 1), uint(0x6264, 8)];
    let entry = [uint(0xD7, 1), uint(0x73C5, 1), uint(0x83, 2), element(0x86, codec), master(0xE1, &audio)];
    master(TRACKS, &[master(0xAE, &entry)])
}

/// A block of track 1 at this time of its cluster.
pub fn simple_block(relative: i16, payload: &[u8]) -> Vec<u8> {
    let [high, low] = relative.to_be_bytes();
    element(SIMPLE_BLOCK, &[&[0x81, high, low, 0x80], payload].concat())
}

/// The elements that stand in `bytes` one after the other, each as (id, head length, all of it), up to the first that
/// does not fit.
pub fn children(bytes: &[u8]) -> impl Iterator<Item = (u32, usize, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (id, id_length) = number(rest, Marker::Kept)?;
        let (size, size_length) = number(rest.get(id_length..)?, Marker::Dropped)?;
        let head = id_length + size_length;
        let (found, after) = rest.split_at_checked(head.checked_add(usize::try_from(size).ok()?)?)?;
        rest = after;
        Some((u32::try_from(id).ok()?, head, found))
    })
}

/// Whether the bit that tells the length belongs to the number: it does in an id.
enum Marker {
    Kept,
    Dropped,
}

fn number(bytes: &[u8], marker: Marker) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let length = first.leading_zeros() as usize + 1;
    let all = bytes.get(..length).filter(|_| length <= 8)?;
    let number = all.iter().fold(0_u64, |n, b| n << 8 | u64::from(*b));
    Some(match marker {
        Marker::Kept => (number, length),
        Marker::Dropped => (number & !(1 << (7 * length)), length),
    })
}
