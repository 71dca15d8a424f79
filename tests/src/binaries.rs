//! The binaries under test, built once per run so that none is stale.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The top folder of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a member of the workspace")
}

/// The folder `target/PROFILE` of the program that runs: tests lie in its `deps`, benchmarks in itself.
pub fn profile() -> PathBuf {
    let own = std::env::current_exe().expect("a program has a path");
    let folder = own.parent().expect("a folder");
    if folder.ends_with("deps") { folder.parent().expect("a profile").to_owned() } else { folder.to_owned() }
}

/// The path of one of our binaries, freshly built.
pub fn path(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = profile();
        // what a benchmark measures is optimised like itself
        let profile = if folder.ends_with("release") { "release" } else { "dev" };
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--profile", profile, "-p", "api", "-p", "worker", "-p", "cli"])
            .current_dir(workspace())
            .status()
            .expect("cargo runs");
        assert!(built.success(), "the binaries do not build");
        folder
    });
    folder.join(name)
}
