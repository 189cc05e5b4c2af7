#![expect(
    clippy::disallowed_methods,
    reason = "a test has no reaper, so it spawns its children itself"
)]

use std::{
    os::unix::process::ExitStatusExt as _,
    process::Command,
    time::{Duration, Instant},
};

use super::*;
use crate::platform::Waker;

fn liveness() -> (Liveness, Waker) {
    let waker = Waker::new().unwrap();
    (Liveness::new(&waker, 10).unwrap(), waker)
}

fn wait(liveness: &mut Liveness) -> Vec<NoticedEnd> {
    liveness.wait(EpollTimeout::try_from(Duration::from_secs(10)).unwrap()).unwrap()
}

/// Check that the end of a zombie is reported at once, without its code, and the code after it was
/// reaped.
#[test]
fn an_end_is_reported_at_once_and_its_code_after_the_reaping() {
    for (script, ended) in [("exit 3", Ended::Code(3)), ("kill -9 $$", Ended::Signal(9))] {
        let (mut liveness, _waker) = liveness();
        let mut child = Command::new("sh")
            .args(["-c", &format!("read x; {script}")])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let key = identify(pid).unwrap();
        liveness.watch(7, open_pidfd(key, None).unwrap()).unwrap();
        drop(child.stdin.take());
        let began = Instant::now();
        assert_eq!(wait(&mut liveness), [NoticedEnd { id: 7, ended: None }]);
        // 50 ms are promised. The test allows ten times that, because the machine may be busy.
        assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
        // A zombie must not keep waking the thread.
        assert_eq!(liveness.wait(EpollTimeout::try_from(50).unwrap()).unwrap(), []);
        assert_eq!(open_pidfd(key, None).map(drop).map_err(|error| error.to_string()), Ok(()));
        let status = child.wait().unwrap();
        assert_eq!(Ended::from_wait_status(status.into_raw().cast_unsigned()), ended);
        assert_eq!(wait(&mut liveness), [NoticedEnd { id: 7, ended: Some(ended) }]);
        assert!(liveness.pidfd(7).is_none());
        assert!(open_pidfd(key, None).is_err());
    }
}

/// Check that a process with the right pid and another start or inode is not held.
#[test]
fn a_process_is_not_held_by_its_pid_alone() {
    let me = identify(i32::try_from(std::process::id()).unwrap()).unwrap();
    assert!(open_pidfd(me, None).is_ok());
    let other = ProcessKey::new(me.pid, me.start_ticks() + 1);
    assert_eq!(open_pidfd(other, None).unwrap_err().raw_os_error(), Some(nix::libc::ESRCH));
    // A process that started in the same clock tick differs by its inode only.
    if let Some(inode) = pidfd::inode(open_pidfd(me, None).unwrap()) {
        assert!(open_pidfd(me, Some(inode)).is_ok());
        assert_eq!(
            open_pidfd(me, Some(inode + 1)).unwrap_err().raw_os_error(),
            Some(nix::libc::ESRCH)
        );
    } else {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let version: Vec<u32> =
            release.split(['.', '-']).map_while(|part| part.parse().ok()).take(2).collect();
        assert!(version < vec![6, 9], "{release} has pidfs");
    }
    let (mut liveness, _waker) = liveness();
    liveness.watch_by_scans(1, me);
    liveness.watch_by_scans(2, other);
    assert_eq!(liveness.scan(), [NoticedEnd { id: 2, ended: None }]);
    assert!(liveness.needs_scans());
}
