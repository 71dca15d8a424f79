//! The limits of one run, in one struct: the launcher sets those that the kernel enforces, [`super::process`] watches
//! the others. Numbers come from measurements with ffprobe 5.1 on healthy, huge and hostile files.

use serde::{Deserialize, Serialize};
use shared::job::Profile;

/// What one run may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Address space in bytes (`RLIMIT_AS`). A distribution's ffprobe maps 267 MB before it begins, 8K video needs
    /// 512 MB; the worst bombs took 5.6 GB without it.
    pub memory_bytes: u64,
    /// Processor time in seconds (`RLIMIT_CPU`; the hard limit is one second later). Healthy files of any size take
    /// 0.1 s, the first frame of 8K video 1 s; the rest is room for slow machines.
    pub cpu_seconds: u64,
    /// Open descriptors (`RLIMIT_NOFILE`). ffprobe uses about 6; its loader opens one library at a time.
    pub open_files: u64,
    /// Wall-clock time in milliseconds from the start of the process, then the whole group is killed.
    pub wall_ms: u64,
    /// Bytes of standard output. The largest healthy description seen has 1.6 MB (1,000 streams).
    pub stdout_bytes: u64,
    /// Bytes kept of the end of standard error. A damaged file can write megabytes; what matters comes last.
    pub stderr_bytes: u64,
}

impl Limits {
    /// The limits of a profile on an input of `input_bytes`.
    pub fn of(profile: Profile, input_bytes: u64) -> Self {
        let wall_ms = u64::try_from(profile.deadline(input_bytes).as_millis()).unwrap_or(u64::MAX);
        match profile {
            Profile::Quick | Profile::Standard | Profile::Packets | Profile::Frames => Self {
                memory_bytes: 1 << 30,
                cpu_seconds: 30,
                open_files: 64,
                wall_ms,
                stdout_bytes: 16 << 20,
                stderr_bytes: 64 << 10,
            },
        }
    }

    /// More of everything, for the one retry of a run that met its limits: a file that is large rather than hostile may
    /// pass then.
    #[must_use]
    pub fn widened(self) -> Self {
        Self {
            memory_bytes: self.memory_bytes * 2,
            cpu_seconds: self.cpu_seconds * 4,
            wall_ms: self.wall_ms * 4,
            stdout_bytes: self.stdout_bytes * 2,
            ..self
        }
    }
}
