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
