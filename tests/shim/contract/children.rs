//! What the shim's children inherit, and what they do not.

use std::fs;

use crate::harness::{Node, Process, deadline};

fn ours() -> Process {
    Process::new(std::process::id())
}

/// Check that the runtime runs in the bundle, in a process group of its own, with three
/// descriptors, and without the variables and descriptors through which it could reach the shim's
/// manager (CVE-2024-21626).
#[test]
fn the_runtime_inherits_nothing_that_it_should_not() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim =
        node.start_verb(&bundle).env("NOTIFY_SOCKET", "/run/notify").env("PASSED_ON", "yes").shim();
    node.runtime().record_details();
    shim.run(&bundle);
    shim.run_exec("web", "probe");
    shim.remove("web");
    for verb in ["create", "start", "exec", "kill", "delete"] {
        let details = node.runtime().details(verb);
        assert_eq!(details.cwd, bundle.path, "{verb}");
        assert_eq!(
            details.descriptors.keys().collect::<Vec<_>>(),
            [&0, &1, &2],
            "{verb}: {:?}",
            details.descriptors
        );
        assert_eq!(details.group, node.runtime().calls(verb)[0].pid, "{verb}");
        assert_eq!(Some(details.oom_score_adj), ours().oom_score_adj(), "{verb}");
        assert!(!details.environ.iter().any(|entry| entry.starts_with("NOTIFY_SOCKET=")), "{verb}");
        assert!(details.environ.iter().any(|entry| entry == "PASSED_ON=yes"), "{verb}");
    }
}

/// Check that all three streams of a container without streams are the null device.
#[test]
fn a_container_without_streams_has_the_null_device() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let init = shim.run(&bundle);
    let null =
        |number: &i32| init.descriptors().get(number).is_some_and(|target| target == "/dev/null");
    deadline::until("three null devices", || [0, 1, 2].iter().all(null));
}

/// Check that a runtime does not outlive the shim that waits for it.
#[test]
fn a_runtime_dies_with_its_shim() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let hold = node.runtime().hold("create");
    let request = bundle.create();
    let _held = shim.in_background(move |task| task.create(&request));
    let runtime = hold.wait_until_reached().process();
    assert!(runtime.lives());
    shim.process.kill();
    deadline::until("the end of the runtime", || !runtime.lives());
}

/// Check that only the owner can read the files that the shim writes into a bundle.
#[test]
fn files_of_the_shim_are_private_to_its_owner() {
    use std::os::unix::fs::PermissionsExt as _;
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    shim.kill("web", "", 9).unwrap();
    shim.wait("web", "").unwrap();
    for name in ["address", "options.json", "runtime", "exit.json", "events.journal"] {
        let mode = fs::metadata(bundle.path.join(name))
            .unwrap_or_else(|error| panic!("{name}: {error}"))
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o600, "{name}");
    }
}
