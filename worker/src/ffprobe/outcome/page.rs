//! Test only: every row of the first table of `docs/failures.md` is run through [`super::judge`], and every word that the code
//! looks for has a row. So the page cannot go stale.

use super::*;
use crate::jail::Usage;

const PAGE: &str = include_str!("../../../../docs/failures.md");
/// What "any" error is tried with: numbers that mean nothing of their own.
const ANY: [&str; 2] = ["-22", "-1"];

/// The cells of each row between the marker and the end of its table.
fn rows(marker: &str) -> Vec<Vec<&'static str>> {
    let (_, rest) = PAGE.split_once(marker).unwrap();
    let (table, _) = rest.split_once("<!-- end -->").unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(1);
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect()).collect()
}

fn end(words: &str) -> End {
    match words.rsplit_once(' ') {
        Some(("exit", code)) => End::Exited(code.parse().unwrap()),
        Some(("signal", number)) => End::Killed(number.parse().unwrap()),
        _ => match words {
            "deadline" => End::Deadline,
            "output cap" => End::TooMuchOutput,
            "read budget" => End::ReadBudget,
            "control group out of memory" => End::OutOfMemory,
            "canceled" => End::Canceled,
            other => panic!("the page speaks of '{other}'"),
        },
    }
}

#[test]
fn every_row_of_the_page_is_what_the_code_does() {
    let rows = rows("<!-- ffprobe -->");
    for row in &rows {
        let [ended, error, words, code, class] = row[..] else { panic!("{row:?}") };
        let errors = if error == "any" { ANY.to_vec() } else { vec![error] };
        for error in errors {
            let reported = |code| format!(r#"{{"error":{{"code":{code},"string":"Some words"}}}}"#);
            let stdout = if error.is_empty() { String::new() } else { reported(error) };
            let stderr = if words.is_empty() { String::new() } else { format!("[mov @ 0x1] [error] {words}\n") };
            let ended = Ended { end: end(ended), stdout: stdout.into(), stderr, usage: Usage::default() };
            let failure = judge(&ended).unwrap_err();
            let class_is = serde_json::to_value(failure.class).unwrap();
            assert_eq!((failure.code.as_str(), class_is.as_str()), (code, Some(class)), "{row:?}");
        }
    }
    let words = BLOCKED_WORDS.iter().chain(&CUT_OFF_WORDS).chain(&[GUESS_WORDS, TOO_MANY_STREAMS]);
    for word in words {
        assert!(rows.iter().any(|row| row[2] == *word), "the page lacks '{word}'");
    }
    for number in [INVALID_DATA, END_OF_FILE, OPTION_NOT_FOUND, PROTOCOL_NOT_FOUND, NO_SUCH_FILE] {
        assert!(rows.iter().any(|row| row[1] == number.to_string()), "the page lacks the error {number}");
    }
    for number in [INPUT_OUTPUT, NO_MEMORY, ACCESS_DENIED, STALE_HANDLE] {
        assert!(rows.iter().any(|row| row[1] == number.to_string()), "the page lacks the error {number}");
    }
}
