//! `observe=off` creates nothing, and an idle container costs nothing.

use std::{fs, time::Duration};

use lookout::{
    api::StatusResponse,
    client::{Registration, Shim},
};

use super::kill_and_remove;
use crate::harness::{
    Process,
    containerd::{Containerd, Holdings, Version},
    deadline,
};

/// The threads of a shim that observes nothing: one serves, and there is one for each of the four
/// kinds of calls that may block.
const SERVING: usize = 5;

/// How often a process's threads were scheduled so far.
fn switches(shim: Process) -> u64 {
    let threads = fs::read_dir(format!("/proc/{}/task", shim.pid)).expect("it lives").flatten();
    let statuses =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok());
    let count = |status: String| {
        let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
        lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum::<u64>()
    };
    statuses.map(count).sum()
}

/// The status of a shim that has no registration.
fn status(containerd: &Containerd, id: &str) -> StatusResponse {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let registration = Registration {
        namespace: String::new(),
        id: id.to_owned(),
        pid: containerd.shim(id).pid,
        start: 0,
        address: fs::read_to_string(containerd.bundle(id).join("address"))
            .expect("the shim writes it"),
        epoch: String::new(),
        version: String::new(),
    };
    runtime.block_on(async {
        Shim::connect(registration).await.expect("it serves").status().await.expect("it answers")
    })
}

/// Check that a container with `io.lookout.observe=off` costs no thread, no kernel object and no
/// file, and that the answers report that it is off.
#[test]
fn off_creates_nothing() {
    let containerd = Containerd::start_configured(Version::V1_7, "allow = [\"observe\"]\n");
    containerd.detached("c", &["--annotation", "io.lookout.observe=off"], &["sleep", "1000"]);
    let shim = containerd.shim("c");
    // Threads that were made for calls that hang exit after half a second.
    deadline::until("the threads of serving", || Holdings::of(shim).threads == SERVING);
    let holdings = Holdings::of(shim);
    let kernel: Vec<_> = holdings
        .descriptors
        .keys()
        .filter(|kind| kind.contains("bpf") || kind.contains("map"))
        .collect();
    assert!(kernel.is_empty(), "{holdings:?}");
    let maps = fs::read_to_string(format!("/proc/{}/maps", shim.pid)).expect("it lives");
    assert!(!maps.contains("bpf"), "{maps}");
    assert!(!containerd.path("lookout").exists(), "a run-time directory");
    // containerd may still have to acknowledge the start.
    deadline::until("the task events to be published", || {
        status(&containerd, "c").unpublished_events == 0
    });
    assert_eq!(status(&containerd, "c").subscribers, 0);
    assert_unobserved(&containerd, "c");
    containerd.ctr(&["task", "kill", "--signal", "SIGKILL", "c"]).success();
    containerd.remove("c");
    containerd.assert_nothing_left();
}

/// Check that every command for a container names one that is not observed, and how it is switched
/// on, and that another id is still not found.
fn assert_unobserved(containerd: &Containerd, id: &str) {
    let expected = format!(
        "lookout: container {id} of the namespace {} runs and is not observed: `observe` is \
         off for it, by its annotation io.lookout.observe, by the options of its runtime, or by \
         the host's configuration (`lookout config show observe`). Set it to on there, and create \
         the container again\n",
        containerd.namespace()
    );
    for args in [
        &["ps", "--container", id][..],
        &["tree", "--container", id],
        &["ports", "--container", id],
        &["exits", "--container", id],
        &["events", "--container", id],
        &["events", "-f", "--container", id],
        &["capabilities", "--container", id],
        &["inspect", id],
    ] {
        let output = containerd.lookout(args).run().exit_code(1);
        assert_eq!(String::from_utf8_lossy(&output.stderr), expected, "{args:?}");
    }
    containerd.lookout(&["inspect", "../default/c"]).run().exit_code(3);
}

/// Check that a container of a pod that is not observed is named as such, beside an observed one.
#[test]
fn an_unobserved_container_of_a_pod_is_named() {
    let containerd = Containerd::start_configured(Version::V1_7, "allow = [\"observe\"]\n");
    let group = ["--annotation", "io.containerd.runc.v2.group=pod"];
    containerd.detached("seen", &group, &["sleep", "1000"]);
    let off = [&group[..], &["--annotation", "io.lookout.observe=off"]].concat();
    containerd.detached("off", &off, &["sleep", "1000"]);
    assert_unobserved(&containerd, "off");
    let page = containerd.lookout(&["ps", "--container", "seen"]).run().success().stdout_text();
    assert!(page.contains("sleep 1000"), "{page}");
    for id in ["off", "seen"] {
        containerd.ctr(&["task", "kill", "--signal", "SIGKILL", id]).success();
        containerd.remove(id);
    }
    containerd.assert_nothing_left();
}

/// Check that a container cannot decide how it is watched, unless the host allows it; and that what
/// it tried is in its first event and in the answer of `inspect`.
#[test]
fn an_annotation_cannot_change_what_the_host_does_not_allow() {
    let settings = "allow = [\"observe\", \"other/bus\"]\nlocked = [\"observe\"]\n";
    let containerd = Containerd::start_configured(Version::V1_7, settings);
    let subscriber = containerd.subscribe();
    let long = format!("io.lookout.{}=x", "k".repeat(1000));
    let flags: Vec<&str> =
        ["io.lookout.observe=off", "io.lookout.bus=none", "io.lookout.idle_after=1s", &long]
            .into_iter()
            .flat_map(|annotation| ["--annotation", annotation])
            .collect();
    containerd.detached("c", &flags, &["sleep", "1000"]);
    let start = subscriber
        .wait(Duration::from_secs(10), "the start", |event| event.kind() == "container.start");
    let ignored = start.at("/ignored_settings").as_array().expect("a list").clone();
    let keys: Vec<_> = ignored.iter().map(|one| one["key"].as_str().expect("text")).collect();
    let [bus, unknown, observe] = keys[..] else { panic!("{start:?}") };
    assert_eq!((bus, observe), ("io.lookout.bus", "io.lookout.observe"));
    assert_eq!(unknown.len(), 256, "cut");
    assert_eq!(
        ignored[0]["reason"],
        "an annotation can set it only if the host's key `allow` has it"
    );
    assert_eq!(ignored[2]["reason"], "locked by the host's configuration");
    let page = containerd.lookout(&["inspect", "--no-trunc", "c"]).run().success().stdout_text();
    let line = "ignored     io.lookout.observe: locked by the host's configuration";
    assert!(page.lines().any(|found| found == line), "{page}");
    kill_and_remove(&containerd, &subscriber, "c");
    drop(subscriber);
    containerd.assert_nothing_left();
}

/// Check that a shim that observes an idle container is not scheduled once in ten seconds.
#[test]
fn an_idle_observed_shim_sleeps() {
    let containerd = Containerd::start(Version::V1_7);
    containerd.detached("c", &[], &["sleep", "1000"]);
    let shim = containerd.shim("c");
    // Waits for the rest of the start.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(Holdings::of(shim).threads, SERVING + 1, "one more watches");
    let before = switches(shim);
    std::thread::sleep(Duration::from_secs(10));
    assert_eq!(switches(shim) - before, 0, "context switches in 10 s");
    containerd.ctr(&["task", "kill", "--signal", "SIGKILL", "c"]).success();
    containerd.remove("c");
    containerd.assert_nothing_left();
}
