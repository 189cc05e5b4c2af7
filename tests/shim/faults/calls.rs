//! Calls of the runtime that run at the same time, or with names that could meet: they share
//! nothing.

use std::{collections::BTreeSet, fs};

use crate::harness::{Node, ScriptedRuntime, Shim, deadline, delete};

/// The names in a bundle, without the journal, which comes and goes by itself.
fn names(path: &std::path::Path) -> BTreeSet<String> {
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name());
    entries.map(|name| name.to_string_lossy().into_owned()).collect()
}

/// Check that a runtime that an upgrade moves from one directory of PATH to another is found by
/// every later call, so that its containers stay manageable.
#[test]
fn a_runtime_that_moves_within_path_is_found() {
    let node = Node::new();
    let [before, after] = ["before", "after"].map(|name| node.path().join(name));
    ScriptedRuntime::install(&before);
    let mut bundle = node.bundle("web");
    bundle.options.binary_name = "runtime".into();
    let _daemon = node.daemon();
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{}:{path}", before.display(), after.display());
    let shim = node.start_verb(&bundle).env("PATH", &path).shim();
    shim.run(&bundle);
    fs::rename(&before, &after).unwrap();
    shim.run_exec("web", "probe");
    shim.pause("web").unwrap();
    shim.resume("web").unwrap();
    // While the runtime is missing, the error says so. A signal needs no runtime.
    let away = node.path().join("away");
    fs::rename(&after, &away).unwrap();
    let failure = shim.pause("web").unwrap_err();
    assert!(failure.message.contains("OCI runtime \"runtime\" not found"), "{failure:?}");
    shim.kill("web", "", 9).unwrap();
    fs::rename(&away, &before).unwrap();
    shim.remove("web");
    shim.shut_down();
    node.wait_until_empty();
}

/// Check that each of many concurrent updates reaches the runtime once, with its own resources.
#[test]
fn concurrent_updates_keep_their_own_resources() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    node.runtime().before("update", "sleep 0.1; cat >\"$home/update.$$\"");
    let resources: BTreeSet<String> =
        (0..50).map(|number| format!(r#"{{"pids":{{"limit":{number}}}}}"#)).collect();
    let updates: Vec<_> = resources
        .iter()
        .cloned()
        .map(|resources| shim.in_background(move |task| task.update("web", &resources)))
        .collect();
    for update in updates {
        update.join().unwrap().unwrap();
    }
    let home = node.runtime().file("");
    let files = names(&home).into_iter().filter(|name| name.starts_with("update."));
    let received: Vec<String> =
        files.map(|name| fs::read_to_string(home.join(name)).unwrap()).collect();
    assert_eq!(received.len(), resources.len());
    assert_eq!(received.into_iter().collect::<BTreeSet<_>>(), resources);
    shim.remove("web");
}

/// Check that each of several execs that fail at once is answered with the runtime's error for
/// this exec, and that no failure leaves a file or makes one grow.
#[test]
fn concurrent_failures_get_their_own_error() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    let before = names(&bundle.path);
    node.runtime().before("exec", "sleep 0.1; fail \"it is ${pid_file##*/}\"");
    for round in 0..5 {
        let starts: Vec<_> = (0..8)
            .map(|number| {
                let id = format!("e{round}-{number}");
                shim.exec("web", &id).unwrap();
                shim.in_background(move |task| (task.start("web", &id).unwrap_err(), id))
            })
            .collect();
        for start in starts {
            let (failure, id) = start.join().unwrap();
            assert_eq!(failure.message, format!("OCI runtime exec failed: it is {id}.pid"));
            shim.delete("web", &id).unwrap();
        }
    }
    assert_eq!(names(&bundle.path), before);
    shim.remove("web");
}

/// Check that the id of an exec may be any name, also one of the shim's own files in the bundle:
/// after the shim was killed, the exit of init is reported with init's pid.
#[test]
fn an_exec_may_have_the_name_of_a_file_of_the_shim() {
    for id in ["init", "exit", "config", "log", "options", "events"] {
        let node = Node::new();
        let bundle = node.bundle("web");
        let shim = node.shim(&bundle);
        let init = shim.run(&bundle);
        let before = names(&bundle.path);
        let exec = shim.run_exec("web", id);
        assert_ne!(exec, init);
        shim.kill("web", id, 9).unwrap();
        shim.wait("web", id).unwrap();
        shim.delete("web", id).unwrap();
        assert_eq!(names(&bundle.path), before, "exec {id}");
        shim.process.kill();
        shim.wait_for_exit(deadline::PATIENCE);
        let response = delete(&node, &bundle).response;
        assert_eq!((response.pid, response.exit_status), (init.pid.unsigned_abs(), 137), "{id}");
    }
}

/// Check that the pid file of an earlier container in the same bundle is not taken for that of a
/// runtime that writes none, and that its exit is not taken for that of a later init.
#[test]
fn an_earlier_container_of_the_bundle_is_forgotten() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    node.runtime().payload("web", "exit 42");
    shim.run(&bundle);
    assert_eq!(shim.wait("web", "").unwrap().exit_status, 42);
    shim.delete("web", "").unwrap();
    node.runtime().payload("web", "exec sleep 600");
    let init = shim.run(&bundle);
    shim.process.kill();
    shim.wait_for_exit(deadline::PATIENCE);
    let response = delete(&node, &bundle).response;
    assert_eq!((response.pid, response.exit_status), (init.pid.unsigned_abs(), 137));
}

/// Check that a group is one name: a group that looks like a path neither meets that of another
/// namespace nor that of another containerd.
#[test]
fn a_group_that_looks_like_a_path_stays_in_its_namespace() {
    let node = Node::new();
    let start = |id: &str, namespace: &str, group: &str| -> Shim {
        let bundle = node.bundle(id).annotated("io.containerd.runc.v2.group", group);
        let verb = node.start_verb(&bundle).namespace(namespace);
        verb.with(|params| params.namespace = namespace.to_owned()).shim()
    };
    let shims = [
        start("one", "a", "/x"),
        start("two", "b", "/x"),
        start("three", "a", "../b/x"),
        start("four", "b", "x"),
        start("five", "a", "../../x"),
        start("six", "a", "."),
        start("seven", "a", ".."),
    ];
    let pids: BTreeSet<_> = shims.iter().map(|shim| shim.process.pid).collect();
    assert_eq!(pids.len(), shims.len());
    // Within a namespace it still is one group.
    assert_eq!(start("eight", "a", "/x").process, shims[0].process);
}
