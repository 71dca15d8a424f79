//! Which formats ffprobe may recognise: an allow-list, because what is left out can name other files, or matches anything.
//! Pure; called by [`super::arguments`].

use shared::job::Accept;

/// Containers and elementary streams, by the names of `ffprobe -demuxers` (a name with commas is one demuxer). Left out
/// on purpose: playlists and manifests (hls, dash, concat, imf, sdp), which name other files; images and image
/// sequences; text and subtitles; game formats; trackers; devices; headerless formats, which match anything.
#[rustfmt::skip]
const MEDIA: &[&str] = &[
    // containers
    "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "mpegts", "mpeg", "mxf", "gxf", "lxf", "avi", "asf", "asf_o",
    "flv", "ogg", "nut", "rm", "ivr", "wtv", "nsv", "nuv", "ty", "pva", "pmp", "dv", "ivf", "r3d", "cine", "mxg",
    "dhav", "yuv4mpegpipe",
    // audio
    "wav", "w64", "aiff", "au", "caf", "flac", "mp3", "aac", "ac3", "eac3", "dts", "dtshd", "truehd", "mlp", "loas", "amr",
    "ape", "mpc", "mpc8", "wv", "tta", "tak", "shn", "dsf", "iff", "oma", "qcp", "voc", "avr", "ircam", "sox", "nistsphere",
    "spdif", "s337m",
    // video without a container
    "h264", "hevc", "vvc", "av1", "obu", "mpegvideo", "m4v", "h261", "h263", "vc1", "vc1test", "dirac", "dnxhd", "cavsvideo",
    "avs2", "avs3", "evc",
];

/// Still images, and what moves but is no video to most people. By content only: the demuxer that reads numbered sequences
/// (image2) stays out.
const IMAGES: &[&str] = &[
    "png_pipe",
    "jpeg_pipe",
    "jpegls_pipe",
    "jpegxl_pipe",
    "j2k_pipe",
    "webp_pipe",
    "tiff_pipe",
    "bmp_pipe",
    "psd_pipe",
    "exr_pipe",
    "dpx_pipe",
    "dds_pipe",
    "qoi_pipe",
    "pbm_pipe",
    "pgm_pipe",
    "ppm_pipe",
    "pam_pipe",
    "pfm_pipe",
    "pcx_pipe",
    "sgi_pipe",
    "sunrast_pipe",
    "gif",
    "gif_pipe",
    "apng",
    "ico",
];

/// Subtitles in files of their own. Those that come in two files (VobSub) stay out.
const SUBTITLES: &[&str] = &[
    "srt",
    "webvtt",
    "ass",
    "microdvd",
    "mpl2",
    "vplayer",
    "subviewer",
    "subviewer1",
    "sami",
    "realtext",
    "stl",
    "scc",
    "mcc",
    "lrc",
    "jacosub",
    "pjs",
    "aqtitle",
    "sup",
];

/// Plain text, as the output of a terminal.
const TEXT: &[&str] = &["tty"];

/// The names that ffprobe may recognise, for `-format_whitelist`.
pub(super) fn names(accept: &[Accept]) -> String {
    let more = accept.iter().flat_map(|kind| match kind {
        Accept::Image => IMAGES,
        Accept::Subtitle => SUBTITLES,
        Accept::Text => TEXT,
    });
    MEDIA.iter().chain(more).copied().collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const ALL: [Accept; 3] = [Accept::Image, Accept::Subtitle, Accept::Text];

    #[test]
    fn nothing_that_names_other_files_is_ever_read() {
        let all = names(&ALL);
        for name in [
            "hls",
            "dash",
            "concat",
            "imf",
            "sdp",
            "image2",
            "image2pipe",
            "vobsub",
            "lavfi",
            "data",
            "svg_pipe",
            "rtsp",
        ] {
            assert!(!all.split(',').any(|known| known == name), "{name}");
        }
        let unique: BTreeSet<_> = all.split(',').collect();
        assert_eq!(unique.len(), all.split(',').count());
        assert!(!all.contains(",,") && !all.contains(' '));
    }

    #[test]
    fn text_and_pictures_are_read_on_request_only() {
        let usual = names(&[]);
        assert!(!usual.split(',').any(|n| ["tty", "srt", "webvtt", "lrc", "gif"].contains(&n) || n.ends_with("_pipe")));
        assert!(names(&[Accept::Image]).contains("png_pipe") && !names(&[Accept::Image]).contains("srt"));
        assert!(names(&[Accept::Text]).ends_with(",tty"));
    }
}
