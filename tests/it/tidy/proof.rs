//! Shows each rule of `tidy` one text that keeps it and one that breaks it, so that a rule that has gone blind is seen.

use std::collections::HashMap;

use super::{File, Finding};

/// The lines where the rule finds something in this text.
/// What a rule finds in text that keeps it.
const NOTHING: [usize; 0] = [];

fn lines(rule: impl Fn(&File) -> Vec<Finding>, path: &str, text: &str) -> Vec<usize> {
    rule(&File::new(path, text)).iter().map(|f| f.line).collect()
}

fn floors() -> HashMap<String, u8> {
    let header = "//! ```text\n//! 3  lifecycle         all\n//! 2  store · queue\n//! 1  job · media  words\n//! 0  id · error\n//! ```";
    super::floors_of(header)
}

#[test]
fn header_rule() {
    assert_eq!(lines(super::header, "api/src/a.rs", "//! What this file holds.\n"), NOTHING);
    for bad in ["", "use std::fs;\n", "// A comment, not a header.\n", "//! short\n"] {
        assert_eq!(lines(super::header, "api/src/a.rs", bad), [1], "{bad:?}");
    }
}

#[test]
fn length_rules() {
    assert_eq!(lines(super::file_length, "api/src/a.rs", &"x\n".repeat(400)), NOTHING);
    assert_eq!(lines(super::file_length, "api/src/a.rs", &"x\n".repeat(401)), [401]);
    assert_eq!(lines(super::file_length, "tests/it/a.rs", &"x\n".repeat(401)), NOTHING);
    let function = |lines: usize| {
        format!("\nfn f(a: [u8; 4]) -> char {{\n{}'}}'\n}}\nfn g();\n", "let s = \"}\"; // }\n".repeat(lines - 3))
    };
    assert_eq!(lines(super::function_length, "a.rs", &function(70)), NOTHING);
    assert_eq!(lines(super::function_length, "a.rs", &function(71)), [2]);
}

#[test]
fn marker_rule() {
    for marker in
        [concat!("// TO", "DO later"), concat!("-- FIX", "ME"), concat!("to", "do!()"), concat!("d", "bg!(x)")]
    {
        assert_eq!(lines(super::markers, "api/src/a.rs", &format!("fine\n{marker}\n")), [2], "{marker}");
    }
    assert_eq!(lines(super::markers, "scripts/a.sh", "mktemp /tmp/a.XXXXXX\n"), NOTHING);
}

#[test]
fn reason_rule() {
    assert_eq!(lines(super::reasons, "a.rs", "\n#[expect(unsafe_code)]\n"), [2]);
    assert_eq!(lines(super::reasons, "a.rs", "#![allow(dead_code)]\n"), [1]);
    assert_eq!(
        lines(super::reasons, "a.rs", "#[expect(\n    unsafe_code,\n    reason = \"setrlimit\"\n)]\n// #[allow(x)]\n"),
        NOTHING
    );
}

#[test]
fn name_rule() {
    assert_eq!(lines(super::names, "api/src/utils.rs", ""), [1]);
    assert_eq!(lines(super::names, "api/src/helpers/a.rs", ""), [1]);
    assert_eq!(lines(super::names, "api/src/problem.rs", ""), NOTHING);
}

#[test]
fn sql_rule() {
    let code = "//! sqlx::query in words is fine\nlet a = sqlx::query_as(\"select 1\");\nuse sqlx::{PgPool, query};\nuse sqlx::PgPool;\npool.execute(\"x\");\n";
    let mut found = lines(super::sql_outside_store, "api/src/a.rs", code);
    found.sort_unstable();
    assert_eq!(found, [2, 3, 5]);
    for home in ["shared/src/store.rs", "shared/src/store/job.rs", "tests/it/jobs.rs"] {
        assert_eq!(lines(super::sql_outside_store, home, code), NOTHING, "{home}");
    }
    assert_eq!(lines(super::sql_outside_store, "cli/src/client.rs", "request.query(&[1])"), NOTHING);
}

#[test]
fn environment_rule() {
    let code = "// std::env::var\nlet a = std::env::var(\"A\");\nuse std::env::{self};\nenv!(\"B\");\n";
    assert_eq!(lines(super::environment, "api/src/lib.rs", code), [2, 3]);
    assert_eq!(lines(super::environment, "api/src/main.rs", code), NOTHING);
}

