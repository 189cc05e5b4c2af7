//! The same promises from each source: by configuration, and where the better one cannot be had.

use std::{fs, process::Command};

use nix::{
    fcntl::{Flock, FlockArg},
    mount::MsFlags,
};

use super::storm;
use crate::harness::{
    containerd::{Containerd, Program, Version},
    deadline,
    tools::tool,
};

/// The listener of the tests that use the connector is the only one on this machine: see `alone` of
/// the connector's own tests, which ask whether anybody listens. Dropped, it waits until the last
/// has left.
pub(crate) struct Alone<'a> {
    containerd: &'a Containerd,
    _lock: Flock<fs::File>,
}

pub(crate) fn alone(containerd: &Containerd) -> Alone<'_> {
    let path = std::env::temp_dir().join("lookout-test-connector.lock");
    let file = fs::File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .expect("a temporary folder");
    let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error);
    Alone { containerd, _lock: lock.expect("a lock") }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        let socket = self.containerd.path("lookout/connector.sock");
        deadline::until("the listener to leave", || !socket.exists());
    }
}

/// What holds for each source: init, an exec and their ends are told truly, by that source, and
/// what cannot be promised is said.
fn told_truly(containerd: &Containerd, source: &str) {
    let watching = containerd.watching();
    containerd.detached("c", &[], &["sh", "-c", "sleep 1; sleep 1000"]);
    // Long enough for any source to see it.
    let child = watching.wait_run(&["sleep", "1"]);
    assert_eq!(child.text("/source"), source, "{child:?}");
    assert_eq!(child.text("/process/executable/path"), "/bin/busybox", "{child:?}");
    let expected = if source == "bpf" { "exact" } else { child.text("/grade") };
    assert_eq!(child.text("/grade"), expected, "{child:?}");
    assert!(["exact", "late", "snapshot"].contains(&child.text("/grade")), "{child:?}");
    watching.wait_of("process.exit", &child);
    containerd.exec("c", &[], &["sh", "-c", "sleep 1; exit 3"]).run().exit_code(3);
    let exec = watching.wait_run(&["sh", "-c", "sleep 1; exit 3"]);
    assert_eq!(exec.text("/origin"), "exec", "{exec:?}");
    let exit = watching.wait_of("process.exit", &exec);
    assert_eq!(exit.number("/status"), Some(3), "{exit:?}");
    containerd.ctr(&["task", "kill", "--signal", "SIGKILL", "c"]).success();
    containerd.remove("c");
    let close = watching.wait_close("c");
    let unknown =
        watching.count(|told| told.kind() == "observer.gap" && told.at("/lost").is_null());
    if source == "bpf" {
        assert_eq!(
            (close.number("/seen"), close.number("/lost")),
            (close.number("/delivered"), Some(0)),
            "{close:?}"
        );
        assert_eq!(unknown, 0);
    } else {
        assert!(close.at("/seen").is_null() && close.at("/lost").is_null(), "{close:?}");
        assert!(unknown > 0, "nobody counts, and that is told");
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
fn bpf_tells_truly() {
    let containerd = Containerd::start_configured(Version::V1_7, "source = \"bpf\"\n");
    told_truly(&containerd, "bpf");
    containerd.assert_nothing_left();
}

#[test]
fn the_connector_tells_truly() {
    let containerd = Containerd::start_configured(Version::V1_7, "source = \"connector\"\n");
    let _alone = alone(&containerd);
    told_truly(&containerd, "connector");
    containerd.assert_nothing_left();
}

#[test]
fn polling_tells_truly() {
    let containerd = Containerd::start_configured(Version::V1_7, "source = \"poll\"\n");
    told_truly(&containerd, "poll");
    containerd.assert_nothing_left();
}

/// Check that where bpf(2) is refused the connector takes over, and the report says why.
#[test]
fn without_bpf_the_connector_takes_over() {
    let mut containerd = Containerd::start(Version::V1_7);
    containerd.kill_9();
    containerd.restart_under(&["bpf"]);
    let containerd = containerd;
    let _alone = alone(&containerd);
    told_truly(&containerd, "connector");
    containerd.detached("c", &[], &["sleep", "1000"]);
    let (support, backend, reason) = capability(&containerd);
    assert_eq!((support.as_str(), backend.as_str()), ("partial", "connector"), "{reason}");
    assert!(reason.contains("bpf") || reason.contains("Operation not permitted"), "{reason}");
    containerd.ctr(&["task", "kill", "--signal", "SIGKILL", "c"]).success();
    containerd.remove("c");
    containerd.assert_nothing_left();
}

/// Check that where the kernel's types cannot be read, and no programs are pinned, the connector
/// takes over.
#[test]
fn without_btf_the_connector_takes_over() {
    let mut containerd = Containerd::start(Version::V1_7);
    containerd.use_own_bpffs();
    // In the mount namespace of this test.
    let (nothing, types) = (None::<&str>, "/sys/kernel/btf/vmlinux");
    nix::mount::mount(Some("/dev/null"), types, nothing, MsFlags::MS_BIND, nothing)
        .expect("the namespace is ours");
    let containerd = containerd;
    let _alone = alone(&containerd);
    told_truly(&containerd, "connector");
    containerd.remove_own_bpffs();
    containerd.assert_nothing_left();
}

/// Check that where neither can be had, polling takes over.
#[test]
fn without_either_polling_takes_over() {
    let mut containerd = Containerd::start(Version::V1_7);
    containerd.kill_9();
    containerd.restart_under(&["bpf", "connector"]);
    told_truly(&containerd, "poll");
    containerd.assert_nothing_left();
}

/// Check that what the connector's helper cannot see of a storm is told as not known: no event
/// claims another's argument, and each that comes is a leaf's own.
#[test]
fn what_the_connector_tells_of_a_storm_is_right_or_marked() {
    let containerd = Containerd::start_configured(Version::V1_7, "source = \"connector\"\n");
    let _alone = alone(&containerd);
    let watching = containerd.watching();
    storm(&containerd, &watching, "c", 5000, 0);
    let all = watching.all();
    let leaves = all.iter().filter(|told| ["process.start", "process.exec"].contains(&told.kind()));
    let (mut right, mut marked) = (0, 0);
    for told in leaves {
        match told.args()[..] {
            ["leaf", number] => {
                // Its own: the leaf ends with its number modulo 256.
                let exit = all.iter().find(|other| other.is("process.exit", told));
                let number: u64 = number.parse().expect("a leaf's number");
                if let Some(status) = exit.and_then(|exit| exit.number("/status")) {
                    assert_eq!(status, number % 256, "{told:?}");
                }
                right += 1;
            }
            [] => {
                assert_eq!(told.text("/grade"), "partial", "{told:?}");
                assert!(!told.text("/process/unknown").is_empty(), "{told:?}");
                marked += 1;
            }
            _ => {}
        }
    }
    assert!(right + marked > 2500, "{right} right and {marked} marked of 5000");
    assert!(all.iter().any(|told| told.kind() == "observer.gap" && told.at("/lost").is_null()));
    drop(watching);
    containerd.assert_nothing_left();
}

/// Check that `refuse` does what the tests above rely on.
#[test]
fn bpf_is_refused_to_who_runs_under_refuse() {
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
