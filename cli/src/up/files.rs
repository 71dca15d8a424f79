//! The files that `up` keeps in the state directory: folders, the pepper, the other secrets, the admin key's file.
//!
//! Called by `up` and `up::database` while the directory is locked. Every file appears whole (written beside its place,
//! then renamed) and is readable by its owner only. It must never print or log what is in them.

use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use shared::access::Pepper;
use shared::config::require_strong;
use tempfile::NamedTempFile;

use super::plan::Plan;

/// Bytes of a generated secret.
const SECRET_BYTES: usize = 32;

/// Makes the folders that are missing.
pub(super) fn make_directories(plan: &Plan) -> Result<()> {
    for directory in [plan.media(), plan.media().join("test"), plan.uploads(), plan.secrets()] {
        match DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("could not make {}", directory.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The pepper of this installation, made at the first start.
pub(super) fn pepper(plan: &Plan) -> Result<Pepper> {
    let path = plan.pepper_file();
    let text = match read(&path)? {
        Some(text) => text,
        None => {
            let text = random_hex()?;
            write_private(&path, &text)?;
            text
        }
    };
    let strong = require_strong("API_KEY_PEPPER", Some(text.into()));
    Ok(Pepper::new(strong.with_context(|| format!("{} was changed by hand", path.display()))?))
}

/// Makes the secret that signs access tokens, at the first start.
pub(super) fn jwt_secret(plan: &Plan) -> Result<()> {
    let path = plan.jwt_secret_file();
    if read(&path)?.is_none() {
        write_private(&path, &random_hex()?)?;
    }
    Ok(())
}

/// Makes the keys of what is encrypted at rest, at the first start.
pub(super) fn encryption_keys(plan: &Plan) -> Result<()> {
    let path = plan.encryption_keys_file();
    if read(&path)?.is_none() {
        write_private(&path, &format!("first:{}", BASE64_STANDARD.encode(random()?)))?;
    }
    Ok(())
}

/// The text of a file without surrounding white space; None if there is no file.
pub(super) fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("could not read {}", path.display())),
    }
}

/// Writes one line into a file with mode 0600, durably and all at once.
pub(super) fn write_private(path: &Path, line: &str) -> Result<()> {
    let context = || format!("could not write {}", path.display());
    let directory = path.parent().with_context(context)?;
    // A temporary file of this crate has mode 0600 from the beginning.
    let mut file = NamedTempFile::new_in(directory).with_context(context)?;
    writeln!(file, "{line}").with_context(context)?;
    file.as_file().sync_all().with_context(context)?;
    file.persist(path).with_context(context)?;
    File::open(directory).and_then(|directory| directory.sync_all()).with_context(context)
}

fn random() -> Result<[u8; SECRET_BYTES]> {
    let mut bytes = [0; SECRET_BYTES];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("could not read /dev/urandom")?;
    Ok(bytes)
}

fn random_hex() -> Result<String> {
    Ok(random()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_private_file_is_private_and_whole() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("key");
        assert_eq!(read(&path).expect("none"), None);
        write_private(&path, "one").expect("write");
        write_private(&path, "two").expect("write again");
        assert_eq!(fs::read_to_string(&path).expect("read"), "two\n");
        assert_eq!(read(&path).expect("some").as_deref(), Some("two"));
        assert_eq!(fs::metadata(&path).expect("metadata").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).expect("list").count(), 1, "a temporary file is left");
    }

    #[test]
    fn secrets_are_long_and_differ() {
        let (one, two) = (random_hex().expect("one"), random_hex().expect("two"));
        assert_eq!(one.len(), 2 * SECRET_BYTES);
        assert_ne!(one, two);
    }
}
