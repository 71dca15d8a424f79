//! Keeps the pages in step with the code: every setting and every error code is documented, nothing else is, and every
//! link inside the repository leads somewhere. Reads the sources, runs nothing.

use std::collections::BTreeSet;

use shared::Code;
use shared::job::FailureCode;

use super::{File, files, hold, read, root};
use super::{Finding, found_if};

const PAGES: [&str; 6] =
    ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "migrations/README.md"];

#[test]
fn every_setting_is_documented() {
    let code: BTreeSet<String> =
        files(&["api/src", "cli/src", "shared/src", "worker/src"], ".rs").iter().flat_map(settings).collect();
    let page: BTreeSet<String> = documented(&read("docs/configuration.md").text);
    assert!(code.len() > 10, "the settings are read from `#[arg(env)]` fields, and these were found: {code:?}");
    let missing: Vec<_> = code.difference(&page).collect();
    assert!(missing.is_empty(), "docs/configuration.md lacks rows for {missing:?}");
    let stale: Vec<_> = page.difference(&code).collect();
    assert!(stale.is_empty(), "docs/configuration.md has rows that no setting in the code goes with: {stale:?}");
}

#[test]
fn every_error_code_is_documented() {
    let page = read("docs/api.md").text;
    for code in Code::ALL {
        // problem documents link to this heading
        let heading = format!("\n#### {}\n", code.as_str());
        assert!(page.contains(&heading), "docs/api.md lacks the heading `{}`", heading.trim());
    }
    for code in FailureCode::ALL {
        let row = format!("\n| `{}` |", code.as_str());
        assert!(page.contains(&row), "docs/api.md lacks a row for the failure `{}`", code.as_str());
    }
}

/// The tables of evidence name codes that exist, each with its class, and every code that a file can end with.
#[test]
fn the_page_of_failures_names_real_codes() {
    let page = read("docs/failures.md").text;
    let mut named = BTreeSet::new();
    for line in page.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [.., code, class] = cells[..] else { continue };
        let Some(code) = FailureCode::ALL.iter().find(|known| code == format!("`{}`", known.as_str())) else {
            continue;
        };
        assert_eq!(serde_json::to_value(code.class()).expect("a word"), class, "{line}");
        named.insert(code.as_str());
    }
    assert!(named.len() > 25, "{named:?}");
}

#[test]
fn links_lead_somewhere() {
    let mut pages = files(&["docs"], ".md");
    pages.extend(PAGES.map(read));
    hold("link", &pages, broken_links);
}

/// The environment variables of the clap fields in this file; hidden ones are no settings.
fn settings(file: &File) -> Vec<String> {
    let mut names = Vec::new();
    for part in file.text.split("#[arg(").skip(1) {
        let Some((attribute, rest)) = part.split_once(")]\n").filter(|(a, _)| !a.contains("hide = true")) else {
            continue;
        };
        let mut words = attribute.split([',', '(', ')']).map(str::trim);
        let Some(env) = words.find(|w| *w == "env" || w.starts_with("env =")) else { continue };
        let field = rest.trim_start().trim_start_matches("pub ").split(':').next().unwrap_or_default();
        names.push(match env.split_once('"') {
            Some((_, name)) => name.trim_end_matches('"').to_owned(),
            None => field.to_uppercase(),
        });
    }
    names
}

/// The variables that have a row of their own: `` | `NAME` | ``, or two of them in one: `` | `NAME`, `NAME_FILE` | ``.
fn documented(page: &str) -> BTreeSet<String> {
    let first_cells = page.lines().filter_map(|l| l.strip_prefix("| `")?.split(" |").next());
    first_cells.flat_map(|cell| cell.split(", ")).map(|name| name.trim_matches('`').to_owned()).collect()
}

fn broken_links(page: &File) -> Vec<Finding> {
    let mut found = Vec::new();
    for (line, text) in (1..).zip(page.text.lines()) {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let folder = page.path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let file = if path.is_empty() { root().join(&page.path) } else { root().join(folder).join(path) };
            let there = file.exists() && (anchor.is_empty() || anchors(&file).contains(anchor));
            found.extend(found_if(!there, line, || format!("`{target}` leads nowhere: correct or remove it")));
        }
    }
    found
}

/// The anchors GitHub makes of a page's headings.
fn anchors(page: &std::path::Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(page).unwrap_or_default();
    let headings = text.lines().filter(|l| l.starts_with('#')).map(|l| l.trim_start_matches('#').trim().to_lowercase());
    headings.map(|h| h.replace(' ', "-").replace(|c: char| !c.is_alphanumeric() && c != '-' && c != '_', "")).collect()
}

#[test]
fn the_readers_of_this_file_see() {
    let source = "    #[arg(long, env, default_value = \"a, b\")]\n    pub api_host: String,\n    #[arg(long, hide_env_values = true)]\n    pub no: u8,\n    #[arg(env = \"OTHER_NAME\", long)]\n    pub x: u8,\n    #[arg(long, env = \"HOME\", hide = true)]\n    home: u8,\n";
    assert_eq!(settings(&File::new("api/src/a.rs", source)), ["API_HOST", "OTHER_NAME"]);
    let page = "| variable | default |\n| `A`, `A_FILE` | x |\n| `B` | `C` |\n";
    assert_eq!(documented(page).into_iter().collect::<Vec<_>>(), ["A", "A_FILE", "B"]);
    let page =
        File::new("docs/a.md", "[a](../README.md) [b](none.md)\n[c](https://x.org/#a) [d](../README.md#nowhere)\n");
    assert_eq!(broken_links(&page).iter().map(|f| f.line).collect::<Vec<_>>(), [1, 2]);
}
