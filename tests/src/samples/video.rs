//! Samples with moving pictures. Listed by [`super::all`].

use serde_json::json;

use super::{FIELDS, PICTURE, PICTURE_25, Sample, TONE};

/// H.264 that is quick to make and still High profile.
const H264: &str = "-c:v libx264 -preset superfast -threads 1";
/// HEVC in ten bits, wide colours; the transfer follows.
const HEVC: &str = "-c:v libx265 -preset ultrafast -pix_fmt yuv420p10le -tag:v hvc1 -x265-params";

pub(super) fn samples() -> Vec<Sample> {
    let everyday = [mp4(), faststart(), mov(), mkv(), webm(), ts(), mxf(), avi()];
    let special = [vfr(), vfr_mkv(), fragmented(), phone(), hdr10(), hlg(), ten_bit(), interlaced(), interlaced_mxf()];
    everyday.into_iter().chain(special).collect()
}

fn mp4() -> Sample {
    let recipe = [
        PICTURE,
        TONE,
        H264,
        "-profile:v high -level 3.1 -pix_fmt yuv420p",
        "-color_range tv -colorspace bt709 -color_primaries bt709 -color_trc bt709",
        "-c:a aac -b:a 96k -metadata:s:a:0 language=eng -metadata creation_time=2024-05-06T07:08:09Z",
    ];
    let facts = json!({
        "/schema_version": 1, "/video/#": 1, "/audio/#": 1, "/subtitles/#": 0, "/data/#": 0,
        "/attachments/#": 0, "/chapters/#": 0, "/programs/#": 0,
        "/container": {
            "format": "mp4", "brand": "isom", "duration_seconds": 1.001, "start_seconds": 0.0,
            "created_at": "2024-05-06T07:08:09Z", "timecode": null,
        },
        "/video/0": {
            "index": 0, "codec": "h264", "codec_tag": "avc1", "profile": "High", "level": "3.1", "width": 320,
            "height": 180, "id": "0x1", "sample_aspect_ratio": "1:1", "display_aspect_ratio": "16:9",
            "rotation": 0, "frame_rate": {"num": 30000, "den": 1001, "mode": "constant"}, "frame_count": 30,
            "pixel_format": "yuv420p", "chroma_subsampling": "4:2:0", "bit_depth": 8,
            "scan_type": "progressive", "field_order": null,
            "color": {"range": "tv", "primaries": "bt709", "transfer": "bt709", "matrix": "bt709"},
            "hdr": {"formats": [], "max_cll": null, "max_fall": null, "mastering_display": null, "dolby_vision": null},
            "duration_seconds": 1.001, "disposition": ["default"], "language": null,
        },
        "/audio/0": {
            "index": 1, "codec": "aac", "channels": 2, "channel_layout": "stereo", "sample_rate": 48000,
            "bit_depth": null, "language": "eng", "id": "0x2", "duration_seconds": 1.0,
        },
    });
    Sample::new("mp4", "mp4", &recipe, facts)
}

fn faststart() -> Sample {
    let recipe = [PICTURE_25, H264, "-vf setsar=4/3 -movflags +faststart -brand mp42"];
    let facts = json!({
        "/container": { "format": "mp4", "brand": "mp42", "duration_seconds": 1.0 },
        "/video/0": {
            "frame_rate": {"num": 25, "den": 1, "mode": "constant"}, "frame_count": 25,
            "sample_aspect_ratio": "4:3", "display_aspect_ratio": "64:27",
        },
        "/audio/#": 0,
    });
    Sample::new("faststart", "mp4", &recipe, facts)
}

