//! The name of a remote object for the client: from its path, or from what its server calls it. Pure; called by the
//! origins. Whatever stands there, the outcome is one short, harmless word without directories.

/// Longest name, in bytes (what file systems take).
const MAX_BYTES: usize = 255;
/// What an object without a name is called.
const NAMELESS: &str = "remote";

/// The last part of a path, as it is in a URL, percent-decoded.
pub(super) fn of_url_path(path: &str) -> String {
    harmless(&percent_decoded(path.rsplit('/').next().unwrap_or_default()))
}

/// The last part of an object's key, which is not encoded.
pub(super) fn of_key(key: &str) -> String {
    harmless(key)
}

/// The name in a `Content-Disposition` (RFC 6266), if there is one that needs no mending: servers behind one address for
/// all objects tell names only so. The extended form with a character set is left alone.
pub(super) fn of_disposition(header: &str) -> Option<String> {
    let (_, parameters) = header.split_once(';')?;
    let name = parameters.split(';').find_map(|p| {
        let (name, value) = p.split_once('=')?;
        name.trim().eq_ignore_ascii_case("filename").then(|| value.trim().trim_matches('"'))
    })?;
    (!name.contains(['"', '%']) && harmless(name) == name).then(|| name.to_owned())
}

fn harmless(text: &str) -> String {
    let last = text.rsplit(['/', '\\']).next().unwrap_or_default();
    // marks that turn the direction of writing make "gpj.exe" look like "exe.jpg"
    let shown = |c: &char| {
        !c.is_control() && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut name: String = last.chars().filter(shown).collect();
    let end = (0..=MAX_BYTES.min(name.len())).rev().find(|end| name.is_char_boundary(*end)).unwrap_or_default();
    name.truncate(end);
    match name.trim() {
        "" | "." | ".." => NAMELESS.to_owned(),
        name => name.to_owned(),
    }
}

fn percent_decoded(text: &str) -> String {
    let (bytes, mut decoded, mut at) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    while let Some(byte) = bytes.get(at) {
        let digit = |i: usize| bytes.get(i).and_then(|b| char::from(*b).to_digit(16));
        let escaped = match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => u8::try_from(high * 16 + low).ok(),
            _ => None,
        };
        at += if escaped.is_some() { 3 } else { 1 };
        decoded.push(escaped.unwrap_or(*byte));
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_last_part_and_harmless() {
        for (path, name) in [
            ("/a/b.mp4", "b.mp4"),
            ("/a/my%20film+1.mp4", "my film+1.mp4"),
            ("/a/%C3%BC.mp4", "ü.mp4"),
            ("/a/100%.mp4", "100%.mp4"),
            ("/a/%zz%4", "%zz%4"),
            ("/a/..%2F..%2Fetc%2Fpasswd", "passwd"),
            ("/a/..%5Cb.mp4", "b.mp4"),
            ("/a/b%00%0d%0ac.mp4", "bc.mp4"),
            ("/a/b%E2%80%AEgpj.exe", "bgpj.exe"),
            ("/a/%ff.mp4", "\u{fffd}.mp4"),
            ("/", "remote"),
            ("", "remote"),
            ("/a/%2e%2e", "remote"),
            ("/a/%20", "remote"),
        ] {
            assert_eq!(of_url_path(path), name, "{path}");
        }
        assert_eq!(of_key("public/100%20.mp4"), "100%20.mp4");
        assert!(of_key(&"ü".repeat(200)).len() <= MAX_BYTES);
    }

    #[test]
    fn only_a_plain_disposition_is_believed() {
        for (header, name) in [
            (r#"attachment; filename="a b.mp4""#, Some("a b.mp4")),
            ("attachment; FileName=a.mp4; size=3", Some("a.mp4")),
            ("inline", None),
            ("attachment; filename*=UTF-8''a.mp4", None),
            (r#"attachment; filename="../a.mp4""#, None),
            (r#"attachment; filename="a%2f.mp4""#, None),
            (r#"attachment; filename="""#, None),
            ("filename=a.mp4", None),
        ] {
            assert_eq!(of_disposition(header).as_deref(), name, "{header}");
        }
    }
}
