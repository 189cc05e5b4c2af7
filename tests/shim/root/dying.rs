//! Creates that die half-way, and deletes of which the client dies: nothing is left of either.

use std::{path::Path, time::Duration};

use nix::sys::signal::Signal;

use crate::harness::{
    containerd::{Containerd, RUNTIME, Version},
    deadline,
};

on_every_containerd! {
    a_create_that_dies_leaves_no_cgroup,
    a_delete_without_its_client_can_be_repeated,
    options_of_old_clients_are_accepted,
}

/// Puts a script in front of the runtime; `$real` is the runtime itself.
fn wrap_runtime(containerd: &Containerd, script: &str) {
    let real = containerd.runtime_binary();
    containerd.script("bin/runc", &format!("real={real}\n{script}\nexec \"$real\" \"$@\""));
}

/// Check that if the runtime, or the runtime and its shim, are killed just after the runtime has
/// made the container's cgroup, no cgroup is left.
fn a_create_that_dies_leaves_no_cgroup(version: Version) {
    let containerd = Containerd::start(version);
    for victims in ["$pid", "$pid $PPID"] {
        for controller in ["memory", "pids", "devices", "cpu"] {
            let cgroup = containerd.cgroup(controller, "c");
            let script = format!(
                "case \"$*\" in *' create '*) \"$real\" \"$@\" & pid=$!
                 while [ ! -d {} ]; do kill -0 $pid || exit 1; done
                 kill -9 {victims}; exit 137;; esac",
                cgroup.display()
            );
            wrap_runtime(&containerd, &script);
            let failed = containerd.run("c", &[], &["true"]).run();
            assert_ne!(failed.code, 0);
            containerd.ctr(&["task", "rm", "--force", "c"]);
            containerd.ctr(&["container", "rm", "c"]).success();
            containerd.assert_nothing_left_but_fifos();
        }
    }
}

/// Check that a task can be removed after the client of its delete was killed while the runtime was
/// busy, and that its shim ends then.
fn a_delete_without_its_client_can_be_repeated(version: Version) {
    let containerd = Containerd::start(version);
    let events = containerd.events();
    let (began, ended) = (containerd.path("began"), containerd.path("ended"));
    wrap_runtime(
        &containerd,
        &format!(
            "case \"$*\" in *' delete c')
             touch {}; sleep 3; \"$real\" \"$@\"; touch {}; exit;; esac",
            began.display(),
            ended.display()
        ),
    );
    containerd.detached("c", &[], &["sh", "-c", "exit 7"]);
    events.wait_topic("/tasks/exit", "c");
    let client = containerd.program(&["task", "rm", "c"]).spawn();
    deadline::until("the delete to begin", || began.exists());
    client.signal(Signal::SIGKILL);
    client.wait();
    deadline::until("the delete to end", || ended.exists());
    events.wait_topic("/tasks/delete", "c");
    let again = containerd.program(&["task", "rm", "c"]).within(Duration::from_secs(20)).run();
    assert!(again.stderr_text().contains("exit code 7"), "{}", again.stderr_text());
    containerd.ctr(&["container", "rm", "c"]).success();
    containerd.assert_nothing_left();
}

/// Check that `ctr run --no-pivot` works under this shim's own name, for which clients of 1.6 and
/// 1.7 send the options of containerd's oldest shim.
fn options_of_old_clients_are_accepted(version: Version) {
    let containerd = Containerd::start(version);
    let calls = containerd.path("calls");
    wrap_runtime(&containerd, &format!("echo \"$*\" >>{}", calls.display()));
    assert_eq!(RUNTIME, "io.containerd.lookout.v2");
    containerd.run("c", &["--rm", "--no-pivot"], &["true"]).run().success();
    let calls = read(&calls);
    let create = calls.lines().find(|call| call.contains(" create ")).expect("a create");
    assert!(create.contains(" --no-pivot "), "{create}");
    containerd.assert_nothing_left();
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("the runtime has written it")
}
