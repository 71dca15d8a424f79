//! The images and the compose file, as far as text tells: `compose/example.env` names settings that exist, with values that the
//! binaries take; every service is bounded, restarted and asked whether it is well; images are pinned; a service sees only
//! its own secrets. Nothing is built or started here: `scripts/smoke.sh` tries a stack that runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use serde_json::Value;
use tests::binaries;

/// Services that end by themselves: nobody asks them whether they are well.
const ONCE: [&str; 2] = ["migrate", "bootstrap"];
/// Settings that a container has no use for, or only with a file that its operator mounts.
const NOT_IN_CONTAINERS: [&str; 9] = [
    "FFPROBE_PATH",
    "JAIL_UID",
    "JAIL_GID",
    "JAIL_CGROUP",
    "FFPROBE_API_STATE_DIR",
    "FFPROBE_API_URL",
    "FFPROBE_WEBHOOK_SECRET",
    "EGRESS_CA_FILE",
    "POSTGRES_SSL_ROOT_CERT",
];
/// Made once by hand, instead of a file (`docs/deployment.md`).
const INSTEAD: [&str; 2] = ["BOOTSTRAP_ADMIN_API_KEY_FILE", "S3_PROFILES_FILE"];

fn read(path: &str) -> String {
    fs::read_to_string(binaries::workspace().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// A YAML file as JSON, with anchors and merges resolved.
fn yaml(path: &str) -> Value {
    let python = binaries::profile().with_file_name("clients").join("containers-venv/bin/python");
    let program = "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)";
    let mut command = Command::new(python);
    let output = command.args(["-c", program]).arg(binaries::workspace().join(path)).output().expect("python starts");
    assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn services(compose: &Value) -> &serde_json::Map<String, Value> {
    compose["services"].as_object().expect("services")
}

/// `NAME=value` of the file, commented out or not; prose has spaces.
fn example() -> BTreeMap<String, String> {
    let text = read("compose/example.env");
    let lines = text.lines().filter_map(|line| line.strip_prefix('#').unwrap_or(line).split_once('='));
    let named =
        lines.filter(|(name, _)| name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_'));
    named.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The variables that have a row in `docs/configuration.md`.
fn documented() -> BTreeSet<String> {
    let page = read("docs/configuration.md");
    let cells = page.lines().filter_map(|l| l.strip_prefix("| `")?.split(" |").next());
    cells.flat_map(|cell| cell.split(", ")).map(|name| name.trim_matches('`').to_owned()).collect()
}

/// `${NAME:-default}` of the compose file.
fn interpolated() -> BTreeMap<String, String> {
    let text = read("compose/compose.yaml");
    let parts = text.split("${").skip(1).filter_map(|rest| rest.split_once('}')?.0.split_once(":-"));
    parts.map(|(name, default)| (name.to_owned(), default.to_owned())).collect()
}

#[test]
fn the_example_names_settings_that_exist_and_all_of_them() {
    let (example, documented, interpolated) = (example(), documented(), interpolated());
    assert!(example.len() > 50, "{example:?}");
    for name in example.keys() {
        assert!(documented.contains(name) || interpolated.contains_key(name), "{name} is a setting of nothing");
    }
    let is_secret = |name: &String| name.ends_with("_FILE") || documented.contains(&format!("{name}_FILE"));
    let fixed = yaml("compose/compose.yaml");
    for name in &documented {
        let known = example.contains_key(name)
            || is_secret(name)
            || NOT_IN_CONTAINERS.contains(&name.as_str())
            || fixed["services"]["api"]["environment"].get(name).is_some();
        assert!(known, "compose/example.env lacks {name}");
    }
    for name in INSTEAD.iter().chain(&NOT_IN_CONTAINERS) {
        assert!(documented.contains(*name), "{name} is gone, so this list needs it no more");
    }
}

#[test]
fn both_files_have_the_same_defaults() {
    let example = example();
    for (name, default) in interpolated() {
        let told = example.get(&name).unwrap_or_else(|| panic!("compose/example.env lacks {name}"));
        assert_eq!(*told, default, "{name}");
    }
}

/// With every line of the example in force, each binary understands its settings. What is wrong shows before anything is
/// connected to: secrets are missing, and that is the first thing they say.
#[test]
fn the_binaries_take_the_values_of_the_example() {
    for (binary, says) in [("ffprobe-api", "ENCRYPTION_KEYS"), ("ffprobe-worker", "ENCRYPTION_KEYS")] {
        let mut command = Command::new(binaries::path(binary));
        command.env_clear().envs(example()).envs([("API_HOST", "127.0.0.1"), ("METRICS_ADDR", "")]);
        let output = command.output().expect("starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(says), "{binary}: {said}");
    }
    let help = |binary: &str, command: &[&str]| {
        let output = Command::new(binaries::path(binary)).args(command).arg("--help").output().expect("starts");
        String::from_utf8(output.stdout).expect("text")
    };
    let all = help("ffprobe-api", &[]) + &help("ffprobe-worker", &[]) + &help("probectl", &["migrate"]);
    let interpolated = interpolated();
    for name in example().keys().filter(|name| !interpolated.contains_key(*name)) {
        let is_shown = |end| all.contains(&format!("[env: {name}{end}"));
        assert!(is_shown("=") || is_shown("]"), "no binary takes {name}");
    }
}

#[test]
fn every_service_is_bounded_restarted_and_asked() {
    let compose = yaml("compose/compose.yaml");
    assert!(services(&compose).len() >= 6);
    for (name, service) in services(&compose) {
        let limits = &service["deploy"]["resources"]["limits"];
        for limit in ["cpus", "memory", "pids"] {
            assert!(!limits[limit].is_null(), "{name} has no limit of {limit}");
        }
        let once = ONCE.contains(&name.as_str());
        let asked = if once { &service["healthcheck"]["disable"] } else { &service["healthcheck"]["test"] };
        assert!(!asked.is_null(), "{name} has no health check");
        let restart = service["restart"].as_str().unwrap_or_default();
        assert_eq!(restart == "unless-stopped", !once, "{name}: restart: {restart}");
        assert_eq!(service["read_only"], true, "{name}: its root can be written");
        assert_eq!(service["cap_drop"], serde_json::json!(["ALL"]), "{name}");
        assert_eq!(service["security_opt"], serde_json::json!(["no-new-privileges:true"]), "{name}");
        assert!(service["privileged"].is_null() && service["network_mode"].is_null(), "{name}");
        let published = service["ports"].as_array().map_or(0, Vec::len);
        assert_eq!(published, usize::from(name == "balancer"), "{name} is published");
    }
    assert_eq!(services(&compose)["worker"]["environment"]["SANDBOX"], "${SANDBOX:-required}");
}

#[test]
fn a_service_sees_its_own_secrets_only() {
    let compose = yaml("compose/compose.yaml");
    let sees = |service: &str, secret: &str| {
        let list = services(&compose)[service]["secrets"].as_array().cloned().unwrap_or_default();
        list.iter().any(|s| s == secret)
    };
    for (secret, seen_by) in [
        ("postgres_superuser_password", vec!["postgres"]),
        ("postgres_owner_password", vec!["postgres"]),
        ("migrate_database_url", vec!["migrate"]),
        ("jwt_secret", vec!["api"]),
        ("api_key_pepper", vec!["api", "bootstrap"]),
        ("encryption_keys", vec!["api", "worker"]),
    ] {
        let found: Vec<_> = services(&compose).keys().map(String::as_str).filter(|name| sees(name, secret)).collect();
        assert_eq!(found.iter().collect::<BTreeSet<_>>(), seen_by.iter().collect(), "{secret}");
    }
    let made = read("compose/secrets.sh");
    for name in compose["secrets"].as_object().expect("secrets").keys() {
        assert!(made.contains(name.as_str()), "compose/secrets.sh does not make {name}");
    }
    assert!(read(".gitignore").contains("/compose/secrets/") && read(".dockerignore").starts_with('#'));
}

#[test]
fn the_linters_are_content() {
    let target = binaries::profile().parent().expect("target/").to_owned();
    let script = binaries::workspace().join("scripts/containers.sh");
    let output = Command::new(script).env("CARGO_TARGET_DIR", target).output().expect("starts");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// A tag without a number moves with every release of somebody else.
#[test]
fn images_are_pinned() {
    let is_pinned = |image: &str| {
        let tag = image.rsplit_once('/').map_or(image, |(_, name)| name).split_once(':').map_or("", |(_, tag)| tag);
        tag == "local" || tag.split(['-', '@']).next().is_some_and(|version| version.split('.').count() >= 2)
    };
    assert!(is_pinned("docker.io/library/debian:12.15-slim") && is_pinned("a:local"));
    assert!(!is_pinned("debian") && !is_pinned("a.io:80/debian:latest") && !is_pinned("debian:bookworm-slim"));
    for (name, default) in interpolated().iter().filter(|(name, _)| name.ends_with("_IMAGE")) {
        assert!(is_pinned(default), "{name}={default}");
    }
    for file in ["Dockerfile.api", "Dockerfile.worker"] {
        let text = read(file);
        let bases: Vec<_> = text.lines().filter_map(|l| l.strip_prefix("ARG ")?.split_once("_IMAGE=")).collect();
        assert_eq!(bases.len(), 2, "{file}");
        assert!(bases.iter().all(|(_, image)| is_pinned(image)), "{file}: {bases:?}");
        let own = ["${RUST_IMAGE}", "${DEBIAN_IMAGE}", "dependencies", "scratch"];
        let from = text.lines().filter_map(|l| l.strip_prefix("FROM ")?.split(' ').next());
        for base in from {
            assert!(own.contains(&base), "{file}: FROM {base}");
        }
        let user = text.lines().rfind(|l| l.starts_with("USER "));
        assert_eq!(user, Some("USER 10001:10001"), "{file}");
    }
}

#[test]
fn both_images_are_built_from_the_same_beginning() {
    let common = |file: &str| {
        let text = read(file);
        let (_, rest) = text.split_once("\nARG RUST_IMAGE=").expect("the common part");
        rest.split_once("# end of the common part").expect("its end").0.to_owned()
    };
    let part = common("Dockerfile.api");
    assert_eq!(part, common("Dockerfile.worker"));
    // Cargo wants to see the manifest of every member
    let manifest = read("Cargo.toml");
    let members = manifest.lines().find_map(|l| l.strip_prefix("members = [")).expect("members");
    for member in members.trim_end_matches(']').split(", ").map(|m| m.trim_matches('"')) {
        assert!(part.contains(&format!("COPY {member}/Cargo.toml {member}/\n")), "no COPY of {member}/Cargo.toml");
        let context = read(".dockerignore");
        assert!(context.lines().any(|l| l == format!("!{member}") || l == format!("!{member}/Cargo.toml")), "{member}");
    }
    let rust = manifest.lines().find_map(|l| l.strip_prefix("rust-version = ")).expect("rust-version");
    let base = part.split_once("rust:").expect("a base").1;
    assert!(base.starts_with(rust.trim_matches('"')), "the images are built with another Rust than {rust}");
}
