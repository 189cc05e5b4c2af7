//! Descriptors: none inherited, none leaked, and none available.

use std::{os::unix::net::UnixStream, process::Command, time::Duration};

use containerd_shim_protos::api::CreateTaskRequest;

use crate::{
    faults::hostile::{send, serves},
    harness::{Fifo, Node, Shim, deadline, exec_request},
};

fn open(shim: &Shim) -> usize {
    shim.process.descriptors().len()
}

/// Check that failed creates and execs leave no descriptor open (containerd#11885,
/// containerd#3118).
#[test]
fn failures_leave_no_descriptor() {
    let node = Node::new();
    let [web, other] =
        ["web", "other"].map(|id| node.bundle(id).annotated("io.containerd.runc.v2.group", "pod"));
    let shim = node.shim(&web);
    shim.run(&web);
    let [stdin, stdout, stderr] =
        ["in", "out", "err"].map(|name| Fifo::make(node.path().join(name)));
    let create = CreateTaskRequest {
        stdin: stdin.name(),
        stdout: stdout.name(),
        stderr: stderr.name(),
        ..other.create()
    };
    let mut exec = exec_request("web", "probe");
    (exec.stdin, exec.stdout, exec.stderr) = (stdin.name(), stdout.name(), stderr.name());
    node.runtime().before("create", "fail no");
    node.runtime().before("exec", "fail no");
    let fail = |times: usize| {
        for _ in 0..times {
            shim.create(&create).unwrap_err();
            shim.exec_with(&exec).unwrap();
            shim.start("web", "probe").unwrap_err();
            shim.delete("web", "probe").unwrap();
        }
    };
    fail(3);
    let before = open(&shim);
    fail(60);
    deadline::until("the descriptors of before", || open(&shim) <= before);
}

/// Check that finished containers and execs leave no descriptor open either, with and without
/// streams.
#[test]
fn finished_containers_leave_no_descriptor() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let _daemon = node.daemon();
    let shim = node.shim(&bundle);
    let [stdout, stderr] = ["out", "err"].map(|name| Fifo::make(node.path().join(name)));
    let create =
        CreateTaskRequest { stdout: stdout.name(), stderr: stderr.name(), ..bundle.create() };
    node.runtime().payload("web", "exit 0");
    let live = |times: usize| {
        for _ in 0..times {
            shim.create(&create).unwrap();
            let _readers = [stdout.collect(), stderr.collect()];
            shim.start("web", "").unwrap();
            shim.wait("web", "").unwrap();
            shim.delete("web", "").unwrap();
        }
    };
    live(2);
    // The first shim of a node first waits until its eBPF programs are loaded.
    let observes = || shim.process.descriptors().values().any(|target| target.contains("bpf-map"));
    deadline::until("the shim to observe", observes);
    let before = open(&shim);
    live(40);
    deadline::until("the descriptors of before", || open(&shim) <= before);
}

/// Check that a descriptor that `start` inherited reaches neither the shim nor its containers: it
/// would keep mounts busy (containerd#3481), or let a container escape (CVE-2024-21626).
#[test]
fn a_leaked_descriptor_goes_no_further_than_start() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.start_verb(&bundle).after("exec 7</etc/hostname 8<.").shim();
    let init = shim.run(&bundle);
    for process in [shim.process, init] {
        let descriptors = process.descriptors();
        let leaked = |target: &String| {
            *target == "/etc/hostname" || *target == bundle.path.to_string_lossy()
        };
        assert!(!descriptors.values().any(leaked), "{descriptors:?}");
    }
}

/// Check that closed connections leave no descriptor open (ttrpc-rust 370459c).
#[test]
fn connections_leave_no_descriptor() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    serves(&shim);
    let open = || shim.process.descriptors().len();
    let before = open();
    for _ in 0..100 {
        serves(&shim);
        drop(UnixStream::connect(shim.socket()).unwrap());
        drop(send(&shim, 8, 1, 1, &[0xff; 8]));
    }
    deadline::until("the descriptors of before", || open() <= before);
}

