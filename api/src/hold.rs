//! The hold on an upload: one request at a time, in all processes, and whoever comes later gets it. A request that wants an
//! upload asks the holder to let go, by the doorbell and by the row; the holder stores what it has and does. A hold is
//! fenced by a token in PostgreSQL, so one that was lost moves nothing.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shared::id::{LeaseToken, TenantId, UploadId};
use shared::lifecycle::upload::gone;
use shared::queue::Bell;
use shared::store::upload::Upload;
use shared::upload::UploadState;
use shared::{Code, Error, store};
use tokio::sync::broadcast;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::App;

/// How long a hold counts without a sign of life: the most a dead process keeps an upload from others.
pub const LEASE: Duration = Duration::from_secs(4);
/// How long a request waits for an upload before it is told to try again; longer than [`LEASE`].
const WAIT: Duration = Duration::from_secs(6);
/// How often a waiting request looks.
const LOOK: Duration = Duration::from_millis(50);
/// How often a waiting request asks again.
const ASK: Duration = Duration::from_secs(1);
/// How often a hold is renewed while something takes its time.
const BEAT: Duration = Duration::from_secs(1);

/// The holds of this process.
#[derive(Default)]
pub struct Holds(Mutex<HashMap<UploadId, (LeaseToken, CancellationToken)>>);

