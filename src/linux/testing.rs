//! Helpers of privileged tests: cgroups and children that do not outlive the test.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{cgroup::members, process::identify};
use crate::model::ProcessKey;

/// A cgroup for one test. When the value is dropped, the processes in the cgroup are killed and the
/// cgroup is removed.
pub(crate) struct Cgroup(pub(crate) PathBuf);

impl Cgroup {
    pub(crate) fn new(name: &str) -> Self {
        let unified = Path::new("/sys/fs/cgroup/unified");
        let root = if unified.exists() { unified } else { Path::new("/sys/fs/cgroup") };
        let path = root.join(format!("lookout-test-{name}-{}", process::id()));
        fs::create_dir(&path).expect("needs root and a cgroup2 file system");
        Self(path)
    }

    /// Starts a shell in this cgroup that runs `script` after it has read a line from its stdin.
    pub(crate) fn shell(&self, script: &str) -> Killed {
        let child = spawn(
            Command::new("sh").arg("-c").arg(format!("read go; {script}")).stdin(Stdio::piped()),
        );
        let child = Killed(child);
        fs::write(self.0.join("cgroup.procs"), child.0.id().to_string()).unwrap();
        child
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            for pid in members(&self.0).unwrap_or_default() {
                let _ = crate::sys::process::kill(pid, nix::libc::SIGKILL);
            }
            for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
                let _ = fs::remove_dir(entry.path());
            }
            if fs::remove_dir(&self.0).is_ok() || Instant::now() > deadline {
                return;
            }
            thread::yield_now();
        }
    }
}

/// A child that is killed and reaped when this value is dropped.
pub(crate) struct Killed(pub(crate) Child);

impl Killed {
    pub(crate) fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }

    pub(crate) fn key(&self) -> ProcessKey {
        identify(self.pid()).expect("a child exists until it is reaped")
    }

    pub(crate) fn go(&mut self) {
        use std::io::Write as _;
        self.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "a test has no reaper")]
pub(crate) fn spawn(command: &mut Command) -> Child {
    command.spawn().unwrap()
}

/// Waits until `is_so` returns true, at most 10 s. `what` names the condition in the message of a
/// failure.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not within 10 s");
        thread::sleep(Duration::from_millis(1));
    }
}
