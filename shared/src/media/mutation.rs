//! Test only: real ffprobe output, broken in thousands of seeded ways, never panics and never breaks a bound.
//! The documents are the output of ffprobe 5.1 for files that FFmpeg made, with the HDR10 file's first frame inside.

use serde_json::{Map, Value, json};

use super::{Media, NormalizeError, normalize, rename_filename};

const DOCUMENTS: [&str; 3] =
    [include_str!("mutation/mov.json"), include_str!("mutation/hdr10.json"), include_str!("mutation/matroska.json")];
const ROUNDS: usize = 500;

/// A small generator (splitmix64), so that a failure repeats.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % limit.max(1) as u64).unwrap()
    }
}

/// What a value may be replaced with: every odd thing ffprobe prints, and some that it does not.
fn odd_values() -> Vec<Value> {
    let texts = [
        "N/A",
        "",
        "0/0",
        "1/0",
        "-1/-1",
        "30000/1001",
        "9223372036854775807/1",
        "1/4294967296",
        "-9223372036854775808",
        "nan",
        "inf",
        "1e308",
        "00:00:00.5",
        "-00:00:01",
        "99:99:99;99",
        "tt",
        "0:1",
        "é\0ü",
        "\u{feff}",
        "yuv420p10le",
        "gray",
        "video",
        "audio",
        "attachment",
        "smpte2084",
        "Mastering display metadata",
        "1970-01-01T00:00:00Z",
        "[0][0][0][0]",
    ];
    let mut values: Vec<Value> = texts.into_iter().map(Value::from).collect();
    values.push(Value::from("\u{10ffff}".repeat(5_000)));
    values.extend([json!(null), json!(true), json!(0), json!(-1), json!(i64::MIN), json!(u64::MAX), json!(f64::MAX)]);
    values.extend([
        json!([]),
        json!({}),
        json!([[1], {"a": []}]),
        json!({"index": {"index": 0}}),
        json!([null, "x", 3]),
    ]);
    values
}

fn mutate(value: &mut Value, random: &mut Random, odd: &[Value]) {
    match value {
        Value::Object(map) if !map.is_empty() && random.below(8) != 0 => {
            let key = map.keys().nth(random.below(map.len())).unwrap().clone();
            match random.below(6) {
                0 => drop(map.remove(&key)),
                1 => move_value(map, &key, random),
                _ => mutate(&mut map[&key], random, odd),
            }
        }
        Value::Array(list) if !list.is_empty() && random.below(8) != 0 => {
            let at = random.below(list.len());
            match random.below(6) {
                0 => drop(list.remove(at)),
                1 => list.extend(vec![list[at].clone(); random.below(300)]),
                _ => mutate(&mut list[at], random, odd),
            }
        }
        _ => *value = odd[random.below(odd.len())].clone(),
    }
}

fn move_value(map: &mut Map<String, Value>, key: &str, random: &mut Random) {
    let other = map.keys().nth(random.below(map.len())).unwrap().clone();
    map[&other] = map[key].clone();
}

fn check_bounds(media: &Media, json: &str) {
    let stored = serde_json::to_string(media).unwrap();
    assert!(!stored.contains("\\u0000") && !stored.contains('\0'), "NUL in {stored}\nfrom {json}");
    let tracks =
        media.video.len() + media.audio.len() + media.subtitles.len() + media.data.len() + media.attachments.len();
    assert!(tracks <= super::MAX_STREAMS);
    assert_eq!(&serde_json::from_str::<Media>(&stored).unwrap(), media, "from {json}");
}

#[test]
fn mutated_documents_never_panic() {
    let odd = odd_values();
    let mut described = 0;
    for (seed, document) in DOCUMENTS.into_iter().enumerate() {
        let original: Value = serde_json::from_str(document).unwrap();
        let mut random = Random(seed as u64);
        for _ in 0..ROUNDS {
            let mut document = original.clone();
            for _ in 0..=random.below(6) {
                mutate(&mut document, &mut random, &odd);
            }
            let json = document.to_string();
            match normalize("name.mov", 1, &json, Some(&json)) {
                Ok(media) => {
                    check_bounds(&media, &json);
                    described += 1;
                }
                Err(NormalizeError::Nothing) => {}
                Err(error) => panic!("{error}\n{json}"),
            }
            rename_filename(&json, "name.mov").unwrap();
        }
    }
    assert!(described > ROUNDS, "only {described} documents were still described");
}

#[test]
fn cut_documents_are_errors() {
    for document in DOCUMENTS {
        let end = document.trim_end().len();
        for at in (0..end).step_by(7).filter(|at| document.is_char_boundary(*at)) {
            assert!(normalize("n", 1, &document[..at], None).is_err(), "cut at {at}");
            assert!(rename_filename(&document[..at], "n").is_err(), "cut at {at}");
        }
    }
}
