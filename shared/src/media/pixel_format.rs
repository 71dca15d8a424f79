//! What FFmpeg's names of pixel formats say: bits per component and chroma subsampling. Used by [`super::video`].
//! Reads the name by its grammar, not from a list, so new formats of a known family work; others are unknown.

/// Bits per component, such as 10 for `yuv420p10le`.
pub(super) fn bit_depth(pixel_format: &str) -> Option<u32> {
    let name = native(pixel_format);
    let explicit = match name {
        "monow" | "monob" => Some(1),
        "rgb444" | "bgr444" => Some(4),
        "rgb555" | "bgr555" => Some(5),
        "nv20" => Some(10),
        "pal8" | "nv12" | "nv16" | "nv21" | "nv24" | "nv42" | "yuyv422" | "uyvy422" | "yvyu422" | "uyyvyy411" => {
            Some(8)
        }
        "rgb24" | "bgr24" | "rgba" | "bgra" | "argb" | "abgr" | "rgb0" | "bgr0" | "0rgb" | "0bgr" => Some(8),
        "vuya" | "vuyx" | "vyu444" | "ayuv" | "uyva" => Some(8),
        "rgb48" | "bgr48" | "rgba64" | "bgra64" | "ayuv64" => Some(16),
        "rgb96f" | "rgba128f" => Some(32),
        "rgbf16" | "rgbaf16" => Some(16),
        "rgbf32" | "rgbaf32" => Some(32),
        _ => None,
    };
    explicit.or_else(|| packed_depth(name)).or_else(|| planar_depth(name))
}

/// Chroma subsampling, such as `4:2:0`. RGB counts as `4:4:4` and grey as `4:0:0`; palettes and raw sensor data have none.
pub(super) fn chroma_subsampling(pixel_format: &str) -> Option<&'static str> {
    let name = native(pixel_format);
    let planar = ["yuva", "yuvj", "yuv"].iter().find_map(|prefix| name.strip_prefix(prefix)?.get(..3));
    match planar {
        Some("420") => return Some("4:2:0"),
        Some("422") => return Some("4:2:2"),
        Some("444") => return Some("4:4:4"),
        Some("411") => return Some("4:1:1"),
        Some("410") => return Some("4:1:0"),
        Some("440") => return Some("4:4:0"),
        _ => {}
    }
    match name {
        "nv12" | "nv21" => return Some("4:2:0"),
        "nv16" | "nv20" | "yuyv422" | "uyvy422" | "yvyu422" => return Some("4:2:2"),
        "nv24" | "nv42" | "vuya" | "vuyx" | "vyu444" | "ayuv" | "uyva" | "ayuv64" => return Some("4:4:4"),
        "uyyvyy411" => return Some("4:1:1"),
        _ => {}
    }
    let subsampled = [("p0", "4:2:0"), ("p2", "4:2:2"), ("p4", "4:4:4"), ("y2", "4:2:2"), ("xv", "4:4:4")];
    let packed =
        subsampled.iter().find(|(prefix, _)| name.starts_with(prefix)).filter(|_| packed_depth(name).is_some());
    if let Some((_, subsampling)) = packed {
        return Some(subsampling);
    }
    let rgb = ["gbr", "rgb", "bgr", "argb", "abgr", "0rgb", "0bgr", "x2rgb", "x2bgr", "xyz"];
    if rgb.iter().any(|prefix| name.starts_with(prefix)) {
        return Some("4:4:4");
    }
    (name.starts_with("gray") || name == "ya8" || name == "ya16").then_some("4:0:0")
}

/// The name without its byte order.
fn native(pixel_format: &str) -> &str {
    pixel_format.strip_suffix("le").or_else(|| pixel_format.strip_suffix("be")).unwrap_or(pixel_format)
}

