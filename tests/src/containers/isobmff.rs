//! ISO base media (MP4, MOV): boxes, and a movie whose sample tables say what the caller likes. Used by the writers of
//! bombs and big files. [`Track::table`] is written as given, however little of it is true.

/// A box.
pub fn atom(kind: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let body: usize = parts.iter().map(|p| p.len()).sum();
    let mut bytes = u32::try_from(body + 8).expect("a box of less than 4 GiB").to_be_bytes().to_vec();
    bytes.extend_from_slice(kind);
    parts.iter().for_each(|p| bytes.extend_from_slice(p));
    bytes
}

/// A box with version and flags.
pub fn full(kind: &[u8; 4], version_flags: u32, parts: &[&[u8]]) -> Vec<u8> {
    let head = version_flags.to_be_bytes();
    atom(kind, &[&[&head[..]], parts].concat())
}

/// The head of a box with a size of 64 bits, its own 16 bytes included in `size`.
pub fn large_head(kind: &[u8; 4], size: u64) -> Vec<u8> {
    [&1_u32.to_be_bytes()[..], kind, &size.to_be_bytes()].concat()
}

/// Numbers one after the other, big-endian.
pub fn words(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_be_bytes()).collect()
}

/// `ftyp` of an ordinary MP4.
pub fn ftyp() -> Vec<u8> {
    atom(b"ftyp", &[b"isom\0\0\x02\0isomiso2avc1mp41"])
}

/// What a track shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
}

/// One track.
pub struct Track {
    /// What it shows.
    pub kind: Kind,
    /// Ticks a second.
    pub timescale: u32,
    /// Length in ticks.
    pub duration: u64,
    /// The boxes of `stbl`, `stsd` first.
    pub table: Vec<u8>,
    /// The `edts` box, or nothing.
    pub edits: Vec<u8>,
    /// The `dref` box; [`here`] for media in the same file.
    pub references: Vec<u8>,
}

impl Track {
    /// A track of this file without edits.
    pub fn new(kind: Kind, timescale: u32, duration: u64, table: &[&[u8]]) -> Self {
        Self { kind, timescale, duration, table: table.concat(), edits: Vec::new(), references: here() }
    }
}

/// `dref` that says: in this file.
pub fn here() -> Vec<u8> {
    full(b"dref", 0, &[&words(&[1]), &full(b"url ", 1, &[])])
}

/// `stsd` with one video entry of this codec and size, followed by boxes of its own.
pub fn video_entry(codec: &[u8; 4], width: u16, height: u16, more: &[u8]) -> Vec<u8> {
    let mut entry = vec![0; 6];
    entry.extend_from_slice(&1_u16.to_be_bytes()); // data reference
    entry.resize(24, 0);
    entry.extend_from_slice(&[width.to_be_bytes(), height.to_be_bytes()].concat());
    entry.extend_from_slice(&words(&[0x0048_0000, 0x0048_0000, 0]));
    entry.extend_from_slice(&1_u16.to_be_bytes()); // frames a sample
    entry.resize(entry.len() + 32, 0); // the compressor's name
    entry.extend_from_slice(&[0, 24, 0xff, 0xff]);
    full(b"stsd", 0, &[&words(&[1]), &atom(codec, &[&entry, more])])
}

/// `moov` with these tracks, followed by boxes of its own (`mvex`, `udta`).
pub fn moov(tracks: &[Track], more: &[u8]) -> Vec<u8> {
    let longest = tracks.iter().map(|t| t.duration * 1000 / u64::from(t.timescale)).max().unwrap_or_default();
    let mut mvhd = words(&[0, 0, 1000, ticks32(longest), 0x0001_0000, 0x0100_0000, 0, 0]);
    mvhd.extend_from_slice(&matrix());
    mvhd.extend_from_slice(&words(&[0, 0, 0, 0, 0, 0, ticks32(tracks.len() as u64 + 1)]));
    let traks: Vec<u8> = (1..).zip(tracks).flat_map(|(id, track)| trak(id, track)).collect();
    atom(b"moov", &[&full(b"mvhd", 0, &[&mvhd]), &traks, more])
}

