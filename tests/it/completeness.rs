//! The judge of completeness against real files: what ffmpeg writes, whole, cut off and followed by something, and files of
//! 50 GB with holes. No server: only ffmpeg and `shared::completeness`. Facts come from what was done to the file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use shared::completeness::{Bytes, Completeness, Container, MAX_BYTES, MAX_READS, Verdict, content_type, judge};
use tests::samples;

const PICTURE: &str = "-f lavfi -i testsrc2=size=320x180:rate=25:duration=2";
const TONE: &str = "-f lavfi -i sine=frequency=440:sample_rate=48000:duration=2";
/// Bytes of a large file.
const LARGE: u64 = 50_000_000_000;

/// A file, or the start of one, with something behind it.
struct Part {
    file: File,
    len: u64,
    behind: Vec<u8>,
    reads: u32,
    bytes: u64,
}

impl Bytes for Part {
    fn len(&self) -> u64 {
        self.len + self.behind.len() as u64
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.reads += 1;
        let count = match self.len.checked_sub(offset).filter(|left| *left > 0) {
            Some(left) => {
                let room = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                self.file.read_at(&mut into[..room], offset)?
            }
            None => {
                let skip = usize::try_from(offset - self.len).expect("a small tail");
                let rest = &self.behind[skip.min(self.behind.len())..];
                let count = rest.len().min(into.len());
                into[..count].copy_from_slice(&rest[..count]);
                count
            }
        };
        self.bytes += count as u64;
        Ok(count)
    }
}

/// What is said of the first `len` bytes of a file with something behind them, and in how many reads.
fn judged(path: &Path, len: u64, behind: &[u8]) -> (Completeness, u32) {
    let file = File::open(path).expect("a file");
    let mut part = Part { file, len, behind: behind.to_vec(), reads: 0, bytes: 0 };
    let found = judge(&mut part).expect("the file is readable");
    assert!(part.reads < MAX_READS && part.bytes <= MAX_BYTES, "{} reads of {} bytes", part.reads, part.bytes);
    (found, part.reads)
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).expect("a file").len()
}

/// What is true of a container.
struct Kind {
    name: &'static str,
    container: Container,
    media_type: &'static str,
    recipe: &'static str,
    /// The verdict on the whole file.
    whole: Verdict,
    /// The verdicts on the first 10, 50 and 90 percent, and on all but the last byte.
    cut: [Verdict; 4],
    /// The verdict with 1,000 bytes behind the file.
    followed: Verdict,
}

const C: Verdict = Verdict::Complete;
const T: Verdict = Verdict::Truncated;
const U: Verdict = Verdict::Unknown;

fn kind(
    name: &'static str,
    container: Container,
    media_type: &'static str,
    recipe: &'static str,
    verdicts: [Verdict; 6],
) -> Kind {
    let [whole, ten, fifty, ninety, byte, followed] = verdicts;
    Kind { name, container, media_type, recipe, whole, cut: [ten, fifty, ninety, byte], followed }
}

const VIDEO: &str = "-c:v mpeg4 -c:a aac";

fn kinds() -> Vec<Kind> {
    use Container::{Aiff, Avi, Flac, Flv, Matroska, Mp3, Mp4, Mxf, Ogg, Wav};
    let proven = [C, T, T, T, T, C];
    vec![
        kind("a.mp4", Mp4, "video/mp4", VIDEO, proven),
        kind("fast.mp4", Mp4, "video/mp4", "-c:v mpeg4 -c:a aac -movflags +faststart", proven),
        kind("a.mov", Mp4, "video/quicktime", "-c:v mpeg4 -c:a pcm_s16le", proven),
        kind("a.m4a", Mp4, "audio/mp4", "-map 1 -c:a aac", proven),
        kind("frag.mp4", Mp4, "video/mp4", "-c:v mpeg4 -g 5 -movflags frag_keyframe+empty_moov", proven),
        kind(
            "cmaf.mp4",
            Mp4,
            "video/mp4",
            "-c:v mpeg4 -g 5 -movflags cmaf+skip_trailer+frag_keyframe",
            [U, T, T, T, T, U],
        ),
        kind(
            "dash.mp4",
            Mp4,
            "video/mp4",
            "-c:v mpeg4 -g 5 -movflags dash+global_sidx+skip_trailer+frag_keyframe",
            proven,
        ),
        kind("a.mkv", Matroska, "video/matroska", VIDEO, proven),
        kind("a.webm", Matroska, "video/webm", "-c:v libvpx -deadline realtime -c:a libopus", proven),
        kind("live.mkv", Matroska, "video/matroska", "-c:v mpeg4 -c:a aac -live 1 -f matroska", [U, T, T, T, T, U]),
        kind("a.mxf", Mxf, "application/mxf", "-c:v mpeg2video -c:a pcm_s16le", proven),
        kind("a.wav", Wav, "audio/wav", "-map 1 -c:a pcm_s16le", proven),
        kind("a.rf64.wav", Wav, "audio/wav", "-map 1 -c:a pcm_s16le -rf64 always -f wav", proven),
        kind("a.aiff", Aiff, "audio/aiff", "-map 1 -c:a pcm_s16be", proven),
        kind("a.avi", Avi, "video/x-msvideo", VIDEO, proven),
        kind("a.flv", Flv, "video/x-flv", "-c:v flv -c:a aac", proven),
        kind("a.ogg", Ogg, "application/ogg", "-c:v libtheora -c:a libvorbis", proven),
        kind("a.opus", Ogg, "application/ogg", "-map 1 -c:a libopus", proven),
        kind("a.flac", Flac, "audio/flac", "-map 1 -c:a flac", [C, T, T, T, T, U]),
        kind("a.mp3", Mp3, "audio/mpeg", "-map 1 -c:a libmp3lame", proven),
    ]
}

