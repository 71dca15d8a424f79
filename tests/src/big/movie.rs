//! A big MP4: the tracks and the first second of ffmpeg's sample, then samples in a hole, as many as a film of that size
//! has, each with its place in the tables. Written by [`super::Shape`].

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::containers::isobmff::{Kind, Track, children, co64, find, ftyp, large_head, moov, stsc, stsz, stts, word};
use crate::samples;

/// Pictures and blocks of sound of a chunk: 0.64 s of each, as a muxer makes them, and a chunk of the one follows a chunk of the
/// other. Where the tracks lie more than a second apart ffprobe jumps between them for every packet.
const PICTURES: u64 = 16;
const BLOCKS: u64 = 30;
/// Chunks of each track of two hours, as the largest file has them.
const MOST_CHUNKS: u64 = 11_250;
/// The smallest second of film, in bytes: small files get shorter, not thinner.
const BYTES_A_SECOND: u64 = 250_000;
/// Ticks of a picture (of 12,800 a second) and of a block of sound (of 48,000).
const VIDEO_TICKS: u32 = 512;
const AUDIO_TICKS: u32 = 1024;
/// Bytes of a block of sound.
const AUDIO_BYTES: u32 = 400;
/// Where the index stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Index {
    AtStart,
    AtEnd,
}

pub(super) fn write(file: &mut File, bytes: u64, index: Index) -> io::Result<()> {
    let sample = std::fs::read(samples::path("mp4"))?;
    let video = Head::of(&sample, b"vide");
    let audio = Head::of(&sample, b"soun");
    let chunks = (bytes / BYTES_A_SECOND * 25 / PICTURES).clamp(1, MOST_CHUNKS);
    let (pictures, blocks) = (chunks * PICTURES, chunks * BLOCKS);
    let audio_sizes = sizes(&audio.first, blocks, u64::from(AUDIO_BYTES) * blocks);
    let audio_bytes: u64 = audio_sizes.iter().map(|s| u64::from(*s)).sum();
    let video_sizes = sizes(&video.first, pictures, bytes.saturating_sub(audio_bytes));

    // the tables have the same length wherever the chunks are
    let tables = |start: u64| layout(&video, &audio, &video_sizes, &audio_sizes, start);
    let (ftyp, length) = (ftyp(), tables(0).index.len() as u64);
    let media_at = ftyp.len() as u64 + 16 + if index == Index::AtStart { length } else { 0 };
    let layout = tables(media_at);
    let media_head = large_head(b"mdat", 16 + layout.media_bytes);
    let (index_at, head_at) = match index {
        Index::AtStart => (ftyp.len() as u64, ftyp.len() as u64 + length),
        Index::AtEnd => (media_at + layout.media_bytes, ftyp.len() as u64),
    };
    file.set_len(media_at + layout.media_bytes)?;
    file.write_all_at(&ftyp, 0)?;
    file.write_all_at(&media_head, head_at)?;
    file.write_all_at(&layout.index, index_at)?;
    write_first(file, &video.first, PICTURES, &layout.video_chunks)?;
    write_first(file, &audio.first, BLOCKS, &layout.audio_chunks)
}

/// What a track of the sample is: its description and the bytes of its samples.
struct Head {
    description: Vec<u8>,
    first: Vec<Vec<u8>>,
}

impl Head {
    /// The first track of this handler.
    fn of(sample: &[u8], handler: &[u8; 4]) -> Self {
        let movie = find(sample, &[b"moov"]).expect("the sample has an index");
        let is_it = |trak: &&[u8]| find(&trak[8..], &[b"mdia", b"hdlr"]).is_some_and(|h| h[16..20] == *handler);
        let trak = children(&movie[8..]).filter(|b| b[4..8] == *b"trak").find(is_it).expect("the sample has it");
        let table = |kind| find(&trak[8..], &[b"mdia", b"minf", b"stbl", kind]).expect("the sample is complete");
        let list =
            |b: &[u8], at: usize, step: usize| (at..b.len()).step_by(step).map(|i| word(b, i)).collect::<Vec<_>>();
        let (sizes, offsets) = (list(table(b"stsz"), 20, 4), list(table(b"stco"), 16, 4));
        let runs = list(table(b"stsc"), 16, 4);
        let (mut first, mut sizes) = (Vec::new(), sizes.into_iter());
        for (chunk, offset) in (1..).zip(offsets) {
            let run = runs.chunks(3).take_while(|run| run[0] <= chunk).last().expect("every chunk is in a run");
            let mut at = offset as usize;
            for size in sizes.by_ref().take(run[1] as usize) {
                first.push(sample[at..at + size as usize].to_vec());
                at += size as usize;
            }
        }
        Self { description: table(b"stsd").to_vec(), first }
    }
}

/// The sizes of `count` samples that have `total` bytes together: first those that are there, the rest alike.
fn sizes(first: &[Vec<u8>], count: u64, total: u64) -> Vec<u32> {
    let real: Vec<u32> = first.iter().take(count as usize).map(|s| s.len() as u32).collect();
    let rest = count - real.len() as u64;
    let left = total.saturating_sub(real.iter().map(|s| u64::from(*s)).sum());
    let each = left.checked_div(rest).unwrap_or_default().max(1);
    let each = u32::try_from(each).expect("a sample of less than 4 GiB");
    real.into_iter().chain(std::iter::repeat_n(each, rest as usize)).collect()
}

struct Layout {
    index: Vec<u8>,
    video_chunks: Vec<u64>,
    audio_chunks: Vec<u64>,
    media_bytes: u64,
}

fn layout(video: &Head, audio: &Head, video_sizes: &[u32], audio_sizes: &[u32], start: u64) -> Layout {
    let (mut at, mut chunks) = (start, (Vec::new(), Vec::new()));
    let groups = video_sizes.chunks(PICTURES as usize).zip(audio_sizes.chunks(BLOCKS as usize));
    for (pictures, blocks) in groups {
        for (sizes, into) in [(pictures, &mut chunks.0), (blocks, &mut chunks.1)] {
            into.push(at);
            at += sizes.iter().map(|s| u64::from(*s)).sum::<u64>();
        }
    }
    let track = |kind, head: &Head, sizes: &[u32], offsets: &[u64], per_chunk: u64, (scale, ticks)| {
        let count = sizes.len() as u32;
        let runs = (stts(&[(count, ticks)]), stsc(&[(1, per_chunk as u32)]));
        let table = [&head.description[..], &runs.0, &runs.1, &stsz(sizes), &co64(offsets)].concat();
        Track::new(kind, scale, u64::from(count) * u64::from(ticks), &[&table])
    };
    let tracks = [
        track(Kind::Video, video, video_sizes, &chunks.0, PICTURES, (12_800, VIDEO_TICKS)),
        track(Kind::Audio, audio, audio_sizes, &chunks.1, BLOCKS, (48_000, AUDIO_TICKS)),
    ];
    Layout { index: moov(&tracks, &[]), video_chunks: chunks.0, audio_chunks: chunks.1, media_bytes: at - start }
}

/// Writes the samples that are there, each where the tables say.
fn write_first(file: &File, first: &[Vec<u8>], per_chunk: u64, chunks: &[u64]) -> io::Result<()> {
    for (samples, at) in first.chunks(per_chunk as usize).zip(chunks) {
        file.write_all_at(&samples.concat(), *at)?;
    }
    Ok(())
}