/// Packed and semi-planar families whose name ends in the depth: `p010`, `p216`, `y212`, `xv36`, `x2rgb10`, `xyz12`.
fn packed_depth(name: &str) -> Option<u32> {
    match name {
        "xv30" | "v30x" => return Some(10),
        "xv36" => return Some(12),
        "xv48" => return Some(16),
        "xyz12" => return Some(12),
        "x2rgb10" | "x2bgr10" => return Some(10),
        _ => {}
    }
    let &[family @ (b'p' | b'y'), b'0' | b'2' | b'4', tens, units] = name.as_bytes() else { return None };
    match (family, tens, units) {
        (_, b'1', b'0') => Some(10),
        (_, b'1', b'2') => Some(12),
        (_, b'1', b'6') => Some(16),
        _ => None,
    }
}

/// Planar families: the depth follows the layout, `yuv422p10`, `gbrap12`, `gray16`; none means 8, `f32` means float.
fn planar_depth(name: &str) -> Option<u32> {
    let yuv = ["yuva", "yuvj", "yuv"].iter().find_map(|prefix| {
        let rest = name.strip_prefix(prefix)?;
        rest.get(..3).filter(|layout| layout.bytes().all(|byte| byte.is_ascii_digit()))?;
        rest.get(3..)?.strip_prefix('p')
    });
    let rest = yuv.or_else(|| ["gbrap", "gbrp", "gray", "ya"].iter().find_map(|prefix| name.strip_prefix(prefix)))?;
    match rest {
        "" => Some(8),
        "f32" => Some(32),
        "f16" => Some(16),
        digits => digits.parse().ok().filter(|depth| (1..=32).contains(depth)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_give_depth_and_subsampling() {
        for (name, depth, chroma) in [
            ("yuv420p", Some(8), Some("4:2:0")),
            ("yuvj420p", Some(8), Some("4:2:0")),
            ("yuv420p10le", Some(10), Some("4:2:0")),
            ("yuv422p12be", Some(12), Some("4:2:2")),
            ("yuva444p16le", Some(16), Some("4:4:4")),
            ("yuv410p", Some(8), Some("4:1:0")),
            ("yuv440p", Some(8), Some("4:4:0")),
            ("nv12", Some(8), Some("4:2:0")),
            ("p010le", Some(10), Some("4:2:0")),
            ("p216le", Some(16), Some("4:2:2")),
            ("y210le", Some(10), Some("4:2:2")),
            ("xv36le", Some(12), Some("4:4:4")),
            ("uyvy422", Some(8), Some("4:2:2")),
            ("gbrp", Some(8), Some("4:4:4")),
            ("gbrap12le", Some(12), Some("4:4:4")),
            ("gbrpf32le", Some(32), Some("4:4:4")),
            ("rgb24", Some(8), Some("4:4:4")),
            ("rgb48be", Some(16), Some("4:4:4")),
            ("rgba", Some(8), Some("4:4:4")),
            ("x2rgb10le", Some(10), Some("4:4:4")),
            ("xyz12le", Some(12), Some("4:4:4")),
            ("gray", Some(8), Some("4:0:0")),
            ("gray10le", Some(10), Some("4:0:0")),
            ("ya8", Some(8), Some("4:0:0")),
            ("pal8", Some(8), None),
            ("monow", Some(1), None),
            ("bayer_rggb16le", None, None),
            ("vaapi", None, None),
            ("yuv", None, None),
            ("yuv42", None, None),
            ("yuvé", None, None),
            ("", None, None),
            ("le", None, None),
            ("yuv420p99999999999", None, Some("4:2:0")),
        ] {
            assert_eq!((bit_depth(name), chroma_subsampling(name)), (depth, chroma), "{name}");
        }
    }

    #[test]
    fn uneven_depths_are_unknown_rather_than_wrong() {
        for name in ["rgb565le", "rgb8", "bgr4_byte", "bayer_rggb8"] {
            assert_eq!(bit_depth(name), None, "{name}");
        }
    }
}
