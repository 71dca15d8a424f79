//! Control groups (v2): one for each run, under a directory that was delegated to this worker (`JAIL_CGROUP`). The kernel
//! counts the run's memory as a whole there and kills it as a whole; address space alone (`RLIMIT_AS`) does not see what
//! several mappings of one file cost. [`super::process`] makes and removes a run's group, the launcher joins it.
//!
//! Version 1 is not used: its hierarchies cannot be delegated safely, and it does not kill a group as a whole.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Limits;

/// What a run needs of the kernel.
const CONTROLLERS: [&str; 2] = ["memory", "pids"];
/// Processes and threads of one run. It has up to 17.
const MAX_TASKS: u64 = 256;
/// How the names of our groups begin; the worker's process id and a number follow.
const PREFIX: &str = "probe-";
/// Most groups that could not be removed and are tried again later. More are left for the next start.
const MAX_LEFTOVERS: usize = 1024;

/// The delegated directory, as it was found at the start.
#[derive(Debug, Clone)]
pub struct Cgroup {
    dir: PathBuf,
    usable: Result<(), String>,
    /// Groups of runs that were just killed: the kernel may need a moment to empty them.
    leftovers: Arc<Mutex<Vec<PathBuf>>>,
}

impl Cgroup {
    /// Looks at the directory, turns the controllers on below it and removes what a dead worker left. What is wrong is
    /// kept, and told by the canary.
    pub fn open(dir: PathBuf) -> Self {
        let usable = prepare(&dir).map_err(|reason| format!("JAIL_CGROUP={}: {reason}", dir.display()));
        if usable.is_ok() {
            sweep(&dir);
        }
        Self { dir, usable, leftovers: Arc::default() }
    }

    /// Makes the group of one run.
    pub(super) fn cell(&self, limits: &Limits) -> Result<Cell, String> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        self.usable.clone()?;
        lock(&self.leftovers).retain(|path| fs::remove_dir(path).is_err() && path.exists());
        let name = format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = self.dir.join(name);
        fs::create_dir(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        // from here on it is removed again, whatever happens
        let cell = Cell { path, leftovers: Arc::clone(&self.leftovers) };
        for (file, value) in settings(limits) {
            fs::write(cell.path.join(file), value).map_err(|e| format!("{file}: {e}"))?;
        }
        Ok(cell)
    }
}

/// The files of a run's group and what is written to each.
fn settings(limits: &Limits) -> [(&'static str, String); 4] {
    [
        ("memory.max", limits.memory_bytes.to_string()),
        ("memory.swap.max", "0".into()),
        ("memory.oom.group", "1".into()),
        ("pids.max", MAX_TASKS.to_string()),
    ]
}

fn prepare(dir: &Path) -> Result<(), String> {
    let read = |file: &str| fs::read_to_string(dir.join(file)).map_err(|e| format!("{file}: {e}"));
    let offered = read("cgroup.controllers").map_err(|e| format!("it is no group of version 2 ({e})"))?;
    let missing = missing_controllers(&offered);
    if !missing.is_empty() {
        return Err(format!("it lacks the controllers {}", missing.join(" and ")));
    }
    if !missing_controllers(&read("cgroup.subtree_control")?).is_empty() {
        let wanted = CONTROLLERS.map(|c| format!("+{c}")).join(" ");
        fs::write(dir.join("cgroup.subtree_control"), wanted)
            .map_err(|e| format!("cgroup.subtree_control: {e} (it must be delegated, and hold no process itself)"))?;
    }
    Ok(())
}

fn missing_controllers(listed: &str) -> Vec<&'static str> {
    CONTROLLERS.into_iter().filter(|wanted| !listed.split_whitespace().any(|c| c == *wanted)).collect()
}

/// Removes the groups of workers that are gone. The kernel refuses to remove one in which a process lives.
fn sweep(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        // our own id: in a container, every worker is process 1
        let is_gone = |pid: u32| pid == std::process::id() || !Path::new("/proc").join(pid.to_string()).exists();
        if owner(&name.to_string_lossy()).is_some_and(is_gone)
            && let Err(error) = fs::remove_dir(entry.path())
        {
            tracing::warn!(group = %entry.path().display(), %error, "a group that a dead worker left stays");
        }
    }
}

/// The process id in the name of one of our groups.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split_once('-')?.0.parse().ok()
}

/// Joins a run's group; in the launcher.
pub(super) fn join(cell: &Path) -> Result<(), String> {
    fs::write(cell.join("cgroup.procs"), "0").map_err(|e| format!("{}/cgroup.procs: {e}", cell.display()))
}

/// Whether this process is in that group and it has limits; in the launcher.
pub(super) fn holds(cell: &Path) -> Result<(), String> {
    let here = fs::read_to_string("/proc/self/cgroup").map_err(|e| format!("/proc/self/cgroup: {e}"))?;
    let name = cell.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if !is_member(&here, &name) {
        return Err("the process is in another group".into());
    }
    for file in ["memory.max", "pids.max"] {
        let limit = fs::read_to_string(cell.join(file)).map_err(|e| format!("{file}: {e}"))?;
        if limit.trim().parse::<u64>().is_err() {
            return Err(format!("{file} is {}", limit.trim()));
        }
    }
    Ok(())
}

/// Whether the version 2 line of `/proc/self/cgroup` ends with this group.
fn is_member(text: &str, name: &str) -> bool {
    text.lines().filter_map(|line| line.strip_prefix("0::")).any(|path| path.rsplit('/').next() == Some(name))
}

