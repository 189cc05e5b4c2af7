//! Children of the shim that a real container in the host's pid namespace leaves to it.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use crate::harness::{Node, deadline, exec_request, real};

/// Check that an exec keeps its exit status if it ends before the runtime's call, while orphans of
/// its container die in thousands, and that the shim reaps all of them in the end.
#[test]
fn an_exec_keeps_its_status_in_a_flood_of_orphans() {
    let node = Node::new();
    let mut bundle = node.runc_bundle("web", "while :; do (: &); done").without_pid_namespace();
    let go = node.path().join("go");
    let wrapper = node.path().join("slow-runc");
    let script = format!(
        "#!/bin/sh\n{runc} \"$@\" || exit\ncase \" $* \" in *' exec '*)\n\
         while [ ! -e {go} ]; do sleep 0.01; done;; esac\n",
        runc = bundle.options.binary_name,
        go = go.display(),
    );
    fs::write(&wrapper, script).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    bundle.options.binary_name = wrapper.to_string_lossy().into_owned();
    let _daemon = node.daemon();
    let shim = node.shim(&bundle);
    let init = shim.run(&bundle);
    let mut request = exec_request("web", "probe");
    request.spec.mut_or_insert_default().value = real::process("exit 7").into_bytes();
    shim.exec_with(&request).unwrap();
    let start = shim.in_background(|task| task.start("web", "probe"));
    let zombies =
        || shim.process.children().iter().filter(|child| child.state() == Some('Z')).count();
    // The shim keeps 4096 exits, and leaves those beyond as zombies.
    deadline::within(Duration::from_secs(60), "zombies", || zombies() > 300);
    fs::write(go, "").unwrap();
    start.join().unwrap().unwrap();
    assert_eq!(shim.wait("web", "probe").unwrap().exit_status, 7);
    init.signal(nix::sys::signal::Signal::SIGKILL);
    // As a client does: the exit is reported once what init left behind is dead.
    assert_eq!(shim.wait("web", "").unwrap().exit_status, 137);
    deadline::until("no child", || shim.process.children().is_empty());
    shim.delete("web", "probe").unwrap();
    shim.delete("web", "").unwrap();
    shim.shut_down();
}
