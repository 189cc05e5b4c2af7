//! Creates that die half-way: nothing is left of them.

use crate::harness::containerd::{Containerd, Version};

on_every_containerd! {
    a_create_that_dies_leaves_no_cgroup,
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
                 while [ ! -d {} ]; do kill -0 $pid || exit 1; done; kill -9 {victims}; exit 137;; esac",
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