/// The group of one run. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Cell {
    /// Its directory.
    pub(super) path: PathBuf,
    leftovers: Arc<Mutex<Vec<PathBuf>>>,
}

impl Cell {
    /// Whether the kernel killed the run for its memory.
    pub(super) fn ran_out_of_memory(&self) -> bool {
        self.read("memory.events").is_ok_and(|text| count(&text, "oom_kill") > 0)
    }

    /// The most memory it took, the cache of files it read included, in bytes (Linux 5.19).
    pub(super) fn peak_bytes(&self) -> Option<u64> {
        self.read("memory.peak").ok()?.trim().parse().ok()
    }

    fn read(&self, file: &str) -> io::Result<String> {
        fs::read_to_string(self.path.join(file))
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        // whoever escaped the kill of the process group goes now (Linux 5.14; where it is missing, nobody can escape)
        let _ = fs::write(self.path.join("cgroup.kill"), "1");
        if fs::remove_dir(&self.path).is_err() {
            let mut leftovers = lock(&self.leftovers);
            if leftovers.len() < MAX_LEFTOVERS {
                leftovers.push(std::mem::take(&mut self.path));
            }
        }
    }
}

fn lock(leftovers: &Mutex<Vec<PathBuf>>) -> std::sync::MutexGuard<'_, Vec<PathBuf>> {
    leftovers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number beside a word, 0 if it is not there.
fn count(text: &str, word: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' ')?.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that looks like a delegated group; the real controllers are missing on many machines.
    fn pretend(controllers: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cgroup.controllers"), controllers).unwrap();
        fs::write(dir.path().join("cgroup.subtree_control"), "").unwrap();
        dir
    }

    #[test]
    fn what_the_kernel_writes_is_understood() {
        let events = "low 0\nhigh 3\nmax 17\noom 2\noom_kill 1\noom_group_kill 1\n";
        for (word, n) in [("oom_kill", 1), ("oom", 2), ("max", 17), ("nothing", 0), ("oom_", 0)] {
            assert_eq!(count(events, word), n, "{word}");
        }
        assert!(is_member("9:pids:/x\n0::/a/probe-7-0\n", "probe-7-0"));
        assert!(!is_member("9:pids:/probe-7-0\n0::/a/probe-7-00\n", "probe-7-0"));
        assert_eq!(missing_controllers("cpuset cpu memory pids\n"), [""; 0]);
        assert_eq!(missing_controllers("hugetlb"), ["memory", "pids"]);
        assert_eq!(missing_controllers("pids memoryx"), ["memory"]);
        for (name, pid) in [("probe-7-0", Some(7)), ("probe-x-0", None), ("probe-7", None), ("other-7-0", None)] {
            assert_eq!(owner(name), pid, "{name}");
        }
    }

    #[test]
    fn a_directory_that_is_no_group_or_lacks_controllers_is_named_with_its_reason() {
        let limits = Limits::of(shared::job::Profile::Standard);
        let nothing = Cgroup::open("/nonexistent".into()).cell(&limits).unwrap_err();
        assert!(nothing.contains("JAIL_CGROUP=/nonexistent") && nothing.contains("version 2"), "{nothing}");
        let dir = pretend("hugetlb pids\n");
        let lacking = Cgroup::open(dir.path().to_owned()).cell(&limits).unwrap_err();
        assert!(lacking.contains("lacks the controllers memory"), "{lacking}");
    }

    #[test]
    fn a_run_gets_a_group_with_its_limits() {
        let dir = pretend("memory pids\n");
        let gone = dir.path().join(format!("{PREFIX}{}-3", u32::MAX));
        let alive = dir.path().join(format!("{PREFIX}1-3"));
        for left in [&gone, &alive] {
            fs::create_dir(left).unwrap();
        }
        let cgroup = Cgroup::open(dir.path().to_owned());
        assert!(!gone.exists() && alive.exists(), "a dead worker's is swept, that of a living one is not");
        let wanted = fs::read_to_string(dir.path().join("cgroup.subtree_control")).unwrap();
        assert_eq!(wanted, "+memory +pids");
        let limits = Limits { memory_bytes: 123 << 20, ..Limits::of(shared::job::Profile::Standard) };
        let cell = cgroup.cell(&limits).unwrap();
        let read = |file: &str| fs::read_to_string(cell.path.join(file)).unwrap();
        assert_eq!((read("memory.max"), read("memory.swap.max")), ((123 << 20).to_string(), "0".into()));
        assert_eq!((read("memory.oom.group"), read("pids.max")), ("1".into(), MAX_TASKS.to_string()));
        assert!(!cell.ran_out_of_memory() && cell.peak_bytes().is_none());
        fs::write(cell.path.join("memory.events"), "oom 1\noom_kill 1\n").unwrap();
        fs::write(cell.path.join("memory.peak"), "4096\n").unwrap();
        assert!(cell.ran_out_of_memory() && cell.peak_bytes() == Some(4096));
        let path = cell.path.clone();
        drop(cell);
        // plain files do not vanish with their directory, so it is left over, and tried again later
        assert_eq!(*lock(&cgroup.leftovers), std::slice::from_ref(&path));
        fs::remove_dir_all(&path).unwrap();
        drop(cgroup.cell(&limits).unwrap());
        assert!(!lock(&cgroup.leftovers).contains(&path));
    }
}
