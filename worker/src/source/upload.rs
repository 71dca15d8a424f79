//! The bytes of an upload, in the upload volume. Blocks.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use shared::job::{Failure, FailureCode};

use super::{FLAGS, OpenInput, failed};

/// Opens the bytes of a complete upload at `path`, which `shared::storage` gives; `name` is the client's name for them.
/// The caller has made sure that the volume is there and is ours: without its bytes the upload is gone.
pub fn open(path: &Path, name: &str) -> Result<OpenInput, Failure> {
    // we wrote the file ourselves under a random name: a link there is none of ours
    let file = rustix::fs::open(path, FLAGS | OFlags::NOFOLLOW, Mode::empty()).map(File::from).map_err(io::Error::from);
    match file {
        Ok(file) => OpenInput::check(file, name),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Failure::new(FailureCode::UploadGone, format!("The bytes of '{name}' are not stored any more.")))
        }
        Err(error) => Err(failed(&error, name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_is_opened_by_its_path_and_named_by_its_client() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        std::fs::write(&data, "bytes").unwrap();
        let input = open(&data, "my clip.mp4").unwrap();
        assert_eq!((input.size, input.name.as_str()), (5, "my clip.mp4"));

        std::fs::write(&data, "").unwrap();
        assert_eq!(open(&data, "x").unwrap_err().code, FailureCode::EmptyInput);
        assert_eq!(open(dir.path(), "x").unwrap_err().code, FailureCode::NotAFile);
        assert_eq!(open(&dir.path().join("none"), "x").unwrap_err().code, FailureCode::UploadGone);
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        assert!(open(&dir.path().join("link"), "x").is_err());
    }
}
