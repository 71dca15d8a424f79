//! The raw ffprobe JSON with the client's own name in it. Called by the worker before it stores a result, because ffprobe
//! prints the alias or address it was given, which is ours and must not leave the house.
//!
//! The document is kept byte for byte, order and spacing included; only the value of `format.filename` changes and NUL
//! bytes go away. The place is found by parsing, never by searching: a hostile tag may contain the same text.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::NormalizeError;

/// `ffprobe_json` with `name` as the value of `format.filename`, in every place where repeated keys put one. Without such a
/// value the document is unchanged.
pub fn rename_filename(ffprobe_json: &str, name: &str) -> Result<String, NormalizeError> {
    let json = ffprobe_json.replace('\0', "");
    let malformed = |cause| NormalizeError::Malformed { document: "probe", cause };
    let name = serde_json::to_string(&name.replace('\0', "")).map_err(malformed)?;
    let mut places = Vec::new();
    for format in members(&json, "format").map_err(malformed)? {
        for filename in members(format.get(), "filename").map_err(malformed)? {
            places.push(place(&json, filename.get()));
        }
    }
    let mut renamed = String::with_capacity(json.len() + places.len() * name.len());
    let mut copied = 0;
    for Range { start, end } in places {
        renamed.push_str(&json[copied..start]);
        renamed.push_str(&name);
        copied = end;
    }
    renamed.push_str(&json[copied..]);
    Ok(renamed)
}

/// Where `part`, which was borrowed from `whole`, stands in it.
fn place(whole: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr().addr() - whole.as_ptr().addr();
    start..start + part.len()
}

/// The values of a key at the top of an object, in order, borrowed. Empty for anything that is not an object.
fn members<'a>(json: &'a str, key: &'static str) -> Result<Vec<&'a RawValue>, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let values = deserializer.deserialize_any(Members(key))?;
    deserializer.end()?;
    Ok(values)
}

struct Members(&'static str);

impl<'de> Visitor<'de> for Members {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        // An owned key, because a key may be written with escapes and still be ours.
        while let Some(key) = map.next_key::<String>()? {
            if key == self.0 {
                values.push(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(values)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Vec::new())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::rename_filename;

    fn renamed(json: &str) -> String {
        rename_filename(json, "a \"b\"\\ü.mov").unwrap()
    }

    #[test]
    fn only_the_value_changes() {
        let json = "{\n  \"z\": 1.0e2,\n  \"format\": { \"nb\":2, \"filename\" :  \"file:/dev/fd/0\" , \"size\": \"7\" },\n \"a\": [ ] }\n";
        let expected = "{\n  \"z\": 1.0e2,\n  \"format\": { \"nb\":2, \"filename\" :  \"a \\\"b\\\"\\\\ü.mov\" , \"size\": \"7\" },\n \"a\": [ ] }\n";
        assert_eq!(renamed(json), expected);
    }

    #[test]
    fn a_hostile_tag_is_not_the_place() {
        let json = r#"{"streams":[{"tags":{"filename":"x","format":{"filename":"x"},"t":"\"format\":{\"filename\":\"x\"}"}}],
            "filename":"x","format":{"tags":{"filename":"x","a":"\"filename\": \"file:/dev/fd/0\""},"filename":"x","é":"é"}}"#;
        let at = json.rfind(r#""filename":"x""#).unwrap();
        let expected = format!("{}\"filename\":\"n\"{}", &json[..at], &json[at + r#""filename":"x""#.len()..]);
        assert_eq!(rename_filename(json, "n").unwrap(), expected);
    }

    #[test]
    fn escaped_and_repeated_keys_hide_nothing() {
        let json =
            r#"{"\u0066ormat":{"f\u0069lename":"secret","filename":"secret"},"format":{"filename":"secr\u0065t"}}"#;
        let expected = r#"{"\u0066ormat":{"f\u0069lename":"n","filename":"n"},"format":{"filename":"n"}}"#;
        assert_eq!(rename_filename(json, "n").unwrap(), expected);
    }

    #[test]
    fn a_value_of_any_type_is_replaced() {
        let json = r#"{"format":{"filename":{"filename":["secret"]}},"x":null}"#;
        assert_eq!(rename_filename(json, "n").unwrap(), r#"{"format":{"filename":"n"},"x":null}"#);
    }

    #[test]
    fn without_a_filename_nothing_changes() {
        for json in [
            "{}",
            " {\"format\": null}",
            r#"{"format":[{"filename":"x"}]}"#,
            r#"{"format":"filename"}"#,
            "[1]",
            "7",
            "\"s\"",
        ] {
            assert_eq!(renamed(json), json);
        }
    }

    #[test]
    fn nul_bytes_go_away_and_escapes_stay() {
        let json = "{\"format\":{\"filename\":\"x\0\",\"t\":\"a\\u0000b\0\"}}";
        assert_eq!(rename_filename(json, "n\0m").unwrap(), "{\"format\":{\"filename\":\"nm\",\"t\":\"a\\u0000b\"}}");
    }

    #[test]
    fn text_that_is_not_json_is_refused() {
        for json in ["", "{", r#"{"format":{"filename":"x"}"#, r#"{"format":{}} trailing"#, "ffprobe: error"] {
            assert!(rename_filename(json, "n").is_err(), "{json}");
        }
    }
}
