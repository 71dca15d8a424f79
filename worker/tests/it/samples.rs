//! Small real files, made by ffmpeg once and kept beside the build. The name of each carries a hash of how it was made.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

fn made(name: &str, arguments: &[&str]) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    arguments.hash(&mut hasher);
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = dir.join(format!("{:016x}-{name}", hasher.finish()));
    if !path.exists() {
        // a run that was interrupted, or another at the same time, leaves no half file
        let part = dir.join(format!("{}-{name}", std::process::id()));
        let status = Command::new("ffmpeg").args(["-v", "error", "-y"]).args(arguments).arg(&part).status().unwrap();
        assert!(status.success(), "ffmpeg failed to make {name}");
        std::fs::rename(part, &path).unwrap();
    }
    path
}

/// Two seconds of H.264 and AAC; the index (moov) stands at the end.
pub(crate) fn mp4() -> PathBuf {
    let video = ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=2", "-f", "lavfi", "-i", "sine=d=2"];
    made("plain.mp4", &[&video[..], &["-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac"]].concat())
}

/// One second of HDR10, whose mastering display and light levels stand in the frames only.
pub(crate) fn hdr10() -> PathBuf {
    let x265 = "log-level=none:hdr10=1:repeat-headers=1:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:\
        master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1):max-cll=1000,400";
    let input = ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=1", "-pix_fmt", "yuv420p10le"];
    made("hdr10.mkv", &[&input[..], &["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", x265]].concat())
}

/// The same as a transport stream.
pub(crate) fn hdr10_ts() -> PathBuf {
    let source = hdr10();
    made("hdr10.ts", &["-i", source.to_str().unwrap(), "-c", "copy"])
}

/// One second of sound with a picture as its cover.
pub(crate) fn cover() -> PathBuf {
    let inputs =
        ["-f", "lavfi", "-i", "sine=d=1", "-f", "lavfi", "-i", "testsrc2=s=64x64:d=0.04", "-map", "0", "-map", "1"];
    made("cover.mp3", &[&inputs[..], &["-c:v", "mjpeg", "-frames:v", "1", "-disposition:v:0", "attached_pic"]].concat())
}

/// A FLAC file.
pub(crate) fn flac() -> PathBuf {
    made("sound.flac", &["-f", "lavfi", "-i", "sine=d=1"])
}

/// A still image.
pub(crate) fn png() -> PathBuf {
    made("still.png", &["-f", "lavfi", "-i", "testsrc2=s=64x64:d=0.04", "-frames:v", "1"])
}
