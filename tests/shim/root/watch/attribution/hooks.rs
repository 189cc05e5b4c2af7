//! Hooks of the runtime: those that run in the container are reported, the others are not.

use serde_json::json;

use super::{Life, births_path, configured, end, ended_with, exec};
use crate::harness::{
    containerd::{Containerd, Runtime, Version},
    deadline::PATIENCE,
};

under_each_runtime! {
    hooks_in_the_container_are_reported_and_others_are_not,
    what_hooks_leave_in_the_container_is_reported,
}

/// Runs a container with a hook of each kind, and returns the processes that were reported. A hook
/// does `words` and a number, ends with 0, and has a child that ends with the number: 41 to 46, in
/// the order in which the kinds run.
fn with_hooks(version: Version, runtime: Runtime, words: &[&str]) -> Vec<Life> {
    let containerd = Containerd::start_with(version, runtime);
    let subscriber = containerd.subscribe();
    let births = births_path();
    configured(&containerd, "c", &["/births", "nap", "900000", "1"], |config| {
        let hook = |path: &str, number: &str| {
            // A hook that leaves its input unread can end crun by SIGPIPE.
            let args = [&["births", "input"], words, &[number]].concat();
            json!([{ "path": path, "args": args }])
        };
        // All but `startContainer` have a path of the host, also the one that runs in the
        // container's namespaces.
        config["hooks"] = json!({
            "prestart": hook(&births, "41"),
            "createRuntime": hook(&births, "42"),
            "createContainer": hook(&births, "43"),
            "startContainer": hook("/births", "44"),
            "poststart": hook(&births, "45"),
            "poststop": hook(&births, "46"),
        });
    });
    containerd.ctr(&exec("e", "c", "/births nap 10 7")).exit_code(7);
    subscriber.wait(PATIENCE, "the end of what the last hook forked", |event| {
        event.kind() == "process.exit" && event.number("/status") == Some(44)
    });
    let lives = end(&containerd, &subscriber, "c");
    let init = lives.iter().find(|life| life.origin() == "init").expect("reported");
    init.assert_is(&["start", "exit", "done"], "init", "");
    assert_eq!(init.args, ["/births", "nap", "900000", "1"]);
    ended_with(&lives, 7).assert_is(&["start", "exit", "done"], "exec", "e");
    drop(subscriber);
    containerd.assert_nothing_left();
    lives
}

/// Check that the hook which runs in the container (`startContainer`) is reported as a hook, with
/// what it forks, and that hooks in the namespaces of the runtime are not. `createContainer` runs
/// in the container too, but before the container is watched.
fn hooks_in_the_container_are_reported_and_others_are_not(version: Version, runtime: Runtime) {
    let lives = with_hooks(version, runtime, &["child", "0", "nap", "10"]);
    ended_with(&lives, 0).assert_is(&["start", "exit", "done"], "hook", "");
    let child = ended_with(&lives, 44);
    child.assert_is(&["fork", "exit", "done"], "descendant", "");
    assert_eq!(child.parent_pid(), ended_with(&lives, 0).pid(), "{child:?}");
    assert_eq!(lives.len(), 2 + 2, "init, the exec, the hook and its child: {lives:#?}");
}

/// Check that a process which a hook leaves in the container is reported, also if the hook ran
/// before the container was watched, and that what hooks leave beside the container is not.
fn what_hooks_leave_in_the_container_is_reported(version: Version, runtime: Runtime) {
    let lives = with_hooks(version, runtime, &["daemon", "nap", "1500"]);
    let of_create = ended_with(&lives, 43);
    of_create.assert_is(&["start", "exit", "done"], "hook", "");
    assert_eq!(of_create.first.text("/grade"), "snapshot", "{of_create:?}");
    ended_with(&lives, 0).assert_is(&["start", "exit", "done"], "hook", "");
    ended_with(&lives, 44).assert_is(&["fork", "exit", "done"], "descendant", "");
    assert_eq!(lives.len(), 2 + 3, "init, the exec, a hook and two daemons: {lives:#?}");
}