fn mov() -> Sample {
    let recipe = [
        PICTURE,
        TONE,
        "-c:v prores_ks -profile:v 3 -qscale:v 24 -pix_fmt yuv422p10le -c:a pcm_s24le -timecode 01:00:00;00",
        "-vf setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709",
    ];
    let facts = json!({
        "/container": {
            "format": "mov", "brand": "qt", "timecode": {"start": "01:00:00;00", "drop_frame": true},
        },
        "/video/0": {
            "codec": "prores", "codec_tag": "apch", "profile": "HQ", "level": null,
            "frame_rate": {"num": 30000, "den": 1001, "mode": "constant"}, "bit_depth": 10,
            "chroma_subsampling": "4:2:2", "scan_type": "progressive", "hdr": {"formats": []},
            "color": {"primaries": "bt709", "transfer": "bt709", "matrix": "bt709"},
        },
        "/data/#": 1,
        "/audio/0": { "codec": "pcm_s24le", "bit_depth": 24, "bit_rate": 2 * 24 * 48000 },
        "/data/0": { "codec": null, "codec_tag": "tmcd" },
    });
    Sample::new("mov", "mov", &recipe, facts)
}

fn mkv() -> Sample {
    let recipe = [
        PICTURE,
        TONE,
        "-f lavfi -i sine=frequency=880:sample_rate=44100:duration=1 -i words.srt -i chapters.txt",
        "-map 0 -map 1 -map 2 -map 3 -map 3 -map_chapters 4",
        H264,
        "-c:a:0 ac3 -b:a:0 96k -c:a:1 flac -c:s:0 subrip -c:s:1 ass -attach letters.ttf -metadata:s:t mimetype=font/ttf",
        "-metadata:s:a:0 language=eng -metadata:s:a:1 language=deu -metadata:s:s:0 language=eng -metadata:s:s:1 language=fra",
        "-metadata:s:a:1 title=Kommentar -disposition:a:0 default -disposition:a:1 comment -disposition:s:1 forced",
    ];
    let facts = json!({
        "/container": { "format": "matroska", "brand": null },
        "/video/0": {
            "codec": "h264", "codec_tag": null, "id": null, "duration_seconds": 1.001,
            // FFmpeg declares the nominal rate in Matroska for variable files too, so the headers prove no mode.
            "frame_rate": {"num": 30000, "den": 1001, "mode": null}, "frame_count": null, "bit_rate": null,
        },
        "/audio/#": 2, "/subtitles/#": 2, "/attachments/#": 1, "/chapters/#": 2,
        "/audio/0": { "codec": "ac3", "language": "eng", "disposition": ["default"], "bit_rate": 96000 },
        "/audio/1": {
            "codec": "flac", "language": "deu", "title": "Kommentar", "sample_rate": 44100,
            "disposition": ["comment"], "duration_seconds": 1.0, "bit_depth": 16,
        },
        "/subtitles/0": { "index": 3, "codec": "subrip", "language": "eng" },
        "/subtitles/1": { "codec": "ass", "language": "fra", "disposition": ["forced"] },
        "/attachments/0": {
            "kind": "attachment", "filename": "letters.ttf", "mimetype": "font/ttf", "size_bytes": 43,
        },
        "/chapters/0": { "title": "One", "start_seconds": 0.0, "end_seconds": 0.4 },
        "/chapters/1": { "title": "Two", "end_seconds": 1.0 },
    });
    Sample::new("mkv", "mkv", &recipe, facts)
}

fn webm() -> Sample {
    let recipe = [PICTURE, TONE, "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -b:v 200k -c:a libopus"];
    let facts = json!({
        "/container": { "format": "webm" },
        "/video/0": {
            "codec": "vp9", "profile": "Profile 0", "bit_depth": 8, "duration_seconds": 1.001,
            "frame_rate": {"num": 30000, "den": 1001, "mode": null},
        },
        "/audio/0": {
            "codec": "opus", "channels": 2, "sample_rate": 48000, "bit_depth": null, "start_seconds": 0.0,
        },
    });
    Sample::new("webm", "webm", &recipe, facts)
}