#[test]
fn edge_rule() {
    let manifest = "[package]\nname = \"worker\"\n[dependencies]\nshared.workspace = true\napi = { path = \"../api\" }\n[dev-dependencies]\ncli.workspace = true\n";
    assert_eq!(lines(super::edges, "worker/Cargo.toml", manifest), [5, 7]);
    assert_eq!(lines(super::edges, "tests/Cargo.toml", manifest), NOTHING);
    assert_eq!(lines(super::edges, "shared/Cargo.toml", "[dependencies]\nshared.workspace = true\n"), [2]);
}

#[test]
fn floor_rule() {
    let rule = |file: &File| super::floor_breaks(&floors(), file);
    assert_eq!(lines(rule, "shared/src/lifecycle.rs", "use crate::store::job;\nuse crate::{Error, queue};\n"), NOTHING);
    assert_eq!(lines(rule, "shared/src/store.rs", "use crate::queue::push;\n"), [1], "neighbours on floor 2");
    assert_eq!(lines(rule, "shared/src/media.rs", "use crate::job::Job;\n"), NOTHING, "words may use words");
    assert_eq!(lines(rule, "shared/src/job.rs", "\nfn f() { crate::store::find(); }\n"), [2], "a path in code");
    assert_eq!(lines(rule, "shared/src/job.rs", "use crate::{Error, id::{JobId, B}, store};\n"), [1], "a group");
    assert_eq!(lines(rule, "shared/src/job.rs", "use super::store;\n"), [1], "through super");
    assert_eq!(
        lines(rule, "shared/src/store/job.rs", "use super::queue;\nuse super::super::queue;\n"),
        [2],
        "two floors of super"
    );
    assert_eq!(
        lines(
            rule,
            "shared/src/job.rs",
            "/// See [`crate::store`].\n#[cfg(test)]\nmod tests {\nuse crate::store;\n}\n"
        ),
        NOTHING
    );
    assert_eq!(lines(rule, "shared/src/attic.rs", ""), [1], "a module without a floor");
    assert_eq!(lines(rule, "shared/src/lib.rs", "pub use error::Error;"), NOTHING);
}

#[test]
fn purity_rule() {
    let rule = |file: &File| super::impurities(&floors(), file);
    assert_eq!(lines(rule, "shared/src/job.rs", "\nasync fn f() {}\nlet now = Utc::now();\n").len(), 2);
    assert_eq!(
        lines(
            rule,
            "shared/src/job.rs",
            "let words = \"tokio::\";\n#[cfg(test)]\nmod tests { fn f() { Utc::now(); } }"
        ),
        NOTHING
    );
    assert_eq!(lines(rule, "shared/src/store/job.rs", "async fn f() {}"), NOTHING);
}

#[test]
fn migration_rule() {
    let good = "-- Why: CHECK it\ncreate table job (\n  id uuid not null,\n  constraint job_pk primary key (id),\n  tenant uuid constraint job_tenant_fk references tenant (id),\n  constraint job_up_fk foreign key (upload, tenant) references upload (id, tenant),\n  state text constraint job_state_known check (state in ('QUEUED', 'it''s'))\n);\ncreate unique index job_a on job (a);\n";
    assert_eq!(lines(super::migration, "migrations/0001_job.sql", good), NOTHING);
    assert_eq!(lines(super::migration, "migrations/1_job.sql", good), [1]);
    let bad = "CREATE table a (\n  id uuid primary key,\n  b uuid references b (id),\n  c int check (c > 0),\n  unique (c),\n  foreign key (b) references b (id)\n);\n";
    assert_eq!(lines(super::migration, "migrations/0001_a.sql", bad), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn the_scanner_knows_code_from_words() {
    let text = "let a = \"{\\\"\"; // {\nlet b = r#\"{\"#; /* { /* { */ { */ let c = '{'; let d: &'static str = r\"{\"; let r#type = b\"{\";";
    let code = super::code_only(text);
    assert!(!code.contains('{'), "{code}");
    assert_eq!(code.lines().count(), 2);
    assert!(code.contains("&'static str") && code.contains("r#type"), "{code}");
}
