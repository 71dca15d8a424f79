//! openapi.json and the API keep to each other, in the judgement of tools that other people wrote: schemathesis sends what the
//! document allows and forbids; clients that openapi-python-client and openapi-typescript make of it probe a file.
//! scripts/clients.sh installs them, scripts/contract.sh runs the first, which takes the longer run in `make check`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::{Http, Installation, Program, binaries, samples};

/// Cases of schemathesis for each operation, beside those it derives from the document; and which.
const EXAMPLES: &str = "1";
const SEED: &str = "1";
/// Operations that it does not ask, because their answers do not end.
const ENDLESS: [&str; 2] = ["GET /api/v1/events", "GET /api/v1/jobs/{id}/events"];
/// Longest time the whole run may take.
const MOST: Duration = Duration::from_secs(90);

/// An installation with the file that the examples of the document name.
async fn house() -> (Installation, Http, Vec<Program>, String) {
    let (installation, http, programs) = Installation::running().await;
    let path = installation.put("test/sample.mp4", &std::fs::read(samples::path("mp4")).expect("a sample"));
    (installation, http, programs, path)
}

fn document() -> PathBuf {
    binaries::workspace().join("openapi.json")
}

/// What scripts/clients.sh installed.
fn tools(name: &str) -> PathBuf {
    let folder = binaries::profile().parent().expect("target").join("clients").join(name);
    assert!(folder.join("installed").exists(), "{} is not there: run scripts/setup.sh test", folder.display());
    folder
}

/// Runs a program to its end, which must be a good one, and returns what it wrote.
fn run(name: &str, program: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let variables: Vec<_> = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let mut running = Program::start(name, program, arguments, &variables);
    let status = running.wait_at_most(MOST);
    assert!(status.success(), "{name} ended with {status}:\n{}", running.log());
    running.log()
}

/// The operations of the document as schemathesis names them.
fn operations() -> Vec<String> {
    let text = std::fs::read_to_string(document()).expect("openapi.json is committed");
    let document: Value = serde_json::from_str(&text).expect("JSON");
    let paths = document["paths"].as_object().expect("paths").iter();
    paths
        .flat_map(|(path, item)| {
            let methods = item.as_object().expect("operations").keys();
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_nothing() {
    let (installation, http, _programs, _) = house().await;
    let script = binaries::workspace().join("scripts/contract.sh");
    let target = tools("contract-venv").ancestors().nth(2).expect("target").display().to_string();
    let environment = [
        ("URL", http.url()),
        ("API_KEY", &installation.key),
        ("CONTRACT_EXAMPLES", EXAMPLES),
        ("CONTRACT_SEED", SEED),
        ("CARGO_TARGET_DIR", &target),
    ];
    let begun = Instant::now();
    let log = run("contract.sh", &script, &[], &environment);
    let counted: BTreeMap<&str, u32> = log
        .lines()
        .filter_map(|line| line.split_once(" cases  "))
        .filter_map(|(count, operation)| Some((operation, count.trim().parse().ok()?)))
        .collect();
    for operation in operations().into_iter().filter(|operation| !ENDLESS.contains(&operation.as_str())) {
        let cases = counted.get(operation.as_str()).copied().unwrap_or_default();
        println!("{cases:5} cases  {operation}");
        assert!(cases >= 3, "{operation} was asked {cases} times:\n{log}");
    }
    println!("{} cases in {} s", counted.values().sum::<u32>(), begun.elapsed().as_secs());
}

#[tokio::test]
async fn a_generated_python_client_probes_a_file() {
    let (installation, http, _programs, path) = house().await;
    let folder = installation.folder().join("python");
    let tools = tools("contract-venv").join("bin");
    // it formats what it makes with ruff, which lies beside it
    let search = format!("{}:{}", tools.display(), std::env::var("PATH").expect("PATH is set"));
    let config = binaries::workspace().join("tests/contract/python.yaml");
    let made = run(
        "openapi-python-client",
        &tools.join("openapi-python-client"),
        &["generate", "--path", text(&document()), "--config", text(&config), "--output-path", text(&folder)],
        &[("PATH", &search)],
    );
    assert!(!made.contains("WARNING") && !made.contains("Unable"), "parts of the document were left out:\n{made}");
    let python = tools.join("python");
    run("compileall", &python, &["-m", "compileall", "-q", text(&folder)], &[]);
    let script = binaries::workspace().join("tests/contract/client.py");
    let environment = [("API_KEY", installation.key.as_str()), ("PYTHONPATH", text(&folder))];
    check(&run("client.py", &python, &[text(&script), http.url(), &path], &environment));
    assert_eq!(refreshes(&installation).await, [0], "it logs in once");
}

#[tokio::test]
async fn a_generated_typescript_client_probes_a_file() {
    let (installation, http, _programs, path) = house().await;
    let folder = installation.folder().join("typescript");
    std::fs::create_dir(&folder).expect("a folder");
    let modules = tools("contract-node").join("node_modules");
    std::os::unix::fs::symlink(&modules, folder.join("node_modules")).expect("a link");
    for name in ["client.ts", "tsconfig.json", "package.json"] {
        std::fs::copy(binaries::workspace().join("tests/contract").join(name), folder.join(name)).expect("a copy");
    }
    let tool = |name: &str| modules.join(".bin").join(name);
    let types = folder.join("schema.ts");
    run("openapi-typescript", &tool("openapi-typescript"), &[text(&document()), "-o", text(&types)], &[]);
    // strict, and it writes nothing if a type does not fit
    run("tsc", &tool("tsc"), &["-p", text(&folder)], &[]);
    let script = folder.join("out/client.js");
    let key = [("API_KEY", installation.key.as_str())];
    check(&run("client.js", Path::new("node"), &[text(&script), http.url(), &path], &key));
    assert_eq!(refreshes(&installation).await, [1], "it logs in once, and refreshes once");
}

/// How often each session was refreshed; the client's job must have been made by the tokens of one, not by the key itself.
async fn refreshes(installation: &Installation) -> Vec<i32> {
    let by: Vec<String> = sqlx::query_scalar("select actor_kind from audit_event where action = 'job.create'")
        .fetch_all(&installation.db)
        .await
        .expect("events");
    assert_eq!(by, ["session"]);
    sqlx::query_scalar("select rotation from session").fetch_all(&installation.db).await.expect("sessions")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// What both clients say of the sample, and of a job that is not there.
fn check(said: &str) {
    let said: Value = said.lines().find_map(|line| serde_json::from_str(line).ok()).expect("a line of JSON");
    assert_eq!(said, serde_json::json!({"state": "succeeded", "codec": "h264", "code": "not_found"}));
}