/// Check that a shim that runs out of descriptors serves again when some are free, and does not
/// spin meanwhile (ttrpc-rust c351f0b, 37f4a2a, 65fb637).
#[test]
fn a_shim_without_descriptors_recovers() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    let open = shim.process.descriptors().len();
    let limit = |limit: usize| {
        let status = Command::new("prlimit")
            .args([format!("--pid={}", shim.process.pid), format!("--nofile={limit}:20000")])
            .status();
        assert!(status.unwrap().success());
    };
    limit(open + 4);
    let connections: Vec<_> =
        (0..50).map(|_| UnixStream::connect(shim.socket()).unwrap()).collect();
    deadline::until("the last descriptor", || shim.process.descriptors().len() >= open + 4);
    let before = shim.process.cpu_ticks();
    // The request fails but is answered; meanwhile the limit is hit at each step.
    for _ in 0..20 {
        shim.exec("web", "probe").unwrap();
        shim.start("web", "probe").unwrap_err();
        shim.delete("web", "probe").unwrap();
    }
    std::thread::sleep(Duration::from_millis(500));
    let used = shim.process.cpu_ticks() - before;
    assert!(used < 25, "{used} ticks of 10 ms");
    limit(1024);
    drop(connections);
    serves(&shim);
    shim.run_exec("web", "probe");
    shim.remove("web");
}

/// Check that one shim can serve more containers than a pod can have, with at most one inotify
/// instance, of which the machine has few (containerd#5670).
#[test]
fn forty_containers_share_one_shim() {
    let node = Node::new();
    let bundles: Vec<_> = (0..40)
        .map(|number| {
            node.bundle(&format!("c{number}")).annotated("io.kubernetes.cri.sandbox-id", "pod")
        })
        .collect();
    let daemon = node.daemon();
    let shim = node.shim(&bundles[0]);
    for bundle in &bundles {
        shim.run(bundle);
    }
    let inotify =
        shim.process.descriptors().values().filter(|target| target.contains("inotify")).count();
    assert!(inotify <= 1, "{inotify}");
    for bundle in &bundles {
        shim.remove(&bundle.id);
    }
    daemon.wait_for("delete c39 137");
    shim.shut_down();
    assert_eq!(daemon.event_lines().len(), 40 * 4);
    node.wait_until_empty();
}

/// Check that exits, kills and deletes succeed while no descriptor is free: a few are reserved for
/// them.
#[test]
fn a_container_ends_although_no_descriptor_is_free() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let daemon = node.daemon();
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    let exec = shim.run_exec("web", "first");
    shim.exec("web", "second").unwrap();
    // Threads and connections of the start have ended by then.
    std::thread::sleep(Duration::from_secs(1));
    let highest = shim.process.descriptors().keys().max().unwrap() + 1;
    let status = Command::new("prlimit")
        .args([format!("--pid={}", shim.process.pid), format!("--nofile={highest}:20000")])
        .status();
    assert!(status.unwrap().success());
    let free = usize::try_from(highest).unwrap() - open(&shim);
    let _used: Vec<_> = (0..free).map(|_| UnixStream::connect(shim.socket()).unwrap()).collect();
    deadline::until("the last descriptor", || open(&shim) == usize::try_from(highest).unwrap());
    let failure = shim.start("web", "second").unwrap_err();
    assert!(failure.message.contains("Too many open files"), "{failure:?}");
    exec.kill();
    assert_eq!(shim.wait("web", "first").unwrap().exit_status, 137);
    shim.kill("web", "", 9).unwrap();
    assert_eq!(shim.wait("web", "").unwrap().exit_status, 137);
    assert_eq!(shim.delete("web", "").unwrap().exit_status, 137);
    daemon.wait_for("delete web 137");
}

/// Check that the shim uses as many descriptors as its hard limit allows, and that a container has
/// the limits with which the shim was started.
#[test]
fn the_shim_raises_its_own_limit_alone() {
    let node = Node::new();
    // Not runc, whose Go runtime raises the limit as well.
    let bundle = node.bundle("web");
    let shim = node.start_verb(&bundle).after("ulimit -Sn 1024; ulimit -Hn 5000").shim();
    let init = shim.run(&bundle);
    let exec = shim.run_exec("web", "probe");
    let limit = |process: crate::harness::Process| {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.pid)).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        line.split_whitespace().skip(3).take(2).map(|n| n.parse().unwrap()).collect::<Vec<u64>>()
    };
    assert_eq!(limit(shim.process), [5000 - 32, 5000]);
    assert_eq!(limit(init), [1024, 5000]);
    assert_eq!(limit(exec), [1024, 5000]);
}

