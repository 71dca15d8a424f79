//! Fuzz target: `frames::Plan` on arbitrary text in place of what ffprobe printed of the file, and of its frames. Fails on a
//! panic, an overflow, a list beyond its bound, or arguments that are not numbers of ours.

#![no_main]

use fuzz::frames::{MAX_FORMATS, MAX_LISTED, Plan, Request};
use libfuzzer_sys::fuzz_target;

const FILE: &str =
    r#"{"streams":[{"index":0,"codec_type":"video","r_frame_rate":"25/1"}],"format":{"duration":"100"}}"#;

fuzz_target!(|input: &str| {
    let request = Request::default();
    if let Ok(plan) = Plan::new(&request, input) {
        assert!(plan.arguments().iter().all(|argument| argument.len() < 4096 && !argument.contains('\0')));
    }
    let plan = Plan::new(&request, FILE).expect("our own JSON");
    if let Ok(frames) = plan.read(input) {
        let json = serde_json::to_value(&frames).expect("a summary is JSON");
        let lists = |value: &serde_json::Value| {
            value.as_object().into_iter().flatten().filter_map(|(_, v)| v.as_array().map(Vec::len)).max()
        };
        assert!(lists(&json).unwrap_or(0) <= MAX_LISTED.max(MAX_FORMATS));
    }
});
