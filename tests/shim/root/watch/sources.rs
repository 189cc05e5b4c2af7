//! The guarantees of each source, when it is configured and when a better one is not available.

use std::{fs, process::Command, time::Duration};

use nix::{
    fcntl::{Flock, FlockArg},
    mount::MsFlags,
};

use super::{kill_and_remove, storm};
use crate::harness::{
    containerd::{Containerd, ObservedEvent, Program, Version},
    deadline,
    tools::tool,
};

/// A lock that makes this test's connector listener the only one on the machine. The connector's
/// unit tests take the same lock, because they check whether any process listens. When dropped at
/// the end of a test that passes, it waits until the listener has left.
pub(crate) struct ConnectorLock<'a> {
    containerd: &'a Containerd,
    _lock: Flock<fs::File>,
}

pub(crate) fn lock_connector(containerd: &Containerd) -> ConnectorLock<'_> {
    let path = std::env::temp_dir().join("lookout-test-connector.lock");
    let file = fs::File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .expect("a temporary directory");
    let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error);
    ConnectorLock { containerd, _lock: lock.expect("a lock") }
}

impl Drop for ConnectorLock<'_> {
    fn drop(&mut self) {
        // The test has failed already: its container may run still, and so does the listener.
        if std::thread::panicking() {
            return;
        }
        let socket = self.containerd.path("lookout/connector.sock");
        deadline::until("the listener to leave", || !socket.exists());
    }
}

/// Asserts what every source guarantees: init, an exec and their exits are reported correctly and
/// by that source, and what it cannot know is marked.
fn assert_reports_correctly(containerd: &Containerd, source: &str) {
    let subscriber = containerd.subscribe();
    containerd.detached("c", &[], &["sh", "-c", "sleep 1; sleep 1000"]);
    // The process lives long enough for every source to see it.
    let child = subscriber.wait_run(&["sleep", "1"]);
    assert_eq!(child.text("/source"), source, "{child:?}");
    assert_eq!(child.text("/process/executable/path"), "/bin/busybox", "{child:?}");
    let grade = match source {
        "bpf" => "exact",
        // Read from /proc after the exec was reported.
        "connector" => "late",
        // Found by a scan.
        _ => "snapshot",
    };
    assert_eq!(child.text("/grade"), grade, "{child:?}");
    subscriber.wait_of("process.exit", &child);
    containerd.exec("c", &[], &["sh", "-c", "sleep 1; exit 3"]).run().exit_code(3);
    let exec = subscriber.wait_run(&["sh", "-c", "sleep 1; exit 3"]);
    assert_eq!(exec.text("/origin"), "exec", "{exec:?}");
    let exit = subscriber.wait_of("process.exit", &exec);
    assert_eq!(exit.number("/status"), Some(3), "{exit:?}");
    // The same status as that of a SIGKILL, and still a code: also where the shim's reaper is the
    // only one that knows how the process ended.
    containerd.exec("c", &[], &["sh", "-c", "sleep 1; exit 137"]).run().exit_code(137);
    let exec = subscriber.wait_run(&["sh", "-c", "sleep 1; exit 137"]);
    let exit = subscriber.wait_of("process.exit", &exec);
    assert_eq!(exit.number("/status"), Some(137), "{exit:?}");
    assert_eq!(exit.number("/process/exit/code"), Some(137), "{exit:?}");
    assert!(exit.at("/process/exit/signal").is_null(), "{exit:?}");
    let close = kill_and_remove(containerd, &subscriber, "c");
    let unknown =
        subscriber.count(|event| event.kind() == "observer.gap" && event.at("/lost").is_null());
    if source == "bpf" {
        assert_eq!(
            (close.number("/seen"), close.number("/lost")),
            (close.number("/delivered"), Some(0)),
            "{close:?}"
        );
        assert_eq!(unknown, 0);
    } else {
        assert!(close.at("/seen").is_null() && close.at("/lost").is_null(), "{close:?}");
        assert!(unknown > 0, "the unknown loss is not reported");
    }
}

fn capability(containerd: &Containerd) -> (String, String, String) {
    let answer = containerd.lookout(&["capabilities", "-o", "json"]).run().success().stdout_text();
    let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
    let process = answer["categories"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|entry| entry["category"] == "process");
    let of = |name: &str| process.expect("always there")[name].as_str().expect("text").to_owned();
    (of("support"), of("backend"), of("reason"))
}

#[test]
fn bpf_reports_correctly() {
    let containerd = Containerd::start_configured(Version::V1_7, "source = \"bpf\"\n");
    assert_reports_correctly(&containerd, "bpf");
    containerd.assert_nothing_left();
}

#[test]
fn the_connector_reports_correctly() {
    let containerd = Containerd::start_configured(Version::V1_7, "source = \"connector\"\n");
    let _alone = lock_connector(&containerd);
    assert_reports_correctly(&containerd, "connector");
    containerd.assert_nothing_left();
}

#[test]
fn polling_reports_correctly() {
    let containerd = Containerd::start_configured(Version::V1_7, "source = \"poll\"\n");
    assert_reports_correctly(&containerd, "poll");
    containerd.assert_nothing_left();
}

