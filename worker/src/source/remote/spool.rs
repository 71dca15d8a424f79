//! A whole object in a file without a name, for origins that do not serve parts. Called by `fetch` once the size is known
//! to be within the bounds. The file is gone with its descriptor, whatever happens to the worker.

use std::fs::File;

use shared::job::FailureCode;
use tokio::io::AsyncWriteExt;

use super::bounds::Bounds;
use super::fault::Fault;
use super::meter::Meter;
use super::origin::Body;
use super::patience::Patience;

/// Reads the body, which must have exactly `size` bytes, into a new file.
pub(super) async fn fill(
    mut body: Body,
    size: u64,
    meter: &Meter,
    bounds: &Bounds,
    patience: &mut Patience,
) -> Result<File, Fault> {
    let dir = bounds.spool_dir.clone();
    let made = tokio::task::spawn_blocking(move || tempfile::tempfile_in(dir)).await;
    let mut file = match made {
        Ok(Ok(file)) => tokio::fs::File::from_std(file),
        Ok(Err(error)) => return Err(broken(&error)),
        Err(_) => return Err(Fault::last(FailureCode::Internal, "Making a temporary file broke off.")),
    };
    let mut written = 0;
    while let Some(bytes) = patience.next(&mut body, meter, bounds).await? {
        written += bytes.len() as u64;
        if written > size {
            return Err(Fault::lost("The server sent more bytes than it announced."));
        }
        meter.add(|account| account.bytes += bytes.len() as u64);
        file.write_all(&bytes).await.map_err(|error| broken(&error))?;
    }
    if written < size {
        return Err(Fault::lost(format!("The answer ended {} bytes too early.", size - written)));
    }
    file.flush().await.map_err(|error| broken(&error))?;
    Ok(file.into_std().await)
}

/// The temporary file fails.
pub(super) fn broken(reason: impl std::fmt::Display) -> Fault {
    tracing::error!(%reason, "the temporary file of a remote object fails; is its disk full?");
    Fault::last(FailureCode::StorageError, "The worker could not keep the object while reading it.")
}