fn trak(id: u32, track: &Track) -> Vec<u8> {
    let duration = track.duration * 1000 / u64::from(track.timescale);
    let mut tkhd = words(&[0, 0, id, 0, ticks32(duration), 0, 0, 0, 0x0100_0000]);
    tkhd.extend_from_slice(&matrix());
    tkhd.extend_from_slice(&words(&[320 << 16, 180 << 16]));
    let mdhd = words(&[0, 0, track.timescale, ticks32(track.duration), 0x55c4_0000]);
    let (handler, media_head) = match track.kind {
        Kind::Video => (b"vide", full(b"vmhd", 1, &[&[0; 8]])),
        Kind::Audio => (b"soun", full(b"smhd", 0, &[&[0; 4]])),
    };
    let hdlr = full(b"hdlr", 0, &[&[0; 4], handler, &[0; 12], b"x\0"]);
    let minf = atom(b"minf", &[&media_head, &atom(b"dinf", &[&track.references]), &atom(b"stbl", &[&track.table])]);
    let mdia = atom(b"mdia", &[&full(b"mdhd", 0, &[&mdhd]), &hdlr, &minf]);
    atom(b"trak", &[&full(b"tkhd", 3, &[&tkhd]), &track.edits, &mdia])
}

/// The identity.
fn matrix() -> Vec<u8> {
    words(&[0x0001_0000, 0, 0, 0, 0x0001_0000, 0, 0, 0, 0x4000_0000])
}

/// Times of version 0 boxes have 32 bits; the longest one for what does not fit.
fn ticks32(ticks: u64) -> u32 {
    u32::try_from(ticks).unwrap_or(u32::MAX)
}

/// `stts`: runs of (samples, ticks each).
pub fn stts(runs: &[(u32, u32)]) -> Vec<u8> {
    pairs(b"stts", runs)
}

/// `ctts`: runs of (samples, ticks later).
pub fn ctts(runs: &[(u32, u32)]) -> Vec<u8> {
    pairs(b"ctts", runs)
}

fn pairs(kind: &[u8; 4], runs: &[(u32, u32)]) -> Vec<u8> {
    let body: Vec<u32> = runs.iter().flat_map(|(count, value)| [*count, *value]).collect();
    full(kind, 0, &[&words(&[count_of(runs.len())]), &words(&body)])
}

/// `stsz` of samples that all have `size` bytes: 20 bytes, whatever the count.
pub fn stsz_constant(size: u32, count: u32) -> Vec<u8> {
    full(b"stsz", 0, &[&words(&[size, count])])
}

/// `stsz` of samples with a size each.
pub fn stsz(sizes: &[u32]) -> Vec<u8> {
    full(b"stsz", 0, &[&words(&[0, count_of(sizes.len())]), &words(sizes)])
}

/// `stsc`: runs of (first chunk, samples in a chunk).
pub fn stsc(runs: &[(u32, u32)]) -> Vec<u8> {
    let body: Vec<u32> = runs.iter().flat_map(|(first, samples)| [*first, *samples, 1]).collect();
    full(b"stsc", 0, &[&words(&[count_of(runs.len())]), &words(&body)])
}

/// `co64`: where each chunk begins.
pub fn co64(offsets: &[u64]) -> Vec<u8> {
    let body: Vec<u8> = offsets.iter().flat_map(|o| o.to_be_bytes()).collect();
    full(b"co64", 0, &[&words(&[count_of(offsets.len())]), &body])
}

/// The length of a table, as it stands before it.
pub fn count_of(entries: usize) -> u32 {
    u32::try_from(entries).expect("a table of less than 2^32 entries")
}

/// The first box of this kind among the boxes of `bytes`: all of it, its head included.
pub fn find<'a>(bytes: &'a [u8], path: &[&[u8; 4]]) -> Option<&'a [u8]> {
    let (kind, deeper) = path.split_first()?;
    let found = children(bytes).find(|b| b[4..8] == **kind)?;
    if deeper.is_empty() { Some(found) } else { find(&found[8..], deeper) }
}

/// The boxes that stand in `bytes` one after the other, up to the first that does not fit.
pub fn children(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let size = u32::from_be_bytes(rest.get(..4)?.try_into().ok()?) as usize;
        let (found, after) = rest.split_at_checked(size).filter(|_| size >= 8)?;
        rest = after;
        Some(found)
    })
}

/// A big-endian number at `at`.
pub fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}