fn ts() -> Sample {
    let recipe = [
        PICTURE_25,
        TONE,
        "-f lavfi -i sine=frequency=880:sample_rate=48000:duration=1 -map 0 -map 1 -map 2",
        "-c:v mpeg2video -pix_fmt yuv420p -c:a mp2 -b:a 192k",
        "-metadata:s:a:0 language=eng -metadata:s:a:1 language=fra -streamid 0:513 -streamid 1:514",
        "-program title=News:program_num=7:st=0:st=1 -program title=Radio:program_num=8:st=2",
    ];
    let facts = json!({
        "/container": { "format": "mpegts", "start_seconds": 1.4, "duration_seconds": 1.0 },
        "/video/0": {
            "codec": "mpeg2video", "codec_tag": "0x0002", "id": "0x201", "profile": "Main", "level": "Main",
            "frame_rate": {"num": 25, "den": 1, "mode": "constant"}, "scan_type": "progressive",
        },
        "/audio/#": 2, "/programs/#": 2,
        "/audio/0": { "codec": "mp2", "id": "0x202", "bit_rate": 192_000, "language": "eng" },
        "/audio/1": { "language": "fra", "channels": 1 },
        "/programs/0": { "number": 7, "name": "News", "tracks": [0, 1] },
        "/programs/1": { "number": 8, "name": "Radio", "tracks": [2] },
    });
    Sample::new("ts", "ts", &recipe, facts)
}

fn mxf() -> Sample {
    let recipe = [PICTURE_25, TONE, "-c:v mpeg2video -pix_fmt yuv420p -g 12 -c:a pcm_s16le -timecode 10:00:00:00"];
    let facts = json!({
        "/container": {
            "format": "mxf", "timecode": {"start": "10:00:00:00", "drop_frame": false}, "duration_seconds": 1.0,
        },
        "/video/0": {
            "codec": "mpeg2video", "frame_rate": {"num": 25, "den": 1, "mode": "constant"}, "codec_tag": null,
            "frame_count": 25, "duration_seconds": 1.0,
        },
        "/audio/0": {
            "codec": "pcm_s16le", "channels": 2, "channel_layout": null, "bit_depth": 16, "sample_rate": 48000,
        },
    });
    Sample::new("mxf", "mxf", &recipe, facts)
}

fn avi() -> Sample {
    let recipe = [PICTURE_25, TONE, "-c:v mpeg4 -vtag XVID -bf 0 -c:a libmp3lame"];
    let facts = json!({
        "/container": { "format": "avi" },
        "/video/0": {
            "codec": "mpeg4", "codec_tag": "XVID", "frame_rate": {"num": 25, "den": 1, "mode": "constant"},
        },
        "/audio/0": { "codec": "mp3" },
    });
    Sample::new("avi", "avi", &recipe, facts)
}

/// Fifteen frames at 29.97 and fifteen at half of that.
const UNEVEN: &str = "-vf setpts='if(lt(N,15),N*1001,15*1001+(N-15)*2002)/30000/TB' -fps_mode vfr";

fn vfr() -> Sample {
    let facts = json!({
        "/video/0": {
            "frame_rate": {"num": 225_000, "den": 11011, "mode": "variable"}, "frame_count": 30,
            "duration_seconds": 1.468,
        },
    });
    Sample::new("vfr", "mp4", &[PICTURE, UNEVEN, H264, "-bf 0"], facts)
}

fn vfr_mkv() -> Sample {
    let facts = json!({
        "/container": { "format": "matroska" },
        "/video/0": { "frame_rate": {"mode": null}, "duration_seconds": 1.468 },
    });
    Sample::new("vfr_mkv", "mkv", &[PICTURE, UNEVEN, H264, "-bf 0"], facts)
}

fn fragmented() -> Sample {
    let recipe = [PICTURE_25, H264, "-movflags +frag_keyframe+empty_moov+default_base_moof"];
    let facts = json!({
        "/container": { "format": "mp4", "duration_seconds": 1.0 },
        "/video/0": { "frame_count": null, "frame_rate": {"num": 25, "den": 1, "mode": null} },
    });
    Sample::new("fragmented", "mp4", &recipe, facts)
}

fn phone() -> Sample {
    let facts = json!({
        "/video/0": { "rotation": 90, "width": 320, "height": 180, "display_aspect_ratio": "16:9" },
    });
    Sample::new("phone", "mp4", &[PICTURE, H264], facts).finished_by(turned_clockwise)
}

