//! How long an origin is waited for and how often it is asked again: pace of a body, back-off between requests. Used by
//! `fetch` and `spool`, which share one patience per object, so that a slow start and many small faults add up.

use std::time::{Duration, Instant};

use futures::StreamExt;
use hyper::body::Bytes;
use shared::job::FailureCode;
use tokio::time::timeout;

use super::bounds::{BYTES_PER_RETRY, Bounds};
use super::fault::{Again, Fault};
use super::meter::{Meter, Stalled, Waiting};
use super::origin::Body;

/// What is left of the will to wait.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// Time waited within bodies since the pace was judged, and the bytes that came.
    waited: Duration,
    bytes: u64,
    retries_in_a_row: u32,
    retries: u32,
}

impl Patience {
    /// The next bytes of a body; none at its end. Only time spent here counts for the pace: an ffprobe that is slow to
    /// take bytes is not the origin's fault.
    pub(super) async fn next(
        &mut self,
        body: &mut Body,
        meter: &Meter,
        bounds: &Bounds,
    ) -> Result<Option<Bytes>, Fault> {
        let waiting = meter.wait(Stalled::WaitingForBytes);
        loop {
            let since = Instant::now();
            let came = timeout(bounds.pace_over.saturating_sub(self.waited), body.next()).await;
            self.waited += since.elapsed();
            match came {
                Ok(Some(Ok(bytes))) => {
                    self.bytes += bytes.len() as u64;
                    self.judge(bounds)?;
                    if bytes.is_empty() {
                        continue;
                    }
                    self.retries_in_a_row = 0;
                    return Ok(Some(bytes));
                }
                Ok(None) => return Ok(None),
                Ok(Some(Err(fault))) => {
                    // perhaps the wait goes on with a retry
                    Waiting::goes_on(waiting);
                    return Err(fault);
                }
                Err(_) => {
                    self.waited = bounds.pace_over;
                    self.judge(bounds)?;
                }
            }
        }
    }

    /// Judges the pace whenever enough time was spent waiting.
    fn judge(&mut self, bounds: &Bounds) -> Result<(), Fault> {
        if self.waited < bounds.pace_over {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.bytes);
        self.waited = Duration::ZERO;
        if bytes >= bounds.pace_bytes {
            return Ok(());
        }
        let seconds = bounds.pace_over.as_secs_f32();
        Err(Fault::last(FailureCode::RemoteTooSlow, format!("The server sent {bytes} bytes in {seconds:.1} seconds.")))
    }

    /// Waits before a request is repeated; the fault again if it is not to be.
    pub(super) async fn pause(&mut self, fault: Fault, meter: &Meter, bounds: &Bounds) -> Result<(), Fault> {
        let doubled = 2_u32.saturating_pow(self.retries_in_a_row);
        let own = bounds.backoff.saturating_mul(doubled);
        let wait = match fault.again {
            Again::Never => return Err(fault),
            Again::Soon => own,
            Again::After(asked) if asked > bounds.retry_after => return Err(fault),
            // a server that asks for no wait at all gets ours
            Again::After(asked) => asked.max(bounds.backoff),
        };
        let earned = u32::try_from(meter.account().bytes / BYTES_PER_RETRY).unwrap_or(u32::MAX);
        let most = bounds.retries.saturating_add(earned);
        if self.retries_in_a_row >= bounds.retries_in_a_row || self.retries >= most {
            return Err(fault);
        }
        self.retries_in_a_row += 1;
        self.retries += 1;
        tracing::debug!(code = fault.code.as_str(), message = fault.message, ?wait, "asking the origin again");
        let waiting = meter.wait(Stalled::WaitingToRetry);
        tokio::time::sleep(wait).await;
        Waiting::goes_on(waiting);
        meter.add(|account| account.retries += 1);
        Ok(())
    }
}

/// Waits for the head of an answer.
pub(super) async fn answer<T>(
    request: impl Future<Output = Result<T, Fault>>,
    meter: &Meter,
    bounds: &Bounds,
) -> Result<T, Fault> {
    if meter.account().requests >= bounds.requests {
        let most = bounds.requests;
        return Err(Fault::last(FailureCode::RemoteRejected, format!("Reading needs more than {most} requests.")));
    }
    meter.add(|account| account.requests += 1);
    let waiting = meter.wait(Stalled::WaitingForAnswer);
    let answered = timeout(bounds.first_byte, request).await.unwrap_or_else(|_| {
        let seconds = bounds.first_byte.as_secs_f32();
        Err(Fault::last(FailureCode::RemoteTooSlow, format!("The server did not answer within {seconds:.1} seconds.")))
    });
    Waiting::goes_on(waiting);
    answered
}
