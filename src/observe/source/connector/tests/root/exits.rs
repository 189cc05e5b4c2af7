//! Exits of processes with several threads.

use nix::unistd::Pid;

use super::*;

/// Runs `act` in a child that is watched, and returns the child, which has ended and is not reaped,
/// with the records until its exit.
fn records_of(source: &mut ConnectorSource, act: impl FnOnce()) -> (Pid, Vec<Record>) {
    let (ours, theirs) = nix::unistd::pipe().unwrap();
    let child = crate::sys::process::fork_for_test(|| {
        while nix::unistd::read(&ours, &mut [0; 1]) != Ok(1) {}
        act();
    });
    source.watch(TargetId(3), &Target::Tree { pid: child.as_raw() }).unwrap();
    nix::unistd::write(&theirs, b"x").unwrap();
    let records = read_until(source, |records| exit_of(records, child.as_raw()).is_some());
    (child, records)
}

/// Check that if the leader ends before another thread, the process has one exit, when the last
/// thread ends, with the status of the process.
#[test]
fn a_process_has_one_exit_at_its_end_if_its_leader_ends_first() {
    use std::os::fd::AsRawFd as _;
    let _alone = alone();
    let mut node = Node::new();
    let mut source = node.connect();
    // The leader waits for the first byte, the other thread for the second.
    let (ours, theirs) = nix::unistd::pipe().unwrap();
    let go = || nix::unistd::write(&theirs, b"x").unwrap();
    let wait = move || while nix::unistd::read(&ours, &mut [0; 1]) != Ok(1) {};
    assert!(theirs.as_raw_fd() > 2);
    let child = crate::sys::process::fork_for_test(|| {
        wait();
        thread::spawn(move || {
            wait();
            std::process::exit(7);
        });
        crate::sys::process::exit_thread(0);
    });
    source.watch(TargetId(3), &Target::Tree { pid: child.as_raw() }).unwrap();
    go();
    until("the leader has ended", || {
        std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap().contains(") Z ")
    });
    let mut before_end = Vec::new();
    while source.read(64, &mut |record| before_end.push(record)).unwrap() {}
    assert_eq!(exit_of(&before_end, child.as_raw()), None, "a thread still runs");
    go();
    let records = read_until(&mut source, |records| exit_of(records, child.as_raw()).is_some());
    assert_eq!(exit_of(&records, child.as_raw()), Some(0x700));
    let status = nix::sys::wait::waitpid(child, None).unwrap();
    assert_eq!(status, nix::sys::wait::WaitStatus::Exited(child, 7));
    let all = before_end.iter().chain(&records);
    let exits =
        all.filter(|record| matches!(record, Record::Process { what: What::Exit { .. }, .. }));
    assert_eq!(exits.count(), 1);
}

/// Check that the exec and the exit of a process are reported if a thread execs that is not the
/// leader, although the kernel reports the end of the leader first, and everything has ended
/// before the listener reads it.
#[test]
fn an_exec_by_a_thread_is_no_end() {
    let _alone = alone();
    let mut node = Node::new();
    let mut source = node.connect();
    let (child, records) = records_of(&mut source, || {
        for _ in 0..20 {
            let pid = crate::sys::process::fork_for_test(|| {
                thread::spawn(|| {
                    use std::os::unix::process::CommandExt as _;
                    panic!("{}", Command::new("/bin/sh").args(["-c", "exit 7"]).exec());
                });
                loop {
                    thread::park();
                }
            });
            nix::sys::wait::waitpid(pid, None).unwrap();
        }
        std::process::exit(0);
    });
    nix::sys::wait::waitpid(child, None).unwrap();
    let count = |wanted: fn(&What) -> bool| {
        let of_children = records.iter().filter(|record| {
            matches!(record, Record::Process { key, what, .. }
                if key.pid != child.as_raw() && wanted(what))
        });
        of_children.count()
    };
    assert_eq!(count(|what| matches!(what, What::Exec { .. })), 20);
    assert_eq!(count(|what| matches!(what, What::Exit { wait_status: Some(0x700), .. })), 20);
    assert_eq!(count(|what| matches!(what, What::Exit { .. })), 20);
}

/// Check that the last thread's status is the process's, as wait(2) shows it, and that the
/// record does not claim to be exact, because the kernel may report threads in another order.
#[test]
fn the_last_thread_sets_the_status() {
    let _alone = alone();
    let mut node = Node::new();
    let mut source = node.connect();
    let (child, records) = records_of(&mut source, || {
        thread::spawn(|| {
            thread::sleep(Duration::from_millis(100));
            crate::sys::process::exit_thread(0);
        });
        crate::sys::process::exit_thread(3);
    });
    let status = nix::sys::wait::waitpid(child, None).unwrap();
    assert_eq!(status, nix::sys::wait::WaitStatus::Exited(child, 0));
    assert_eq!(exit_of(&records, child.as_raw()), Some(0));
    assert!(records.iter().any(|record| {
        matches!(record, Record::Process { what: What::Exit { .. }, grade: Grade::Partial, .. })
    }));
}
