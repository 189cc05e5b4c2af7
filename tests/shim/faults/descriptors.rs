//! Descriptors: none inherited, none left.

use containerd_shim_protos::api::CreateTaskRequest;

use crate::harness::{Fifo, Node, Shim, deadline, exec_request};

fn open(shim: &Shim) -> usize {
    shim.process.descriptors().len()
}

/// Check that creates and execs that fail leave no descriptor (containerd#11885, containerd#3118).
#[test]
fn failures_leave_no_descriptor() {
    let node = Node::new();
    let [web, other] = ["web", "other"].map(|id| node.bundle(id).annotated("io.containerd.runc.v2.group", "pod"));
    let shim = node.shim(&web);
    shim.run(&web);
    let [stdin, stdout, stderr] = ["in", "out", "err"].map(|name| Fifo::make(node.path().join(name)));
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

/// Check that lives that end well leave no descriptor either, with streams and without.
#[test]
fn lives_leave_no_descriptor() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let _daemon = node.daemon();
    let shim = node.shim(&bundle);
    let [stdout, stderr] = ["out", "err"].map(|name| Fifo::make(node.path().join(name)));
    let create = CreateTaskRequest { stdout: stdout.name(), stderr: stderr.name(), ..bundle.create() };
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
    let before = open(&shim);
    live(40);
    deadline::until("the descriptors of before", || open(&shim) <= before);
}

/// Check that what `start` inherited gets neither to the shim nor to its containers: it would keep
/// mounts busy (containerd#3481), or let a container out (CVE-2024-21626).
#[test]
fn a_leaked_descriptor_goes_no_further_than_start() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.start_verb(&bundle).after("exec 7</etc/hostname 8<.").shim();
    let init = shim.run(&bundle);
    for process in [shim.process, init] {
        let descriptors = process.descriptors();
        let leaked = |target: &String| *target == "/etc/hostname" || *target == bundle.path.to_string_lossy();
        assert!(!descriptors.values().any(leaked), "{descriptors:?}");
    }
}