/// Check that a pod of 110 containers, and 500 execs of one container, work under a soft limit of
/// 1024 descriptors.
#[test]
fn a_large_pod_fits_under_a_low_soft_limit() {
    let node = Node::new();
    let bundles: Vec<_> = (0..110)
        .map(|number| {
            node.bundle(&format!("c{number}")).annotated("io.kubernetes.cri.sandbox-id", "pod")
        })
        .collect();
    // These containers are in the cgroup of this test. Observed, they would claim the processes of
    // tests that run at the same time.
    let config = node.path().join("lookout.toml");
    std::fs::write(&config, "observe = false\n").unwrap();
    let verb = node.start_verb(&bundles[0]).after("ulimit -Sn 1024");
    let shim = verb.env("LOOKOUT_CONFIG", &config.to_string_lossy()).shim();
    let outputs = |name: &str| {
        ["out", "err"].map(|stream| Fifo::make(node.path().join(format!("{name}.{stream}"))))
    };
    let (mut fifos, mut clients) = (Vec::new(), Vec::new());
    for bundle in &bundles {
        let [stdout, stderr] = outputs(&bundle.id);
        let streams =
            CreateTaskRequest { stdout: stdout.name(), stderr: stderr.name(), ..bundle.create() };
        // containerd has a connection for each container.
        let client = shim.reconnect();
        client.create(&streams).unwrap();
        client.start(&bundle.id, "").unwrap();
        clients.push(client);
        fifos.push([stdout, stderr]);
    }
    for number in 0..500 {
        let exec_id = format!("e{number}");
        let [stdout, stderr] = outputs(&exec_id);
        let mut exec = exec_request("c0", &exec_id);
        (exec.stdout, exec.stderr) = (stdout.name(), stderr.name());
        shim.exec_with(&exec).unwrap();
        shim.start("c0", &exec_id).unwrap();
        fifos.push([stdout, stderr]);
    }
    assert!(open(&shim) > 1024);
    for client in &clients {
        client.connection("c0").unwrap();
    }
    for bundle in &bundles {
        shim.remove(&bundle.id);
    }
}

/// Check that a shim that is stopped, with as many unaccepted connections as the kernel allows,
/// does not delay a start: `start` has a lock while it looks for a shim of the same pod.
#[test]
fn a_stopped_shim_delays_no_start() {
    let node = Node::new();
    let [web, other] =
        ["web", "other"].map(|id| node.bundle(id).annotated("io.kubernetes.cri.sandbox-id", "pod"));
    let shim = node.shim(&web);
    shim.process.signal(nix::sys::signal::Signal::SIGSTOP);
    deadline::until("the stop", || shim.process.state() == Some('T'));
    let queued = fill_queue(&shim.socket());
    let begun = std::time::Instant::now();
    let answer = node.start_verb(&other).run().answer();
    assert_eq!(answer.address, shim.answer.address);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(queued.len() > 100, "{}", queued.len());
    shim.process.signal(nix::sys::signal::Signal::SIGCONT);
}

/// Connects to a socket until its queue is full.
fn fill_queue(socket: &std::path::Path) -> Vec<std::os::fd::OwnedFd> {
    use std::os::fd::AsRawFd as _;

    use nix::sys::{
        resource::{Resource, getrlimit, setrlimit},
        socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket as new_socket},
    };
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let address = UnixAddr::new(socket).unwrap();
    let mut queued = Vec::new();
    loop {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let fd = new_socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
        match connect(fd.as_raw_fd(), &address) {
            Ok(()) => queued.push(fd),
            Err(nix::Error::EAGAIN) => return queued,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Check how many descriptors each container of a pod with three streams needs, and each exec.
#[test]
fn a_container_needs_few_descriptors() {
    let node = Node::new();
    let bundles: Vec<_> = (0..11)
        .map(|number| {
            node.runc_bundle(&format!("c{number}"), "exec sleep 600")
                .annotated("io.kubernetes.cri.sandbox-id", "pod")
        })
        .collect();
    let shim = node.shim(&bundles[0]);
    let run = |bundle: &crate::harness::Bundle| {
        let [stdin, stdout, stderr] = ["in", "out", "err"]
            .map(|name| Fifo::make(node.path().join(format!("{}.{name}", bundle.id))));
        let streams = CreateTaskRequest {
            stdin: stdin.name(),
            stdout: stdout.name(),
            stderr: stderr.name(),
            ..bundle.create()
        };
        shim.create(&streams).unwrap();
        shim.start(&bundle.id, "").unwrap();
        [stdin, stdout, stderr]
    };
    let _first = run(&bundles[0]);
    let before = open(&shim);
    let _others: Vec<_> = bundles[1..].iter().map(run).collect();
    let each = open(&shim) - before;
    // A pipe and a fifo for each output, a pipe and both ends of a fifo for the input, and the
    // watch for OOM kills, which on cgroup v2 has two.
    let allowed =
        if std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { 9 } else { 8 };
    assert_eq!(each, 10 * allowed, "{:?}", shim.process.descriptors());
}
