//! The SHA-256 of a whole file, in the form that upload metadata carries. Called by `upload`, beside the sending. Reads on a
//! thread for blocking work, piece by piece, and stops soon after its caller has lost interest.

use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// Bytes read at once.
const PIECE: usize = 1 << 20;

/// Tells the thread to stop when the future that waits for it is dropped.
struct Interest(Arc<AtomicBool>);

impl Drop for Interest {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// `sha256:` and 64 hexadecimal digits.
pub(super) async fn sha256(path: &Path) -> Result<String> {
    let wanted = Arc::new(AtomicBool::new(true));
    let _interest = Interest(Arc::clone(&wanted));
    let owned = path.to_owned();
    let read = tokio::task::spawn_blocking(move || read(&owned, &wanted));
    read.await.context("the checksum was not made")?.with_context(|| format!("cannot read {}", path.display()))
}

fn read(path: &Path, wanted: &AtomicBool) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut piece = vec![0; PIECE];
    let mut hasher = Sha256::new();
    while wanted.load(Ordering::Relaxed) {
        let count = file.read(&mut piece)?;
        if count == 0 {
            break;
        }
        hasher.update(&piece[..count]);
    }
    Ok(hasher.finalize().iter().fold("sha256:".to_owned(), |mut text, byte| {
        // writing into a String cannot fail
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_known_sum() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "abc").unwrap();
        let sum = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(&path).await.unwrap(), sum);
        assert!(sha256(&folder.path().join("none")).await.is_err());
    }
}
