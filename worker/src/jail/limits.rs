//! The limits of one run, in one struct: the launcher sets those that the kernel enforces, [`super::process`] watches
//! the others. Numbers come from measurements with ffprobe 5.1 on healthy, huge and hostile files; an operator changes
//! them for each profile ([`Overrides`]). The worker's probe asks; nothing here touches the kernel.

mod overrides;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared::job::Profile;

pub use overrides::{Override, Overrides};

/// What one run may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Address space in bytes (`RLIMIT_AS`). A distribution's ffprobe maps 267 MB before it begins, 8K video needs
    /// 512 MB; the worst bombs took 5.6 GB without it.
    pub memory_bytes: u64,
    /// Processor time in seconds (`RLIMIT_CPU`; the hard limit is one second later). Headers of healthy files of any size
    /// take 0.1 s, the first frame of 8K video 1 s; the rest is room for slow machines. Scans may use all their time.
    pub cpu_seconds: u64,
    /// Open descriptors (`RLIMIT_NOFILE`). ffprobe uses about 6; its loader opens one library at a time.
    pub open_files: u64,
    /// Wall-clock time in milliseconds from the start of the process, then the whole group is killed.
    pub wall_ms: u64,
    /// Bytes of standard output, kept or streamed. The largest healthy description seen has 1.6 MB (1,000 streams).
    pub stdout_bytes: u64,
    /// Bytes kept of the end of standard error. A damaged file can write megabytes; what matters comes last.
    pub stderr_bytes: u64,
    /// Bytes that may be read of files, besides [`LIBRARIES`]; none is no limit. What comes over a socket is not counted
    /// here: the server of the input counts it.
    #[serde(default)]
    pub read_bytes: Option<u64>,
}

/// Not counted against [`Limits::read_bytes`]: what the loader of a dynamically linked ffprobe reads of 200 libraries
/// (0.19 MB), and then some.
pub(super) const LIBRARIES: u64 = 512 << 10;

/// The limits of a profile before anybody changes them.
#[derive(Debug, Clone, Copy)]
struct Defaults {
    memory_bytes: u64,
    /// None: as long as the deadline.
    cpu: Option<Duration>,
    deadline: Duration,
    /// Bytes a second the storage gives at least; the deadline of a scan grows by the time that takes.
    rate: Option<u64>,
    stdout_bytes: u64,
}

impl Defaults {
    /// By the profile's word.
    fn of(profile: &str) -> Self {
        let look = Self {
            memory_bytes: 1 << 30,
            cpu: Some(Duration::from_secs(30)),
            deadline: Duration::from_secs(120),
            rate: None,
            stdout_bytes: 16 << 20,
        };
        let scan = Self { cpu: None, deadline: Duration::from_secs(600), rate: Some(20_000_000), ..look };
        match profile {
            "quick" => Self { deadline: Duration::from_secs(30), ..look },
            // streamed, not kept: a line has 41 bytes and stands for a packet of at least one byte
            "packets" => Self { stdout_bytes: 64 << 30, ..scan },
            // decodes
            "frames" => Self { memory_bytes: 2 << 30, stdout_bytes: 64 << 20, ..scan },
            _ => look,
        }
    }
}

impl Limits {
    /// The limits of a profile for an input of unknown or no size, which nobody changed.
    pub fn of(profile: Profile) -> Self {
        Self::for_input(profile, 0, &Overrides::default())
    }

    /// The limits of a profile for an input of `size_bytes`, with what the operator changed.
    pub fn for_input(profile: Profile, size_bytes: u64, overrides: &Overrides) -> Self {
        Self::new(Defaults::of(profile.as_str()), size_bytes, overrides.of(profile.as_str()))
    }

    fn new(defaults: Defaults, size_bytes: u64, changed: Override) -> Self {
        let rate = changed.rate.or(defaults.rate).filter(|rate| *rate > 0);
        let reading = rate.map_or(Duration::ZERO, |rate| Duration::from_secs(size_bytes / rate));
        let deadline = changed.deadline.unwrap_or(defaults.deadline).saturating_add(reading);
        let cpu = changed.cpu.or(defaults.cpu).unwrap_or(deadline);
        Self {
            memory_bytes: changed.memory.unwrap_or(defaults.memory_bytes),
            cpu_seconds: cpu.as_secs().max(1),
            open_files: 64,
            wall_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
            stdout_bytes: changed.output.unwrap_or(defaults.stdout_bytes),
            stderr_bytes: 64 << 10,
            read_bytes: None,
        }
    }

    /// More of everything, for the one retry of a run that met its limits: a file that is large rather than hostile may
    /// pass then. A budget that the client gave stays what it is.
    #[must_use]
    pub fn widened(self) -> Self {
        Self {
            memory_bytes: self.memory_bytes.saturating_mul(2),
            cpu_seconds: self.cpu_seconds.saturating_mul(4),
            wall_ms: self.wall_ms.saturating_mul(4),
            stdout_bytes: self.stdout_bytes.saturating_mul(2),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(profile: &str, size_bytes: u64, changes: &str) -> Limits {
        let changed = if changes.is_empty() { Override::default() } else { changes.parse().unwrap() };
        Limits::new(Defaults::of(profile), size_bytes, changed)
    }

    #[test]
    fn a_scan_gets_time_by_size_and_a_look_does_not() {
        const FIFTY_GIB: u64 = 50 << 30;
        for (profile, seconds, cpu) in
            [("quick", 30, 30), ("standard", 120, 30), ("packets", 600 + 2684, 3284), ("frames", 3284, 3284)]
        {
            let limits = of(profile, FIFTY_GIB, "");
            assert_eq!((limits.wall_ms, limits.cpu_seconds), (seconds * 1000, cpu), "{profile}");
        }
        assert_eq!(of("packets", 0, "").wall_ms, 600_000);
        assert_eq!(of("frames", 0, "").memory_bytes, 2 << 30);
        // nothing overflows, whatever a source says of its size
        assert!(of("packets", u64::MAX, "rate=1B").widened().wall_ms > 1 << 60);
    }

    #[test]
    fn only_what_is_named_changes() {
        let standard = of("standard", 0, "");
        assert_eq!(of("standard", 0, "memory=2GiB"), Limits { memory_bytes: 2 << 30, ..standard });
        assert_eq!(of("standard", 0, "output=32MiB"), Limits { stdout_bytes: 32 << 20, ..standard });
        assert_eq!(of("standard", 0, "deadline=2m"), standard, "the processor time of a look is its own");
        let scan = of("packets", 100_000_000, "deadline=60s,rate=10MB");
        assert_eq!((scan.wall_ms, scan.cpu_seconds), (70_000, 70), "that of a scan follows its deadline");
        assert_eq!(of("packets", 0, "cpu=5s").cpu_seconds, 5);
        let overrides = Overrides { standard: "cpu=7s".parse().unwrap(), ..Overrides::default() };
        assert_eq!(Limits::for_input(Profile::Standard, 0, &overrides), Limits { cpu_seconds: 7, ..standard });
    }
}
