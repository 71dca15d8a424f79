//! Taste as a test: the rules of ARCHITECTURE.md and CONTRIBUTING.md that a machine can check, over every file of the
//! repository. It reads text only: no compiler, no server. Every finding names file and line and says what to do.
//! A rule that hurts the code is not bent here in silence: it gets a line with a reason in `EXCEPTIONS`.

mod code;
mod docs;
mod proof;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use code::{
    after_word, body_end, code_only, floors_of, imports, line_of, module_of, names_in, sql_only, sql_tokens, word,
};

/// Lines of a product file, and of a file of tests.
const FILE_LINES: usize = 400;
const TEST_FILE_LINES: usize = 600;
/// Lines of a function, from its `fn` to its closing brace.
const FUNCTION_LINES: usize = 70;

/// Where a rule does not hold: rule, file, words of the finding, reason. An entry that is not needed any more fails too.
const EXCEPTIONS: &[(&str, &str, &str, &str)] = &[
    ("floors", "shared/src/config.rs", "uses `job`", "MEDIA_ROOTS is parsed into the word that jobs use for a root"),
    ("environment", "cli/src/process.rs", "", "hands variables on to a child as they are; reads no setting"),
];

/// The folders with Rust code; the last one is not part of the product.
const PACKAGES: [&str; 5] = ["api", "cli", "shared", "worker", "tests"];

/// Which of our packages each package may depend on. `cli` starts the other two as processes and links neither.
const EDGES: [(&str, &[&str]); 5] =
    [("shared", &[]), ("api", &["shared"]), ("worker", &["shared"]), ("cli", &["shared"]), ("tests", &PACKAGES)];

/// What floor 1 of `shared` must not touch, because its results must follow from its arguments alone.
const IMPURE: [&str; 13] = [
    "async fn",
    ".await",
    "::now(",
    "tokio::",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "TcpStream",
    "UdpSocket",
    "sqlx::query",
    "redis::",
    "reqwest::",
];

/// File names that say nothing about what a file holds.
const EMPTY_NAMES: [&str; 9] =
    ["common", "helper", "helpers", "manager", "managers", "service", "services", "types", "utils"];

/// Something wrong at a line, with what to do.
#[derive(Debug)]
struct Finding {
    line: usize,
    says: String,
}

/// A file of the repository: its path from the root, its text, and its code (text without comments and literals).
pub(super) struct File {
    path: String,
    pub(super) text: String,
    code: String,
}

impl File {
    fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let (path, text) = (path.into(), text.into());
        let code = if path.ends_with(".sql") { sql_only(&text) } else { code_only(&text) };
        Self { path, text, code }
    }

    fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || self.path.contains("/tests/")
    }

    /// The code before the inline tests, which stand last in a file and may use what they like.
    fn product_code(&self) -> &str {
        self.code.split("#[cfg(test)]\nmod ").next().unwrap_or_default()
    }
}

#[test]
fn every_rust_file_begins_with_a_header() {
    hold("header", &rust_files(), header);
}

#[test]
fn files_and_functions_are_short() {
    hold("file length", &rust_files(), file_length);
    hold("function length", &rust_files(), function_length);
}

#[test]
fn no_marker_is_left_over() {
    hold(
        "marker",
        &files(&["api", "cli", "shared", "worker", "tests", "migrations", "scripts", "docs", ".ci"], ""),
        markers,
    );
}

#[test]
fn lint_exceptions_carry_a_reason() {
    hold("reason", &rust_files(), reasons);
}

#[test]
fn names_say_what_a_file_holds() {
    hold("name", &rust_files(), names);
}

#[test]
fn sql_is_written_in_the_store_only() {
    hold("sql", &rust_files(), sql_outside_store);
}

#[test]
fn the_environment_is_read_in_main_only() {
    hold("environment", &rust_files(), environment);
}

#[test]
fn packages_depend_downwards_only() {
    let manifests = PACKAGES.map(|p| read(&format!("{p}/Cargo.toml")));
    hold("edges", &manifests, edges);
}

