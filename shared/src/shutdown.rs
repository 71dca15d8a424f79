//! The order to stop, as container engines, init systems (SIGTERM) and terminals (SIGINT) give it.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is canceled by the first SIGTERM or SIGINT. The signals are taken over before this returns: from then on
/// they no longer kill the process.
pub fn on_signal() -> io::Result<CancellationToken> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stopping = CancellationToken::new();
    let token = stopping.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        tracing::info!("stopping: nothing new is begun, what is open is finished");
        token.cancel();
    });
    Ok(stopping)
}