impl Holds {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Asks whoever holds the upload in this process to let go.
    fn ask(&self, id: UploadId) {
        if let Some((_, wanted)) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id) {
            wanted.cancel();
        }
    }

    /// Passes on what other processes ask for. Runs for ever as a task of its own; a bell that was missed costs a second,
    /// because holders look at their rows.
    pub async fn run(&self, mut bells: broadcast::Receiver<Bell>) {
        loop {
            match bells.recv().await {
                Ok(Bell::Release(id)) => self.ask(id),
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }
}

/// One request's hold on an upload. Dropping it lets go.
pub struct Hold {
    app: Arc<App>,
    /// The upload.
    pub id: UploadId,
    /// Every move of the offset carries it.
    pub token: LeaseToken,
    /// Canceled when somebody else wants the upload, or has it.
    pub wanted: CancellationToken,
    ends_with_row: bool,
}

/// What became of the wish for an upload.
pub enum Taken {
    /// It is ours.
    Held(Box<Hold>, Box<Upload>),
    /// It is complete, so there is nothing to hold.
    Complete(Box<Upload>),
}

impl Hold {
    /// A hold with this token, which PostgreSQL has given already.
    pub fn new(app: &Arc<App>, id: UploadId, token: LeaseToken) -> Self {
        let wanted = CancellationToken::new();
        let mut all = app.holds.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(id, (token, wanted.clone()));
        Self { app: Arc::clone(app), id, token, wanted, ends_with_row: false }
    }

    /// Takes the tenant's upload, and asks whoever holds it to let go.
    pub async fn take(app: &Arc<App>, tenant: TenantId, id: UploadId) -> Result<Taken, Error> {
        let (begun, token, mut asked) = (Instant::now(), LeaseToken::new(), None);
        loop {
            if let Some(upload) =
                store::in_time(store::upload::hold::acquire(&app.db, tenant, id, token, LEASE)).await?
            {
                return Ok(Taken::Held(Box::new(Self::new(app, id, token)), Box::new(upload)));
            }
            let upload = find(app, tenant, id).await?;
            if upload.state == UploadState::Complete {
                return Ok(Taken::Complete(Box::new(upload)));
            }
            if begun.elapsed() > WAIT || is_being_finished(&upload) {
                return Err(locked());
            }
            if asked.is_none_or(|at: Instant| at.elapsed() > ASK) {
                asked = Some(Instant::now());
                ask(app, tenant, id).await?;
            }
            sleep(LOOK).await;
        }
    }

    /// Takes the tenant's upload if nobody holds it.
    pub async fn take_free(app: &Arc<App>, tenant: TenantId, id: UploadId) -> Result<Option<(Self, Upload)>, Error> {
        let token = LeaseToken::new();
        let upload = store::in_time(store::upload::hold::acquire(&app.db, tenant, id, token, LEASE)).await?;
        Ok(upload.map(|upload| (Self::new(app, id, token), upload)))
    }

    /// Moves the offset and renews the hold. Tells whether it still is ours.
    pub async fn renew(&self, received: u64) -> Result<bool, Error> {
        let expiry = self.app.limits.upload_expiry;
        match store::in_time(store::upload::hold::renew(&self.app.db, self.id, self.token, received, LEASE, expiry))
            .await?
        {
            None => return Ok(false),
            Some(true) => self.wanted.cancel(),
            Some(false) => {}
        }
        Ok(true)
    }

    /// Keeps the hold while `work` goes on, which a store may need longer for than a hold lasts. `received` bytes count
    /// meanwhile. Fails if the hold is lost; what `work` has begun in the storage comes to its end even so.
    pub async fn during<T>(&self, received: u64, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = sleep(BEAT) => {}
            }
            // to its end, whatever becomes of the work: a count that is still on its way must not overtake a later one
            match self.renew(received).await {
                Ok(true) => {}
                Ok(false) => return Err(locked()),
                // one that nobody else took counts on
                Err(error) if error.code() == Code::Unavailable => {
                    tracing::debug!(%error, upload.id = %self.id, "the hold is not renewed now");
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Lets go, and returns when others can have it.
    pub async fn release(mut self) -> Result<(), Error> {
        self.ends_with_row = true;
        store::in_time(store::upload::hold::release(&self.app.db, self.id, self.token)).await
    }

    /// The hold has ended in PostgreSQL already, with the upload.
    pub fn ended(mut self) {
        self.ends_with_row = true;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut all = self.app.holds.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(&self.id).is_some_and(|(token, _)| *token == self.token) {
            all.remove(&self.id);
        }
        drop(all);
        if self.ends_with_row {
            return;
        }
        let (app, id, token) = (Arc::clone(&self.app), self.id, self.token);
        self.app.background.spawn(async move {
            if let Err(error) = store::in_time(store::upload::hold::release(&app.db, id, token)).await {
                tracing::debug!(%error, upload.id = %id, "the hold was not given back; it runs out by itself");
            }
        });
    }
}

/// The tenant's upload with an offset that is true: whoever is receiving bytes for it is asked to store them and let go.
pub async fn settled(app: &Arc<App>, tenant: TenantId, id: UploadId) -> Result<Upload, Error> {
    let begun = Instant::now();
    let mut upload = find(app, tenant, id).await?;
    let held = store::in_time(store::upload::hold::find(&app.db, tenant, id)).await?.and_then(|held| held.token);
    if upload.state == UploadState::Receiving && held.is_some() && !is_being_finished(&upload) {
        ask(app, tenant, id).await?;
        let mut asked = Instant::now();
        while store::in_time(store::upload::hold::find(&app.db, tenant, id)).await?.and_then(|h| h.token) == held {
            if begun.elapsed() > WAIT {
                return Err(locked());
            }
            if asked.elapsed() > ASK {
                asked = Instant::now();
                ask(app, tenant, id).await?;
            }
            sleep(LOOK).await;
        }
        upload = find(app, tenant, id).await?;
    }
    Ok(upload)
}

/// Whether nothing is received any more, so that there is nobody to be interrupted.
fn is_being_finished(upload: &Upload) -> bool {
    upload.is_final() || upload.length() == Some(upload.offset())
}

/// The tenant's upload, if it is there and not gone.
async fn find(app: &App, tenant: TenantId, id: UploadId) -> Result<Upload, Error> {
    let upload =
        store::in_time(store::upload::find(&app.db, tenant, id)).await?.ok_or_else(|| Error::not_found("upload"))?;
    if upload.state.is_gone() { Err(gone(upload.state)) } else { Ok(upload) }
}

/// Asks the holder to let go: in this process at once, in another by the bell, and without Redis by the row.
async fn ask(app: &App, tenant: TenantId, id: UploadId) -> Result<(), Error> {
    app.holds.ask(id);
    store::in_time(store::upload::hold::want(&app.db, tenant, id)).await?;
    app.ring(Bell::Release(id)).await;
    Ok(())
}

/// Why the upload is not to be had.
pub fn locked() -> Error {
    Error::new(Code::UploadLocked, "Another request has the upload. Try again in some seconds.")
}