#[test]
fn floors_of_shared_use_lower_floors_only() {
    let floors = floors_of(&read("shared/src/lib.rs").text);
    let shared: Vec<File> = rust_files().into_iter().filter(|f| f.path.starts_with("shared/src/")).collect();
    assert!(
        floors.len() > 4,
        "the floors are read from the header of shared/src/lib.rs, and these were found: {floors:?}"
    );
    hold("floors", &shared, |file| floor_breaks(&floors, file));
    hold("pure", &shared, |file| impurities(&floors, file));
}

#[test]
fn migrations_are_written_to_be_read() {
    let migrations = files(&["migrations"], ".sql");
    hold("migration", &migrations, migration);
    for (expected, file) in (1..).zip(&migrations) {
        let number = file.path.trim_start_matches("migrations/").get(..4).unwrap_or_default();
        assert_eq!(
            number,
            format!("{expected:04}"),
            "{}: migrations are numbered 0001, 0002, … without a gap",
            file.path
        );
    }
}

fn header(file: &File) -> Vec<Finding> {
    let found = file.text.lines().next().is_some_and(|l| l.starts_with("//! ") && l.len() > 20);
    found_if(!found, 1, || "begin with a `//!` header: what it holds, who calls it, what it must never do".into())
}

fn file_length(file: &File) -> Vec<Finding> {
    let most = if file.is_test() { TEST_FILE_LINES } else { FILE_LINES };
    let lines = file.text.lines().count();
    found_if(lines > most, lines, || format!("{lines} lines, at most {most}: part the two duties that live here"))
}

fn function_length(file: &File) -> Vec<Finding> {
    let mut found = Vec::new();
    for (at, name) in after_word(&file.code, "fn ") {
        let (first, last) = match body_end(&file.code[at..]) {
            Some(end) => (line_of(&file.code, at), line_of(&file.code, at + end)),
            None => continue,
        };
        let lines = last - first + 1;
        let says =
            || format!("`{name}` has {lines} lines, at most {FUNCTION_LINES}: give a step in it a name of its own");
        found.extend(found_if(lines > FUNCTION_LINES, first, says));
    }
    found
}

fn markers(file: &File) -> Vec<Finding> {
    // put together here, so that this file does not find itself
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];
    let macros = [concat!("to", "do!"), concat!("unimple", "mented!"), concat!("d", "bg!")];
    let mut found = Vec::new();
    for (number, line) in (1..).zip(file.text.lines()) {
        let word = words.iter().find(|w| line.split(|c: char| !c.is_alphanumeric()).any(|part| part == **w));
        if let Some(word) = word.or_else(|| macros.iter().find(|m| line.contains(**m))) {
            found.push(Finding {
                line: number,
                says: format!("`{word}`: finish it now, or file an issue and say it there"),
            });
        }
    }
    found
}

fn reasons(file: &File) -> Vec<Finding> {
    let mut found = Vec::new();
    for start in ["#[allow(", "#![allow(", "#[expect(", "#![expect("] {
        for (at, _) in file.code.match_indices(start) {
            let end = file.code[at..].find(")]").map_or(file.code.len(), |e| at + e);
            let says = || "a lint exception says why: `#[expect(LINT, reason = \"…\")]`, in the smallest scope".into();
            found.extend(found_if(!file.code[at..end].contains("reason"), line_of(&file.code, at), says));
        }
    }
    found
}

fn names(file: &File) -> Vec<Finding> {
    let bad = file.path.split(['/', '.']).find(|part| EMPTY_NAMES.contains(part));
    bad.map(|part| Finding { line: 1, says: format!("`{part}` says nothing: name it after the thing it holds") })
        .into_iter()
        .collect()
}

