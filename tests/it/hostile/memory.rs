//! A worker in a control group with less memory than its jail allows, as a container has it: the kernel kills ffprobe, the job
//! says so, and the worker goes on. Only where this user may make such a group; elsewhere the test says that it does not.

use std::fs;
use std::path::{Path, PathBuf};

use tests::{Installation, Program, binaries, bombs, samples};

use super::{ending, probe};

/// Enough for a worker and for what is healthy; the bomb takes 740 MB where it may have 1 GiB.
const MEMORY: u64 = 300 << 20;

/// A control group. Removed when dropped, once its processes are gone.
struct Group(PathBuf);

impl Group {
    fn make() -> Option<Self> {
        let name = format!("ffprobe-api-test-{}", std::process::id());
        [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")].into_iter().find_map(
            |(mount, limit)| {
                let group = Self(Path::new(mount).join(&name));
                fs::create_dir(&group.0).ok()?;
                fs::write(group.0.join(limit), MEMORY.to_string()).ok()?;
                // no swap to flee to; a kernel may have no such file
                let _ = fs::write(group.0.join("memory.swap.max"), "0");
                Some(group)
            },
        )
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

#[tokio::test]
async fn a_bomb_larger_than_the_container_fails_alone() {
    let Some(group) = Group::make() else {
        println!("not tried: this user may make no control group with a limit of memory");
        return;
    };
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let mut environment = installation.environment();
    environment.push(("PROCS".into(), group.0.join("cgroup.procs").display().to_string()));
    environment.push(("WORKER".into(), binaries::path("ffprobe-worker").display().to_string()));
    let arguments = ["-c", "echo $$ > \"$PROCS\" && exec \"$WORKER\""];
    let mut worker = Program::start("worker-in-group", Path::new("/bin/sh"), &arguments, &environment);
    worker.wait_for_line("working");
    let pid = worker.pid();

    bombs::named("stsz_10m_x8.mp4").write(&installation.media());
    fs::copy(samples::path("wav"), installation.media().join("good.wav")).expect("copies");
    for _ in 0..2 {
        let job = probe(&http, "/stsz_10m_x8.mp4").await;
        assert_eq!((ending(&job), &job["failure"]["class"]), ("memory_limit", &"resource".into()), "{job}");
        assert_eq!(job["attempt"], 1, "it is not tried again: {job}");
    }
    assert_eq!(ending(&probe(&http, "/good.wav").await), "succeeded");
    assert!(Path::new(&format!("/proc/{pid}")).exists(), "the worker itself was killed");
    worker.stop();
}
