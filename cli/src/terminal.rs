//! What the user sees: answers on standard output, progress and remarks on standard error. The only place that prints.

mod progress;

use std::io::{Write, stderr, stdout};

use serde_json::Value;

pub use self::progress::{Progress, Share};

/// Prints a line of the answer. A reader that has gone away (`| head`) is no error.
pub fn line(text: &str) {
    let _ = writeln!(stdout(), "{text}");
}

/// Prints a piece of an answer as it is. Whether somebody still reads.
pub fn bytes(piece: &[u8]) -> bool {
    stdout().write_all(piece).is_ok()
}

/// Prints JSON for people and programs.
pub fn json(value: &Value) {
    line(&format!("{value:#}"));
}

/// Prints a remark that is not part of the answer.
pub fn remark(text: &str) {
    let _ = writeln!(stderr(), "{text}");
}
