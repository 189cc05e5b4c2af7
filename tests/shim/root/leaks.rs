//! After many runs, failed starts and execs, the shim's resources are as before.

use std::{
    collections::VecDeque,
    thread,
    time::{Duration, Instant},
};

use crate::harness::{
    Process,
    containerd::{Containerd, Holdings, Program, Running, Version},
};

on_every_containerd! {
    two_hundred_runs_leave_nothing,
    runs_and_two_hundred_failed_starts_leave_a_pods_shim_as_it_was,
    five_hundred_execs_leave_the_shim_as_it_was,
}

/// How many clients run at once: the machine has two processors.
const AT_ONCE: usize = 4;

/// How long a shim's resources must stay the same until it counts as idle. Unused threads of its
/// pool exit after half a second.
const REST: Duration = Duration::from_secs(1);

/// The most memory growth after the allocator has warmed up: its noise only.
const NOISE_KIB: u64 = 256;

/// Runs clients, [`AT_ONCE`] at a time, and checks the exit code of each.
fn run_all(code: i32, programs: impl Iterator<Item = Program>) {
    let mut running = VecDeque::<Running>::new();
    for program in programs {
        if running.len() == AT_ONCE {
            running.pop_front().into_iter().for_each(|first| drop(first.wait().exit_code(code)));
        }
        running.push_back(program.spawn());
    }
    for client in running {
        client.wait().exit_code(code);
    }
}

/// Starts a pod. Its shim runs until the first container is removed.
fn pod(containerd: &Containerd) -> Process {
    containerd.detached("pod", &POD, &["sleep", "100000"]);
    containerd.shim("pod")
}

const POD: [&str; 2] = ["--annotation", "io.containerd.runc.v2.group=pod"];

/// The shim's resources once they no longer change.
fn at_rest(shim: Process) -> Holdings {
    let begun = Instant::now();
    let (mut holdings, mut since) = (Holdings::of(shim), Instant::now());
    while since.elapsed() < REST {
        assert!(begun.elapsed() < 10 * REST, "the shim does not come to rest: {holdings:?}");
        // Nothing happens any more, so there is no event to wait for.
        thread::sleep(Duration::from_millis(50));
        let now = Holdings::of(shim);
        if now != holdings {
            (holdings, since) = (now, Instant::now());
        }
    }
    holdings
}

/// Check that 200 runs, each with its own shim, leave no shim, socket, mount or anything else
/// (containerd#5173, containerd#11708).
fn two_hundred_runs_leave_nothing(version: Version) {
    let containerd = Containerd::start(version);
    run_all(
        3,
        (0..200).map(|number| {
            containerd.run(&format!("c{number}"), &["--rm"], &["sh", "-c", "exit 3"])
        }),
    );
    containerd.assert_nothing_left();
}

/// Check that after 100 runs and 200 failed starts in one pod, with and without a terminal, its
/// shim has as many descriptors, threads and children as before (containerd#11885).
fn runs_and_two_hundred_failed_starts_leave_a_pods_shim_as_it_was(version: Version) {
    let containerd = Containerd::start(version);
    let shim = pod(&containerd);
    let before = at_rest(shim);
    run_all(
        3,
        (0..100).map(|number| {
            containerd.run(
                &format!("c{number}"),
                &[&["--rm"], &POD[..]].concat(),
                &["sh", "-c", "exit 3"],
            )
        }),
    );
    assert_eq!(at_rest(shim), before);
    run_all(
        1,
        (0..200).map(|number| {
            let (id, flags) = (format!("f{number}"), [&["--rm"], &POD[..]].concat());
            match number % 4 {
                0 => containerd
                    .run(&id, &[&flags[..], &["--tty"]].concat(), &["/nope"])
                    .terminal(24, 80),
                _ => containerd.run(&id, &flags, &["/nope"]),
            }
        }),
    );
    assert_eq!(at_rest(shim), before);
    assert_eq!(containerd.sockets().len(), 1);
    containerd.remove("pod");
    containerd.assert_nothing_left();
}

/// Check that after 500 execs, a hundred of them on a terminal, the shim has as many descriptors,
/// threads and children as before, and no more memory (containerd#9217, containerd#11161).
fn five_hundred_execs_leave_the_shim_as_it_was(version: Version) {
    // The journal of events is bounded. Here it is small, so that it is full before memory is
    // compared.
    let containerd = Containerd::start_configured(version, "journal_max = \"64KiB\"\n");
    let shim = pod(&containerd);
    let before = at_rest(shim);
    let execs = |count: u32| {
        run_all(
            5,
            (0..count).map(|number| match number % 5 {
                0 => containerd
                    .exec("pod", &["--tty"], &["sh", "-c", "echo out; exit 5"])
                    .terminal(24, 80),
                _ => containerd.exec("pod", &[], &["sh", "-c", "echo out; exit 5"]),
            }),
        );
    };
    execs(100);
    assert_eq!(at_rest(shim), before);
    let warm = shim.resident_kib();
    execs(400);
    assert_eq!(at_rest(shim), before);
    let grown = shim.resident_kib().saturating_sub(warm);
    assert!(grown <= NOISE_KIB, "400 execs cost {grown} KiB beside {warm}");
    containerd.remove("pod");
    containerd.assert_nothing_left();
}
