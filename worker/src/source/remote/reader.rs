//! A remote object for header readers of our own, which block: the same cache, bounds and account as the range server.
//! Called from blocking threads only.

use std::io;
use std::sync::Arc;

use shared::job::FailureCode;
use tokio::runtime::Handle;

use super::fetch::Fetch;

/// Reads at any place of the object. Clones read the same one.
#[derive(Clone)]
pub struct Reader {
    pub(super) fetch: Arc<Fetch>,
    pub(super) runtime: Handle,
}

impl Reader {
    /// Bytes the object has.
    pub fn size_bytes(&self) -> u64 {
        self.fetch.object.size_bytes
    }

    /// Fills the buffer from `offset` on; fewer bytes only at the end of the object. Blocks, so never call it on a thread
    /// of the runtime. A budget that ran out is an error here and not the job's: what ffprobe found still holds.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let Some(at) = offset.checked_add(filled as u64) else { break };
            let bytes = self.runtime.block_on(self.fetch.at(at)).map_err(|fault| {
                let error = io::Error::other(fault.message.clone());
                if fault.code != FailureCode::BudgetExceeded {
                    self.fetch.blame(fault);
                }
                error
            })?;
            if bytes.is_empty() {
                break;
            }
            let taken = bytes.len().min(buffer.len() - filled);
            buffer[filled..filled + taken].copy_from_slice(&bytes[..taken]);
            filled += taken;
        }
        Ok(filled)
    }
}
