//! Real media, made by ffmpeg when a test first asks for it, with the facts that ffmpeg was told to make.
//!
//! Used by the tests of the normaliser and by those that go through the API. Files are cached under `target/tmp/samples`,
//! named by what made them, so that parallel tests and later runs share them. A fact is never taken from our own output.

mod audio;
mod hostile;
mod video;

use std::fs::{self, Permissions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, OnceLock};

use serde_json::Value;

use crate::binaries;

pub use hostile::{Hostile, Outcome, hostile};

/// How far a time may be off, in seconds: a frame and some encoder delay.
const TOLERANCE: f64 = 0.06;

/// One second of moving test picture at 29.97 frames per second.
const PICTURE: &str = "-f lavfi -i testsrc2=size=320x180:rate=30000/1001:duration=1";
/// One second of moving test picture at 25 frames per second.
const PICTURE_25: &str = "-f lavfi -i testsrc2=size=320x180:rate=25:duration=1";
/// One second of moving test picture at 50 fields per second, woven into frames, top field first.
const FIELDS: &str = "-f lavfi -i testsrc2=size=320x180:rate=50:duration=1,tinterlace=interleave_top";
/// One second of tone in two channels.
const TONE: &str = "-f lavfi -i sine=frequency=440:sample_rate=48000:duration=1,aformat=channel_layouts=stereo";
/// A picture for a cover.
const COVER: &str = "-f lavfi -i color=red:size=64x48:rate=1:duration=1";

/// Files that recipes may name; they lie in ffmpeg's working directory.
const SIDE_FILES: [(&str, &str); 3] = [
    ("words.srt", "1\n00:00:00,000 --> 00:00:00,900\nHello\n"),
    (
        "chapters.txt",
        ";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=400\ntitle=One\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=400\nEND=1000\ntitle=Two\n",
    ),
    ("letters.ttf", "not a font, but it is attached all the same"),
];

/// A media file and what is true of it.
pub struct Sample {
    /// A short name, such as `mp4` or `hdr10`.
    pub name: &'static str,
    /// The extension ffmpeg chose the container by.
    pub extension: &'static str,
    /// What ffmpeg was told: JSON pointer into `media` → value. Of an object, only the keys given are compared. A pointer
    /// that ends in `/#` is the length of a list. A time (`…_seconds`) is met within [`TOLERANCE`], everything else
    /// exactly, null included.
    pub facts: Value,
    recipe: Vec<&'static str>,
    finish: fn(Vec<u8>) -> Vec<u8>,
    made: OnceLock<PathBuf>,
}

impl Sample {
    pub(crate) fn new(name: &'static str, extension: &'static str, recipe: &[&'static str], facts: Value) -> Self {
        let recipe = recipe.iter().flat_map(|part| part.split_whitespace()).collect();
        Self { name, extension, facts, recipe, finish: |bytes| bytes, made: OnceLock::new() }
    }

    /// Changes the bytes that ffmpeg wrote, for what it has no option for.
    fn finished_by(mut self, finish: fn(Vec<u8>) -> Vec<u8>) -> Self {
        self.finish = finish;
        self
    }

    /// Where the file is; made now if it is not there yet.
    pub fn path(&self) -> &Path {
        self.made.get_or_init(|| {
            let mut key = DefaultHasher::new();
            (encoder(), &self.recipe, SIDE_FILES, self.name).hash(&mut key);
            let path = folder().join(format!("{}-{:016x}.{}", self.name, key.finish(), self.extension));
            if !path.exists() {
                publish(&path, &(self.finish)(self.make()));
            }
            path
        })
    }

    fn make(&self) -> Vec<u8> {
        let scratch = tempfile::tempdir_in(folder()).expect("a scratch folder");
        for (name, text) in SIDE_FILES {
            fs::write(scratch.path().join(name), text).expect("a side file");
        }
        let output = format!("output.{}", self.extension);
        let made = Command::new("ffmpeg")
            .args(["-nostdin", "-v", "error"])
            .args(&self.recipe)
            .arg(&output)
            .current_dir(scratch.path())
            .output()
            .expect("ffmpeg runs");
        let complaint = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "ffmpeg could not make the sample {}: {complaint}", self.name);
        fs::read(scratch.path().join(output)).expect("ffmpeg's file")
    }