/// Check that the connector takes over where bpf(2) is refused, and that the report gives the
/// reason.
#[test]
fn without_bpf_the_connector_takes_over() {
    let mut containerd = Containerd::start(Version::V1_7);
    containerd.kill_9();
    containerd.restart_under(&["bpf"]);
    let containerd = containerd;
    let _alone = lock_connector(&containerd);
    assert_reports_correctly(&containerd, "connector");
    containerd.detached("c", &[], &["sleep", "1000"]);
    let (support, backend, reason) = capability(&containerd);
    assert_eq!((support.as_str(), backend.as_str()), ("partial", "connector"), "{reason}");
    assert!(reason.contains("bpf") || reason.contains("Operation not permitted"), "{reason}");
    containerd.ctr(&["task", "kill", "--signal", "SIGKILL", "c"]).success();
    containerd.remove("c");
    containerd.assert_nothing_left();
}

/// The types of the kernel, without which no programs can be loaded.
const BTF: &str = "/sys/kernel/btf/vmlinux";

/// A containerd on a node with no pinned programs, where the kernel's BTF cannot be read.
fn without_btf() -> Containerd {
    let mut containerd = Containerd::start(Version::V1_7);
    containerd.use_own_bpffs();
    let nothing = None::<&str>;
    // This changes only the mount namespace of this test.
    nix::mount::mount(Some("/dev/null"), BTF, nothing, MsFlags::MS_BIND, nothing)
        .expect("the namespace is ours");
    containerd
}

/// Check that the connector takes over where the kernel's BTF cannot be read and no programs are
/// pinned.
#[test]
fn without_btf_the_connector_takes_over() {
    let containerd = without_btf();
    let _alone = lock_connector(&containerd);
    assert_reports_correctly(&containerd, "connector");
    containerd.remove_own_bpffs();
    containerd.assert_nothing_left();
}

/// Check that a better source is taken back when it works again.
#[test]
fn a_better_source_is_taken_back() {
    let containerd = without_btf();
    let _alone = lock_connector(&containerd);
    let subscriber = containerd.subscribe();
    containerd.detached("c", &[], &["sh", "-c", "while sleep 1; do :; done"]);
    subscriber.wait(deadline::PATIENCE, "an event of the connector", |event| {
        event.text("/source") == "connector"
    });
    nix::mount::umount(BTF).expect("mounted above");
    let events = || subscriber.all();
    let is_change = |event: &&ObservedEvent| event.kind() == "observer.capability";
    deadline::find_within(Duration::from_secs(30), "a better source", || {
        events().iter().find(is_change).map(drop)
    });
    containerd.exec("c", &[], &["sh", "-c", "exit 3"]).run().exit_code(3);
    let exec = subscriber.wait_run(&["sh", "-c", "exit 3"]);
    assert_eq!((exec.text("/source"), exec.text("/grade")), ("bpf", "exact"), "{exec:?}");
    assert_eq!(exec.text("/origin"), "exec", "{exec:?}");
    assert_eq!(capability(&containerd).1, "bpf");
    kill_and_remove(&containerd, &subscriber, "c");
    drop(subscriber);
    containerd.remove_own_bpffs();
    containerd.assert_nothing_left();
}

/// Check that polling takes over where neither is available.
#[test]
fn without_either_polling_takes_over() {
    let mut containerd = Containerd::start(Version::V1_7);
    containerd.kill_9();
    containerd.restart_under(&["bpf", "connector"]);
    assert_reports_correctly(&containerd, "poll");
    containerd.assert_nothing_left();
}

/// Check that fields of a storm that the connector's helper could not read are marked as unknown:
/// no event has another process's argument, and each complete event has a leaf's own.
#[test]
fn events_of_the_connector_in_a_storm_are_right_or_marked() {
    let containerd = Containerd::start_configured(Version::V1_7, "source = \"connector\"\n");
    let _alone = lock_connector(&containerd);
    let subscriber = containerd.subscribe();
    storm(&containerd, &subscriber, "c", 5000, 0);
    let all = subscriber.all();
    let leaves =
        all.iter().filter(|event| ["process.start", "process.exec"].contains(&event.kind()));
    let (mut right, mut marked) = (0, 0);
    for event in leaves {
        match event.args()[..] {
            ["leaf", number] => {
                // It is the leaf's own argument if the leaf ends with that number modulo 256.
                let exit = all.iter().find(|other| other.is("process.exit", event));
                let number: u64 = number.parse().expect("a leaf's number");
                if let Some(status) = exit.and_then(|exit| exit.number("/status")) {
                    assert_eq!(status, number % 256, "{event:?}");
                }
                right += 1;
            }
            [] => {
                assert_eq!(event.text("/grade"), "partial", "{event:?}");
                assert!(!event.text("/process/unknown").is_empty(), "{event:?}");
                marked += 1;
            }
            _ => {}
        }
    }
    assert!(right + marked > 2500, "{right} right and {marked} marked of 5000");
    assert!(all.iter().any(|event| event.kind() == "observer.gap" && event.at("/lost").is_null()));
    drop(subscriber);
    containerd.assert_nothing_left();
}

/// Check that `refuse` makes bpf(2) fail, on which the tests above rely.
#[test]
fn refuse_makes_bpf_fail() {
    let mut command = Command::new(tool("storm/bin/refuse"));
    command.args(["bpf", "--"]).arg(env!("CARGO_BIN_EXE_lookout")).args([
        "capabilities",
        "-o",
        "json",
    ]);
    command.env("LOOKOUT_RUNTIME_DIR", "/nonexistent");
    let answer = Program::new(command).run().stdout_text();
    assert!(answer.contains(r#""category""#) && !answer.contains(r#""backend":"bpf""#), "{answer}");
}
