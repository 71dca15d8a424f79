//! Puts an upload together from its parts, in order, within the storage. Called when it is created, and by the sweep if the
//! process died on the way: it goes on where the offset stands. Counts what it copied like any received byte.

use std::sync::Arc;
use std::time::Duration;

use shared::Error;
use shared::store;
use shared::store::upload::Upload;
use shared::upload::UploadState;

use super::finish::{finish, reject};
use crate::App;
use crate::hold::{Hold, locked};

/// Bytes copied before the offset moves.
const PIECE: u64 = 64 << 20;
/// How long parts are kept after they were put together.
const PARTS_KEPT: Duration = Duration::from_secs(3600);

/// Puts the upload together and completes it.
pub async fn assemble(app: &Arc<App>, hold: Hold, mut upload: Upload) -> Result<Upload, Error> {
    let parts = store::in_time(store::upload::list_for_share(&app.db, upload.tenant, &upload.parts)).await?;
    let (tail, mut at) = app.storage.append(upload.id, upload.offset()).await?;
    let mut begin = 0_u64;
    for id in &upload.parts {
        let part = parts.iter().find(|p| p.id == *id && p.state == UploadState::Complete);
        let Some(size) = part.map(Upload::offset) else {
            reject(app, hold).await?;
            return Err(Error::not_found("part"));
        };
        let end = begin.saturating_add(size);
        while at < end {
            let copied = hold.during(at, tail.copy(*id, at - begin, at, (end - at).min(PIECE))).await?;
            if copied == 0 {
                return Err(Error::internal(format!("the part {id} is shorter than its row says")));
            }
            hold.during(at, tail.sync()).await?;
            at += copied;
            if !hold.renew(at).await? {
                return Err(locked());
            }
            tail.counted(at);
        }
        begin = end;
    }
    upload.received_bytes = i64::try_from(at).unwrap_or(i64::MAX);
    drop(tail);
    let done = finish(app, hold, &upload, None).await?;
    store::in_time(store::upload::sweep::let_go(&app.db, &done.parts, PARTS_KEPT)).await?;
    Ok(done)
}