    /// What `media` says otherwise than ffmpeg was told, one readable line each.
    pub fn differences(&self, media: &Value) -> Vec<String> {
        let mut differences = Vec::new();
        for (pointer, told) in self.facts.as_object().expect("facts are an object") {
            let found = match pointer.strip_suffix("/#") {
                Some(list) => media.pointer(list).and_then(Value::as_array).map(|list| Value::from(list.len())),
                None => media.pointer(pointer).cloned(),
            };
            compare(pointer, told, found.as_ref(), &mut differences);
        }
        differences.into_iter().map(|difference| format!("{} {difference}", self.name)).collect()
    }
}

fn compare(pointer: &str, told: &Value, found: Option<&Value>, differences: &mut Vec<String>) {
    let Some(found) = found else {
        return differences.push(format!("{pointer}: ffmpeg was told {told}, media says nothing"));
    };
    match (told, found) {
        (Value::Object(told), Value::Object(found)) if !told.is_empty() => {
            for (key, told) in told {
                compare(&format!("{pointer}/{key}"), told, found.get(key), differences);
            }
        }
        _ if told == found || (pointer.ends_with("_seconds") && near(told, found)) => {}
        _ => differences.push(format!("{pointer}: ffmpeg was told {told}, media says {found}")),
    }
}

fn near(told: &Value, found: &Value) -> bool {
    told.as_f64().zip(found.as_f64()).is_some_and(|(told, found)| (told - found).abs() <= TOLERANCE)
}

/// Every media sample: all of them are good files.
pub fn all() -> &'static [Sample] {
    static ALL: LazyLock<Vec<Sample>> = LazyLock::new(|| {
        let mut samples = video::samples();
        samples.extend(audio::samples());
        samples
    });
    &ALL
}

/// Makes every sample that is not there yet, two at a time.
pub fn make_all() {
    let next = AtomicUsize::new(0);
    let make = || {
        while let Some(sample) = all().get(next.fetch_add(1, Ordering::Relaxed)) {
            sample.path();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(make);
        scope.spawn(make);
    });
}

/// The path of a sample or hostile file by its name, made now if it is not there yet.
pub fn path(name: &str) -> PathBuf {
    let sample = all().iter().find(|sample| sample.name == name).map(|sample| sample.path().to_owned());
    let hostile = || hostile().iter().find(|hostile| hostile.name == name).map(Hostile::path);
    sample.or_else(hostile).unwrap_or_else(|| panic!("there is no sample {name}"))
}

/// The cache: `target/tmp/samples`, whatever runs.
pub(crate) fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = binaries::profile().parent().expect("target").join("tmp/samples");
        fs::create_dir_all(&folder).expect("target is writable");
        folder
    })
}

/// What ffmpeg says of itself; another release makes other files.
fn encoder() -> &'static str {
    static VERSION: OnceLock<String> = OnceLock::new();
    VERSION.get_or_init(|| {
        let said = Command::new("ffmpeg").arg("-version").output().expect("ffmpeg is installed").stdout;
        String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned()
    })
}

/// Writes a file under another name and renames it, so that no test ever sees half of it.
pub(crate) fn publish(path: &Path, bytes: &[u8]) {
    let unfinished = tempfile::NamedTempFile::new_in(folder()).expect("a temporary file");
    fs::write(unfinished.path(), bytes).expect("the sample is written");
    // Temporary files are private; a worker under another user has to read this one.
    fs::set_permissions(unfinished.path(), Permissions::from_mode(0o644)).expect("the sample becomes readable");
    unfinished.persist(path).expect("the sample is renamed");
}