/// Puts the matrix of a phone held upright (ISO/IEC 14496-12, 8.3.2: a quarter turn clockwise) into the track header. ffmpeg's
/// options for this changed their name and their direction between releases.
fn turned_clockwise(mut bytes: Vec<u8>) -> Vec<u8> {
    let name = bytes.windows(4).position(|four| four == b"tkhd").expect("a track header");
    let fixed = |number: i32| number.to_be_bytes();
    let (zero, one) = (fixed(0), fixed(0x1_0000));
    let matrix = [zero, one, zero, fixed(-0x1_0000), zero, zero, fixed(180 << 16), zero, fixed(0x4000_0000)];
    bytes[name + 44..name + 80].copy_from_slice(&matrix.concat());
    bytes
}

fn hdr10() -> Sample {
    let parameters = "log-level=error:hdr10=1:repeat-headers=1:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:\
        range=limited:master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):max-cll=1000,400";
    let facts = json!({
        "/video/0": {
            "codec": "hevc", "codec_tag": "hvc1", "profile": "Main 10", "bit_depth": 10,
            "chroma_subsampling": "4:2:0",
            "color": {"range": "tv", "primaries": "bt2020", "transfer": "smpte2084", "matrix": "bt2020nc"},
            "hdr": { "formats": ["HDR10"], "max_cll": 1000, "max_fall": 400, "dolby_vision": null, "basis": "first_frame", "mastering_display": { "red": {"x": 0.68, "y": 0.32}, "green": {"x": 0.265, "y": 0.69}, "blue": {"x": 0.15, "y": 0.06}, "white_point": {"x": 0.3127, "y": 0.329}, "min_luminance": 0.005, "max_luminance": 1000.0, }, },
        },
    });
    Sample::new("hdr10", "mp4", &[PICTURE, HEVC, parameters], facts)
}

fn hlg() -> Sample {
    let parameters = "log-level=error:colorprim=bt2020:transfer=arib-std-b67:colormatrix=bt2020nc";
    let facts = json!({
        "/video/0": { "color": {"transfer": "arib-std-b67"}, "hdr": {"formats": ["HLG"], "max_cll": null} },
    });
    Sample::new("hlg", "mp4", &[PICTURE, HEVC, parameters], facts)
}

fn ten_bit() -> Sample {
    let facts = json!({
        "/video/0": {
            "profile": "High 4:2:2", "pixel_format": "yuv422p10le", "bit_depth": 10,
            "chroma_subsampling": "4:2:2", "color": {"transfer": null},
            // Ten bits without a word about the transfer may be anything.
            "hdr": {"formats": null, "basis": "first_frame"},
        },
    });
    Sample::new("ten_bit", "mp4", &[PICTURE, H264, "-pix_fmt yuv422p10le"], facts)
}

fn interlaced() -> Sample {
    let recipe = [FIELDS, "-vf setfield=tff -r 25", H264, "-x264opts interlaced=1:tff=1"];
    let facts = json!({
        "/container": { "format": "mpegts" },
        "/video/0": {
            "codec": "h264", "scan_type": "interlaced", "field_order": "tt",
            // A transport stream tells the rate, and only a reading of all packets that it holds.
            "frame_rate": {"num": 25, "den": 1, "mode": null},
        },
    });
    Sample::new("interlaced", "ts", &recipe, facts)
}

fn interlaced_mxf() -> Sample {
    let recipe =
        [FIELDS, "-vf setfield=tff -r 25 -c:v mpeg2video -pix_fmt yuv422p -flags +ilme+ildct -g 12 -dc 10 -b:v 5M"];
    let facts = json!({
        "/container": { "format": "mxf" },
        "/video/0": {
            "profile": "4:2:2", "level": "Main", "chroma_subsampling": "4:2:2", "bit_depth": 8,
            "scan_type": "interlaced", "field_order": "tt",
            "frame_rate": {"num": 25, "den": 1, "mode": "constant"},
        },
    });
    Sample::new("interlaced_mxf", "mxf", &recipe, facts)
}