/// Tests may write SQL: they shift rows instead of clocks.
fn sql_outside_store(file: &File) -> Vec<Finding> {
    if file.is_test() || file.path.starts_with("shared/src/store/") || file.path == "shared/src/store.rs" {
        return Vec::new();
    }
    let sql = |name: &str| name.starts_with("query") || ["raw_sql", "QueryBuilder", "AssertSqlSafe"].contains(&name);
    let mut lines: Vec<usize> = file.code.match_indices(".execute(\"").map(|(at, _)| line_of(&file.code, at)).collect();
    for (at, _) in file.code.match_indices("sqlx::") {
        let rest = &file.code[at + "sqlx::".len()..];
        let used = if rest.starts_with('{') {
            names_in(&rest[..rest.find(';').unwrap_or(rest.len())])
        } else {
            names_in(word(rest))
        };
        if used.into_iter().any(sql) {
            lines.push(line_of(&file.code, at));
        }
    }
    lines
        .into_iter()
        .map(|line| Finding { line, says: "SQL lives in shared/src/store: write a function there and call it".into() })
        .collect()
}

fn environment(file: &File) -> Vec<Finding> {
    if file.is_test() || file.path.ends_with("/src/main.rs") {
        return Vec::new();
    }
    let found = ["env::var", "env::vars", "env::set_var", "env::remove_var", "env::{"]
        .iter()
        .flat_map(|p| file.code.match_indices(p));
    let mut lines: Vec<usize> = found.map(|(at, _)| line_of(&file.code, at)).collect();
    lines.dedup();
    let says = "the environment is read in `main` only: make it a clap setting and pass the value down";
    lines.into_iter().map(|line| Finding { line, says: says.into() }).collect()
}

fn edges(manifest: &File) -> Vec<Finding> {
    let package = manifest.path.split('/').next().unwrap_or_default();
    let allowed = EDGES.iter().find(|(name, _)| *name == package).map_or(&[][..], |(_, to)| *to);
    let mut found = Vec::new();
    let mut in_dependencies = false;
    for (line, text) in (1..).zip(manifest.text.lines()) {
        if text.starts_with('[') {
            in_dependencies = text.contains("dependencies");
        }
        let name = text.split(['.', ' ', '=']).next().unwrap_or_default();
        let ours = in_dependencies && PACKAGES.contains(&name) && !allowed.contains(&name);
        found.extend(found_if(ours, line, || {
            format!("`{package}` may not depend on `{name}`: what both need belongs into `shared`")
        }));
    }
    found
}

fn floor_breaks(floors: &HashMap<String, u8>, file: &File) -> Vec<Finding> {
    let (module, depth) = module_of(&file.path);
    if module == "lib" {
        return Vec::new();
    }
    let Some(own) = floors.get(module) else {
        return vec![Finding {
            line: 1,
            says: format!("`{module}` has no floor: add it to the header of shared/src/lib.rs"),
        }];
    };
    let mut found = Vec::new();
    for (line, name) in imports(file.product_code(), depth) {
        // lib.rs re-exports the error type, the only capitalised names at the root
        let name = if name.starts_with(char::is_uppercase) { "error" } else { name };
        let Some(floor) = floors.get(name).filter(|_| name != module) else { continue };
        let says = format!("`{module}` (floor {own}) uses `{name}` (floor {floor})");
        if floor > own {
            found.push(Finding { line, says: format!("{says}: a floor uses only those below it") });
        } else if floor == own && *own > 1 {
            found.push(Finding {
                line,
                says: format!("{says}: neighbours do not import each other; let the floor above call both"),
            });
        }
    }
    found
}

fn impurities(floors: &HashMap<String, u8>, file: &File) -> Vec<Finding> {
    let (module, _) = module_of(&file.path);
    if floors.get(module) != Some(&1) {
        return Vec::new();
    }
    let code = file.product_code();
    let found = IMPURE.iter().flat_map(|what| code.match_indices(what));
    found
        .map(|(at, what)| Finding {
            line: line_of(code, at),
            says: format!(
                "floor 1 has no I/O, no clock, no async, and here is `{what}`: take the value as an argument"
            ),
        })
        .collect()
}

