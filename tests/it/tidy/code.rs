//! Reads Rust and SQL as far as the rules of `tidy` need it: what is code and what is a comment or a literal, where a
//! function ends, which modules a file uses. A few dozen lines of scanning instead of a parser; it must stay simple
//! enough to be believed, and `proof` shows it examples.

use std::collections::HashMap;

/// Rust without comments and without the insides of literals; every line keeps its place.
pub(super) fn code_only(text: &str) -> String {
    blank(text, |rest| match rest {
        ['/', '/', ..] => position(rest, &['\n']),
        ['/', '*', ..] => block_comment(rest),
        ['"', ..] => closing(rest, 1, '"'),
        ['r', '"' | '#', ..] => raw_string(rest),
        ['\'', '\\', ..] => closing(rest, 1, '\''),
        ['\'', _, '\'', ..] => 3,
        _ => 0,
    })
}

/// SQL without comments and without the insides of strings and quoted names.
pub(super) fn sql_only(text: &str) -> String {
    blank(text, |rest| match rest {
        ['-', '-', ..] => position(rest, &['\n']),
        ['/', '*', ..] => block_comment(rest),
        ['\'', ..] => position(&rest[1..], &['\'']) + 2,
        ['"', ..] => position(&rest[1..], &['"']) + 2,
        ['$', '$', ..] => position(&rest[2..], &['$', '$']) + 4,
        _ => 0,
    })
}

/// The text with spaces in place of what `length` measures; the first character of a literal stays, newlines too.
fn blank(text: &str, length: impl Fn(&[char]) -> usize) -> String {
    let chars: Vec<char> = text.chars().collect();
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    while at < chars.len() {
        let skip = length(&chars[at..]).min(chars.len() - at);
        let kept = |i: usize, c: char| if c == '\n' || (i == 0 && c != '/' && c != '-') { c } else { ' ' };
        let taken = skip.max(1);
        let part = chars[at..at + taken].iter().enumerate();
        out.extend(part.map(|(i, c)| if skip == 0 { *c } else { kept(i, *c) }));
        at += taken;
    }
    out
}

fn position(rest: &[char], what: &[char]) -> usize {
    rest.windows(what.len()).position(|w| w == what).unwrap_or(rest.len())
}

fn closing(rest: &[char], from: usize, quote: char) -> usize {
    let mut at = from;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

fn raw_string(rest: &[char]) -> usize {
    let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return 0; // an identifier such as r#type
    }
    let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let start = 2 + hashes;
    start + position(&rest[start..], &end) + end.len()
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at + 1 < rest.len() {
        match rest[at..at + 2] {
            ['/', '*'] => depth += 1,
            ['*', '/'] => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

pub(super) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// The identifier at the start of the text; empty if there is none.
pub(super) fn word(text: &str) -> &str {
    &text[..text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())]
}

pub(super) fn names_in(text: &str) -> Vec<&str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| !w.is_empty()).collect()
}

/// Every identifier that follows this keyword, with the place of the keyword.
pub(super) fn after_word<'a>(code: &'a str, keyword: &str) -> Vec<(usize, &'a str)> {
    let alone = |at: usize| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    let found = code.match_indices(keyword).filter(|(at, _)| alone(*at));
    found.map(|(at, k)| (at, word(&code[at + k.len()..]))).filter(|(_, name)| !name.is_empty()).collect()
}

/// Where the body of the function at the start of this text ends; `None` if it has none.
pub(super) fn body_end(code: &str) -> Option<usize> {
    let (mut round, mut curly) = (0, 0);
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => round += 1,
            ')' | ']' => round -= 1,
            ';' if round == 0 && curly == 0 => return None,
            '{' => curly += 1,
            '}' if curly == 1 => return Some(at),
            '}' => curly -= 1,
            _ => {}
        }
    }
    None
}

/// The floors drawn in the header of shared/src/lib.rs: `//! 2  store · queue · storage    …`.
pub(super) fn floors_of(lib: &str) -> HashMap<String, u8> {
    let mut floors = HashMap::new();
    for line in lib.lines().filter_map(|l| l.strip_prefix("//! ")) {
        let Some((floor, rest)) = line.split_once("  ") else { continue };
        let Ok(floor) = floor.parse() else { continue };
        let modules = rest.trim_start().split("  ").next().unwrap_or_default();
        floors.extend(modules.split('·').map(|m| (m.trim().to_owned(), floor)));
    }
    floors
}

/// The module of `shared` a file belongs to, and how many `super` lead from it to the crate.
pub(super) fn module_of(path: &str) -> (&str, usize) {
    let inside = path.trim_start_matches("shared/src/").trim_end_matches(".rs");
    let depth = inside.trim_end_matches("/mod").split('/').count();
    (inside.split('/').next().unwrap_or_default(), depth)
}

/// The names used from the root of the crate: `crate::a`, `crate::{a, b::c}`, and the same through `super`.
pub(super) fn imports(code: &str, depth: usize) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let up = "super::".repeat(depth);
    for prefix in ["crate::", up.as_str()] {
        for (at, _) in code.match_indices(prefix) {
            let (line, rest) = (line_of(code, at), &code[at + prefix.len()..]);
            if code[..at].ends_with("super::") || rest.starts_with("super::") {
                continue;
            }
            match rest.strip_prefix('{') {
                Some(group) => found.extend(group_heads(group).into_iter().map(|name| (line, name))),
                None => found.push((line, word(rest))),
            }
        }
    }
    found
}

/// The first name of each part of `a, b::{c, d}, e}`.
fn group_heads(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut heads) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        let ends = depth == 0 && (c == ',' || c == '}');
        if ends {
            heads.push(word(group[start..at].trim_start()));
            start = at + 1;
        }
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            _ => {}
        }
    }
    heads.retain(|h| !h.is_empty());
    heads
}

pub(super) fn sql_tokens(code: &str) -> Vec<(usize, String)> {
    let mut tokens = Vec::new();
    for (line, text) in (1..).zip(code.lines()) {
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let name = word(rest);
            let token = if name.is_empty() { &rest[..rest.chars().next().map_or(0, char::len_utf8)] } else { name };
            tokens.push((line, token.to_owned()));
            rest = rest[token.len()..].trim_start();
        }
    }
    tokens
}