fn made(folder: &Path, name: &str, recipe: &str) -> PathBuf {
    let path = folder.join(name);
    let inputs = [PICTURE, TONE].into_iter().flat_map(str::split_whitespace);
    let run = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-y"])
        .args(inputs)
        .args(recipe.split_whitespace())
        .arg(&path)
        .output()
        .expect("ffmpeg runs");
    assert!(run.status.success(), "{name}: {}", String::from_utf8_lossy(&run.stderr));
    path
}

#[test]
fn whole_cut_and_followed_files_are_told_apart() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let mut wrong = Vec::new();
    for kind in kinds() {
        let path = made(folder, kind.name, kind.recipe);
        let len = size(&path);
        let head = std::fs::read(&path).expect("a file");
        assert_eq!(content_type(&head[..head.len().min(4096)]), Some(kind.media_type), "{}", kind.name);
        let garbage: Vec<u8> = (0..1000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let cuts = [len / 10, len / 2, len * 9 / 10, len - 1];
        let cases = [(len, &[][..], kind.whole), (len, &garbage, kind.followed)];
        let cases =
            cases.into_iter().chain(cuts.into_iter().zip(kind.cut).map(|(cut, verdict)| (cut, &[][..], verdict)));
        for (part, behind, verdict) in cases {
            let (found, reads) = judged(&path, part, behind);
            let trails = verdict == C && found.trailing_bytes != (!behind.is_empty()).then_some(1000);
            if found.verdict != verdict || found.container != kind.container || trails {
                let what = format!("{} of {len} bytes + {}", part, behind.len());
                wrong.push(format!("{}, {what}: not {verdict:?} but {reads} reads, {found:?}", kind.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The files that all other tests use: none of them is called truncated.
#[test]
fn no_good_file_is_called_truncated() {
    for sample in samples::all() {
        let (found, reads) = judged(sample.path(), size(sample.path()), &[]);
        println!("{:14} {:9?} {reads:2} reads {:?}", sample.name, found.verdict, found.evidence);
        assert_ne!(found.verdict, Verdict::Truncated, "{}: {:?}", sample.name, found.evidence);
        assert_ne!(found.container, Container::Unknown, "{}", sample.name);
        let faststart = match (sample.name, found.container) {
            ("faststart" | "fragmented", _) => Some(true),
            (_, Container::Mp4) => Some(false),
            _ => None,
        };
        assert_eq!(found.faststart, faststart, "{}", sample.name);
        assert_eq!(found.fragmented, faststart.map(|_| sample.name == "fragmented"), "{}", sample.name);
    }
}

/// Pieces of files at their places in a file of [`LARGE`] bytes, holes between them.
fn sparse(folder: &Path, name: &str, pieces: &[(u64, &[u8])]) -> PathBuf {
    let path = folder.join(name);
    let file = File::create(&path).expect("a file");
    file.set_len(LARGE).expect("a sparse file");
    for (at, bytes) in pieces {
        file.write_all_at(bytes, *at).expect("a piece");
    }
    path
}

fn position(bytes: &[u8], pattern: &[u8]) -> usize {
    bytes.windows(pattern.len()).position(|window| window == pattern).expect("the pattern is there")
}

/// A box `mdat` with a size of 64 bits.
fn media_header(bytes: u64) -> Vec<u8> {
    [&b"\0\0\0\x01mdat"[..], &bytes.to_be_bytes()].concat()
}

fn large_mp4(folder: &Path, order: [&str; 2]) -> PathBuf {
    let small = std::fs::read(made(folder, "small.mp4", VIDEO)).expect("a file");
    let at = position(&small, b"moov") - 4;
    let (ftyp, moov) = (&small[..usize::from(small[3])], &small[at..]);
    let start = ftyp.len() as u64;
    let media = media_header(LARGE - start - moov.len() as u64);
    if order == ["moov", "mdat"] {
        return sparse(folder, "first.mp4", &[(0, ftyp), (start, moov), (start + moov.len() as u64, &media)]);
    }
    sparse(folder, "last.mp4", &[(0, ftyp), (start, &media), (LARGE - moov.len() as u64, moov)])
}

fn large_mkv(folder: &Path) -> PathBuf {
    let mut small = std::fs::read(made(folder, "small.mkv", VIDEO)).expect("a file");
    let size = position(&small, &[0x18, 0x53, 0x80, 0x67]) + 4;
    let segment = LARGE - size as u64 - 8;
    small[size..size + 8].copy_from_slice(&(1 << 56 | segment).to_be_bytes());
    sparse(folder, "large.mkv", &[(0, &small)])
}

/// The footer moves to the end, and the header, the footer itself and the random index pack say so.
fn large_mxf(folder: &Path) -> PathBuf {
    let mut small = std::fs::read(made(folder, "small.mxf", "-c:v mpeg2video -c:a pcm_s16le")).expect("a file");
    let read = |at: usize, small: &[u8]| u64::from_be_bytes(small[at..at + 8].try_into().expect("eight bytes"));
    // key, a length of four bytes, then versions and sizes up to where this partition and the footer are
    let pack = 16 + usize::from(small[16] & 0x0f) + 1;
    let footer = read(pack + 24, &small) as usize;
    let moved = footer as u64 + LARGE - small.len() as u64;
    let last = small.len() - 12;
    assert_eq!(read(last, &small), footer as u64, "the random index pack names the footer");
    for place in [pack + 24, footer + pack + 8, footer + pack + 24, last] {
        small[place..place + 8].copy_from_slice(&moved.to_be_bytes());
    }
    sparse(folder, "large.mxf", &[(0, &small[..footer]), (moved, &small[footer..])])
}

fn large_wav(folder: &Path) -> PathBuf {
    let mut small =
        std::fs::read(made(folder, "small.rf64.wav", "-map 1 -c:a pcm_s16le -rf64 always -f wav")).expect("a file");
    let data = position(&small, b"data") + 8;
    small[20..28].copy_from_slice(&(LARGE - 8).to_le_bytes());
    small[28..36].copy_from_slice(&(LARGE - data as u64).to_le_bytes());
    sparse(folder, "large.wav", &[(0, &small)])
}

fn large_ts(folder: &Path) -> PathBuf {
    let small = std::fs::read(made(folder, "small.ts", "-c:v mpeg2video -c:a mp2")).expect("a file");
    let end = LARGE - LARGE % 188;
    let path = sparse(folder, "large.ts", &[(0, &small), (end - small.len() as u64, &small)]);
    File::options().write(true).open(&path).expect("a file").set_len(end).expect("whole packets");
    path
}

#[test]
fn fifty_gigabytes_take_a_few_reads() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    for (path, whole, halved) in [
        (large_mp4(folder, ["mdat", "moov"]), C, T),
        (large_mp4(folder, ["moov", "mdat"]), C, T),
        (large_mkv(folder), C, T),
        (large_mxf(folder), C, T),
        (large_wav(folder), C, T),
        (large_ts(folder), U, U),
    ] {
        let len = size(&path);
        let name = path.display();
        for (part, verdict) in [(len, whole), (len - 1, T), (len / 2, halved)] {
            let (found, reads) = judged(&path, part, &[]);
            println!("{name} {part}: {:?} in {reads} reads, {:?}", found.verdict, found.evidence);
            assert_eq!(found.verdict, verdict, "{name}, {part} of {len}: {:?}", found.evidence);
            assert!(reads < 32, "{name}: {reads} reads");
        }
    }
}

/// A clock that runs on says how long the whole would have been; both ends are looked at.
#[test]
fn transport_streams_tell_their_length() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let path = made(folder, "clock.ts", "-c:v mpeg2video -c:a mp2");
    let (found, _) = judged(&path, size(&path), &[]);
    let clock = found.evidence.iter().find(|sentence| sentence.contains("clock")).expect("a clock");
    let seconds: f64 = clock
        .rsplit_once(": ")
        .and_then(|(_, rest)| rest.split(' ').next())
        .expect("a length")
        .parse()
        .expect("a number");
    assert!((1.7..2.1).contains(&seconds), "{clock}");
}
