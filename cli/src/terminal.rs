//! What the user sees: answers on standard output, progress and remarks on standard error. The only place that prints.

mod progress;

use std::io::{Write, stderr, stdout};

use serde_json::Value;

pub use self::progress::{Progress, Share};

/// Prints a line of the answer. A reader that has gone away (`| head`) is no error.
pub fn line(text: &str) {
    let _ = writeln!(stdout(), "{text}");
}

/// Prints JSON for people and programs.
pub fn json(value: &Value) {
    line(&format!("{value:#}"));
}

/// Prints rows whose columns stand below each other; the first row names them.
pub fn table(rows: &[Vec<String>]) {
    for row in aligned(rows) {
        line(&row);
    }
}

fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|r| r.get(column)).map(|c| c.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let join = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(join).collect()
}

/// Prints a remark that is not part of the answer.
pub fn remark(text: &str) {
    let _ = writeln!(stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [row(["ID", "NAME", "X"]), row(["12345", "é", ""]), row(["1", "abcdef", "y"])];
        assert_eq!(aligned(&rows), ["ID     NAME    X", "12345  é", "1      abcdef  y"]);
        assert!(aligned(&[]).is_empty());
    }
}
