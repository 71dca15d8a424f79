//! Whether the kernel killed a run because the worker's own control group was out of memory: a container whose limit is lower
//! than what the jail allows. Called by [`super::process`] before and after a run, and by the launcher, which makes ffprobe
//! the one that the kernel takes. Reads `/proc` and `/sys`; sets no limit (that is [`super::cgroup`]).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Where the kernel shows control groups.
const MOUNT: &str = "/sys/fs/cgroup";
/// The most that a process can offer itself (`OOM_SCORE_ADJ_MAX`, linux/oom.h).
const FIRST_TO_GO: &str = "1000";

/// How many processes of the worker's control group the kernel has killed for memory so far; `None` where it does not tell.
pub(super) fn kills() -> Option<u64> {
    static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let file = FILE.get_or_init(|| {
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        find(&groups, Path::new(MOUNT))
    });
    count(&fs::read_to_string(file.as_ref()?).ok()?)
}

/// Has the kernel take this process before the worker when memory runs out.
pub(super) fn go_first() -> std::io::Result<()> {
    fs::write("/proc/self/oom_score_adj", FIRST_TO_GO)
}

/// The file that counts, of the group that `groups` (`/proc/self/cgroup`) names. In a container the mount may begin at the
/// container's own group while the name is still the machine's, so the mount itself is looked at, too.
fn find(groups: &str, mount: &Path) -> Option<PathBuf> {
    groups.lines().find_map(|line| {
        let [_, controllers, name] = line.splitn(3, ':').collect::<Vec<_>>().try_into().ok()?;
        // version 2 has an empty list; in version 1 each list has a mount of its own
        let (mount, file) = match controllers {
            "" => (mount.to_owned(), "memory.events"),
            list if list.split(',').any(|c| c == "memory") => (mount.join(list), "memory.oom_control"),
            _ => return None,
        };
        let own = mount.join(name.trim_start_matches('/')).join(file);
        [own, mount.join(file)].into_iter().find(|file| file.is_file())
    })
}

fn count(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_in_both_versions() {
        let mount = tempfile::tempdir().unwrap();
        let found = |groups: &str| {
            find(groups, mount.path()).map(|f| f.strip_prefix(mount.path()).unwrap().display().to_string())
        };
        let (first, second) = ("4:cpu,cpuacct:/a\n3:memory:/docker/b\n0::/\n", "0::/docker/b\n");
        assert_eq!((found(first), found(second)), (None, None));
        fs::create_dir_all(mount.path().join("memory/docker/b")).unwrap();
        fs::write(mount.path().join("memory/memory.oom_control"), "").unwrap();
        assert_eq!(found(first).as_deref(), Some("memory/memory.oom_control"), "the mount begins at our group");
        fs::write(mount.path().join("memory/docker/b/memory.oom_control"), "").unwrap();
        assert_eq!(found(first).as_deref(), Some("memory/docker/b/memory.oom_control"));
        fs::write(mount.path().join("memory.events"), "").unwrap();
        assert_eq!(found(second).as_deref(), Some("memory.events"));
        assert_eq!(found("0::/../../x\nnonsense\n").as_deref(), Some("memory.events"));
    }

    #[test]
    fn only_kills_are_counted() {
        assert_eq!(count("low 0\nhigh 1\nmax 9\noom 3\noom_kill 2\noom_group_kill 1\n"), Some(2));
        assert_eq!(count("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"), Some(7));
        assert_eq!((count("oom_kill_disable 0\nunder_oom 0\n"), count("")), (None, None));
    }
}
