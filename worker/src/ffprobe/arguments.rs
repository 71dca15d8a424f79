//! The arguments ffprobe is given. Nothing a client sends ever becomes one: the input is standard input under a fixed name,
//! or a server of ours on loopback under a random one, so that no file name is read as an option, a pattern or an address.

use shared::job::Profile;

use super::first_frame::Wanted;
use super::{Probe, formats};
use crate::jail::Input;

/// The input as ffprobe is told it: standard input, opened anew (so it can seek), under a name without extension (so
/// only the content decides the format: an extension alone can make ffprobe read 50 GB of zeros as MP3).
pub const INPUT: &str = "file:/dev/fd/0";

/// A remote input as results name it. The real address holds a random word that nobody needs to know.
pub const REMOTE_INPUT: &str = "http://127.0.0.1/input";

/// Most streams of a file; more are left out and the result is degraded. Contribution feeds have under 100; a bomb of
/// 29 MB has 1,000 and takes 1.1 GB.
pub(super) const MAX_STREAMS: &str = "256";
/// Largest single allocation in bytes. The index of a track with 10 million samples fits; a bomb's index of 30 million
/// is refused, which leaves the probe at 53 MB instead of 5.6 GB.
const MAX_ALLOC: &str = "268435456";
/// The same as a number.
pub(super) const MAX_ALLOC_BYTES: u64 = 268_435_456;

/// How little the profile `quick` reads: enough to see the streams of a transport stream, and no waiting for more. Fields that
/// need decoded media may be missing.
const QUICK: [&str; 4] = ["-probesize", "500000", "-analyzeduration", "0"];

/// The arguments of a profile's main run.
pub(super) fn main(probe: &Probe) -> Vec<String> {
    match probe.profile {
        Profile::Quick => around(&[&QUICK[..], &DESCRIBE[..]].concat(), &JSON, probe),
        Profile::Standard | Profile::Packets | Profile::Frames => around(&DESCRIBE, &JSON, probe),
    }
}

/// The arguments of the run that takes the input for plain text, as ffprobe never does by itself without a name.
pub(super) fn text(probe: &Probe) -> Vec<String> {
    around(&[&["-f", "tty"], &DESCRIBE[..]].concat(), &JSON, probe)
}

/// The arguments of a scan: `show` says what is written, and how (`-of`).
pub(super) fn scan(show: &[&str], probe: &Probe) -> Vec<String> {
    around(show, &[], probe)
}

/// The same arguments, as they may be shown to clients.
pub(super) fn shown(arguments: &[String], input: &Input) -> Vec<String> {
    let mut shown = arguments.to_vec();
    if let (Input::Loopback(_), Some(last)) = (input, shown.last_mut()) {
        REMOTE_INPUT.clone_into(last);
    }
    shown
}

/// The arguments of the run that reads one key frame of one video stream.
pub(super) fn first_frame(wanted: &Wanted, probe: &Probe) -> Vec<String> {
    let (stream, packets) = (wanted.stream.to_string(), format!("%+#{}", wanted.packets));
    // skipping all but key frames costs nothing where the first packet is one, and keeps ffprobe from decoding a
    // stream that was cut in the middle until then
    let show = ["-select_streams", &stream, "-skip_frame", "nokey", "-show_frames", "-read_intervals", &packets];
    around(&show, &JSON, probe)
}

const JSON: [&str; 2] = ["-of", "json=c=1"];
const DESCRIBE: [&str; 4] = ["-show_format", "-show_streams", "-show_chapters", "-show_programs"];

fn around(show: &[&str], form: &[&str], probe: &Probe) -> Vec<String> {
    let formats = formats::names(&probe.accept);
    let (protocols, address) = match &probe.input {
        Input::File(_) => ("file", INPUT.to_owned()),
        Input::Loopback(server) => ("http,tcp", format!("http://127.0.0.1:{}{}", server.port, server.path)),
    };
    // the plus keeps what is set already: like messages in a row are counted, not repeated
    let before =
        ["-v", "+level+warning", "-hide_banner", "-show_error", "-protocol_whitelist", protocols, "-format_whitelist"];
    let limits = [formats.as_str(), "-max_streams", MAX_STREAMS, "-max_alloc", MAX_ALLOC];
    before.iter().chain(&limits).chain(form).chain(show).chain(&["-i", &address]).map(|a| (*a).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jail::Loopback;

    #[test]
    fn the_largest_allocation_is_one_number() {
        assert_eq!(MAX_ALLOC.parse(), Ok(MAX_ALLOC_BYTES));
    }

    #[test]
    fn the_input_is_always_last_and_always_ours() {
        let runs = |probe: &Probe| {
            let frame = first_frame(&Wanted { stream: 3, packets: 1 }, probe);
            [main(probe), text(probe), frame, scan(&["-show_packets", "-of", "csv"], probe)]
        };
        let file = Probe::new(std::fs::File::open("/dev/null").unwrap(), Profile::Standard);
        for arguments in runs(&file) {
            assert_eq!(arguments[arguments.len() - 2..], ["-i", INPUT]);
            assert!(arguments.windows(2).any(|w| w == ["-protocol_whitelist", "file"]));
            assert_eq!(shown(&arguments, &file.input), arguments);
        }
        let serve_on = std::sync::Arc::new(|_| Ok(()));
        let server = Input::Loopback(Loopback { port: 7, path: "/secret".into(), serve_on });
        let server = Probe::of(server, Profile::Quick);
        for arguments in runs(&server) {
            assert_eq!(arguments[arguments.len() - 2..], ["-i", "http://127.0.0.1:7/secret"]);
            assert!(arguments.windows(2).any(|w| w == ["-protocol_whitelist", "http,tcp"]));
            assert!(!shown(&arguments, &server.input).concat().contains("secret"));
        }
    }
}
