//! An ffprobe that takes its time, so that a test can act while a job runs, without sleeping and hoping.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// An ffprobe that waits for the test while it is held. The jail lets it write no byte, so it speaks by empty files.
pub struct SlowFfprobe {
    folder: PathBuf,
    script: String,
}

impl SlowFfprobe {
    /// Makes the script in `folder`; not held yet.
    pub fn new(folder: &Path) -> Self {
        let script = folder.join("slow-ffprobe");
        let text = format!(
            "#!/bin/sh\ncase \"$1\" in -version) exec ffprobe -version;; esac\n\
             if [ -e {f}/slow ]; then : > {f}/started.$$; while [ ! -e {f}/go ]; do sleep 0.05; done; fi\n\
             exec ffprobe \"$@\"\n",
            f = folder.display()
        );
        std::fs::write(&script, text).expect("writes");
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("is executable");
        Self { folder: folder.to_owned(), script: script.display().to_string() }
    }

    /// Settings of a worker that uses it. A script needs more of the machine than the jail gives.
    pub fn settings(&self) -> [(&str, &str); 2] {
        [("FFPROBE_PATH", &self.script), ("SANDBOX", "off")]
    }

    /// From now on it waits.
    pub fn hold(&self) {
        std::fs::write(self.folder.join("slow"), "").expect("writes");
    }

    /// Lets every waiting one go on, and all that come.
    pub fn let_go(&self) {
        std::fs::write(self.folder.join("go"), "").expect("writes");
    }

    /// Process ids of those that have started to wait.
    pub fn started(&self) -> Vec<u32> {
        let names = std::fs::read_dir(&self.folder).expect("there").flatten();
        let names = names.map(|e| e.file_name().to_string_lossy().into_owned());
        names.filter_map(|n| n.strip_prefix("started.")?.parse().ok()).collect()
    }

    /// Waits until one has started and returns its process id.
    pub async fn wait_for_one(&self) -> u32 {
        let begun = Instant::now();
        loop {
            if let Some(pid) = self.started().first() {
                return *pid;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "no ffprobe was started");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }
}

/// Whether a process has ended, collected or not.
pub fn is_gone(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}