fn migration(file: &File) -> Vec<Finding> {
    let name = file.path.trim_start_matches("migrations/").trim_end_matches(".sql");
    let good = name.split_once('_').is_some_and(|(number, noun)| {
        number.len() == 4
            && number.bytes().all(|b| b.is_ascii_digit())
            && !noun.is_empty()
            && noun.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    });
    let mut found = found_if(!good, 1, || "the name is NNNN_noun.sql, four digits and a noun in lower case".into());
    let tokens = sql_tokens(&file.code);
    for (at, (line, token)) in tokens.iter().enumerate() {
        let says = || format!("`{token}`: SQL is written in lower case here");
        found.extend(found_if(token.bytes().any(|b| b.is_ascii_uppercase()), *line, says));
        let says = || {
            format!("`{token}` without `constraint NAME` before it: the name is how a violation becomes an error code")
        };
        found.extend(found_if(is_unnamed_constraint(&tokens, at), *line, says));
    }
    found
}

/// Whether a constraint begins at this token and has no name.
fn is_unnamed_constraint(tokens: &[(usize, String)], at: usize) -> bool {
    let word = |back: usize| at.checked_sub(back).map_or("", |i| tokens[i].1.as_str());
    let next = tokens.get(at + 1).map_or("", |t| t.1.as_str());
    let begins = match word(0) {
        "primary" | "foreign" => next == "key",
        "unique" => next != "index",
        "check" => next == "(" && word(1) != "with",
        "references" => !closes_foreign_key(tokens, at),
        _ => false,
    };
    begins && word(2) != "constraint"
}

/// Whether the tokens just before are `foreign key ( … )`, which carries the name.
fn closes_foreign_key(tokens: &[(usize, String)], at: usize) -> bool {
    let open = tokens[..at].iter().rposition(|(_, t)| t == "(");
    open.is_some_and(|i| i >= 2 && tokens[i - 1].1 == "key" && tokens[i - 2].1 == "foreign" && tokens[at - 1].1 == ")")
}

/// Fails with every finding that has no exception, and with every exception that has no finding.
fn hold(rule: &str, files: &[File], check: impl Fn(&File) -> Vec<Finding>) {
    assert!(!files.is_empty(), "no file was found for the rule '{rule}': the test looks in the wrong place");
    let exceptions: Vec<_> = EXCEPTIONS.iter().filter(|e| e.0 == rule).collect();
    let mut used = vec![false; exceptions.len()];
    let mut wrong = Vec::new();
    for file in files {
        for finding in check(file) {
            match exceptions.iter().position(|e| e.1 == file.path && finding.says.contains(e.2)) {
                Some(exception) => used[exception] = true,
                None => wrong.push(format!("{}:{}: {}", file.path, finding.line, finding.says)),
            }
        }
    }
    for (exception, _) in exceptions.iter().zip(used).filter(|(_, used)| !used) {
        wrong.push(format!("{}:1: its exception is not needed any more: remove it from EXCEPTIONS", exception.1));
    }
    assert!(wrong.is_empty(), "the rule '{rule}' is broken in {} places:\n{}\n", wrong.len(), wrong.join("\n"));
}

fn rust_files() -> Vec<File> {
    files(&PACKAGES, ".rs")
}

/// The files below these folders whose names end so, in the order of their paths.
pub(super) fn files(folders: &[&str], ending: &str) -> Vec<File> {
    let mut paths = Vec::new();
    for folder in folders {
        walk(&root().join(folder), &mut paths);
    }
    paths.retain(|p| p.ends_with(ending));
    paths.sort();
    paths.iter().map(|p| read(p)).collect()
}

fn walk(folder: &Path, paths: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.expect("a readable entry").path();
        let binary = ["fixtures", "snapshots"].iter().any(|n| path.ends_with(n));
        if path.is_dir() && !binary {
            walk(&path, paths);
        } else if path.is_file() {
            paths.push(path.strip_prefix(root()).expect("below the root").to_str().expect("UTF-8").to_owned());
        }
    }
}

fn read(path: &str) -> File {
    File::new(path, fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}")))
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn found_if(wrong: bool, line: usize, says: impl FnOnce() -> String) -> Vec<Finding> {
    if wrong { vec![Finding { line, says: says() }] } else { Vec::new() }
}
