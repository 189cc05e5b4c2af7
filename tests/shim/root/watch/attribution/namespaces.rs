//! Containers that share the host's namespaces, enter others, nest their own, or leave them behind.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::MetadataExt as _,
    process::{Child, Command, Stdio},
};

use nix::mount::{MntFlags, MsFlags};
use serde_json::json;

use super::{
    births_path, configured, end, ended_with, exec, host_pids, move_into, running, sleeping,
};
use crate::{
    harness::containerd::{Containerd, Program, Version},
    root::mount_of_our_folder,
};

/// Check that a container without a mount namespace is reported as any other: its init, its execs
/// and what these fork.
#[test]
fn a_container_without_a_mount_namespace_is_reported() {
    let containerd = Containerd::start(Version::V1_7);
    let subscriber = containerd.subscribe();
    let of_init = ["/births", "child", "9", "exec", "/births", "nap", "900000", "9"];
    let proc = containerd.path("rootfs/proc");
    configured(&containerd, "c", &of_init, |config| {
        // What is mounted for it is mounted for the host. The host's /proc shows the pids of the
        // host only.
        let nothing = None::<&str>;
        nix::mount::mount(Some("/proc"), &proc, nothing, MsFlags::MS_BIND, nothing)
            .expect("the namespace is ours");
        let namespaces = config["linux"]["namespaces"].as_array_mut().expect("a list");
        let missing = ["mount", "pid"];
        namespaces.retain(|namespace| missing.iter().all(|kind| namespace["type"] != *kind));
        config["mounts"] = json!([]);
    });
    let init = subscriber.wait_run(&of_init);
    assert_eq!(namespace("mnt", containerd.pid("c")), namespace("mnt", containerd.shim("c").pid));
    subscriber.wait_run(&["/births", "nap", "900000", "9"]);
    // The runtime changes the root for init only.
    let births = births_path();
    let command = format!("{births} child 7 exec {births} child 6 nap 10 5");
    containerd.ctr(&exec("e", "c", &command)).exit_code(7);
    let lives = end(&containerd, &subscriber, "c");
    assert_eq!(lives.len(), 5, "{lives:#?}");
    lives[0].assert_is(&["start", "exit", "done"], "init", "");
    assert_eq!(lives[0].pid(), init.number("/process/pid"), "{lives:#?}");
    lives[1].assert_is(&["fork", "start", "exit", "done"], "descendant", "");
    ended_with(&lives, 7).assert_is(&["start", "exit", "done"], "exec", "e");
    ended_with(&lives, 6).assert_is(&["fork", "start", "exit", "done"], "descendant", "e");
    ended_with(&lives, 5).assert_is(&["fork", "exit", "done"], "descendant", "e");
    // The runtime has mounted the root onto itself, above our /proc.
    for mount in [proc.clone(), containerd.path("rootfs"), proc] {
        nix::mount::umount2(&mount, MntFlags::MNT_DETACH).expect("it is mounted");
    }
    drop(subscriber);
    containerd.assert_nothing_left();
}

/// The inode number of a namespace of a process.
fn namespace(kind: &str, pid: i32) -> u64 {
    fs::metadata(format!("/proc/{pid}/ns/{kind}")).expect("it lives").ino()
}

/// Check that a process which leaves its container for the mount namespace of the shim, and clones
/// children of the shim that execute programs of the host, stays with its container, and so do all
/// of these: an escape that somebody must see.
#[test]
fn who_escapes_into_the_hosts_mounts_is_reported() {
    let containerd = Containerd::start(Version::V1_7);
    let subscriber = containerd.subscribe();
    sleeping(&containerd, "c", &["--privileged", "--with-ns", &host_pids()]);
    let (shim, births) = (containerd.shim("c").pid, births_path());
    let inside = format!("{births} sibling exec {births} child 7 exec /bin/sh -c");
    let mut command = exec("escape", "c", "nsenter");
    let target = shim.to_string();
    command.extend(["-t", &target, "-m", "--"]);
    command.extend(inside.split(' '));
    command.push("/bin/true; exit 6");
    containerd.ctr(&command).success();
    let lives = end(&containerd, &subscriber, "c");
    // nsenter executes the program without a fork.
    let escaped = lives.iter().find(|life| life.exec_id() == "escape").expect("reported");
    escaped.assert_is(&["start", "exec", "exit", "done"], "exec", "escape");
    let kinds = ["fork", "start", "exit", "done"];
    ended_with(&lives, 7).assert_is(&kinds, "descendant", "escape");
    ended_with(&lives, 6).assert_is(&kinds, "descendant", "escape");
    let [program] = running(&lives, "/bin/true")[..] else { panic!("not one: {lives:#?}") };
    program.assert_is(&kinds, "descendant", "escape");
    assert_eq!(lives.len(), 5, "{lives:#?}");
    drop(subscriber);
    containerd.assert_nothing_left();
}

/// A process of the host that has a new pid namespace and waits.
struct Stranger {
    unshare: Child,
    namespace: u64,
}

impl Stranger {
    /// Its first process in the namespace writes a line, and executes `then` after it has read one.
    fn start(then: &str) -> Self {
        let script = format!("readlink /proc/self/ns/pid; read go && exec {then}");
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--", "sh", "-c", &script]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut unshare = command.spawn().expect("unshare of util-linux");
        let mut line = String::new();
        let mut output = BufReader::new(unshare.stdout.take().expect("piped"));
        output.read_line(&mut line).expect("a line of our own script");
        let number = line.trim().strip_prefix("pid:[").and_then(|rest| rest.strip_suffix(']'));
        let namespace = number.and_then(|number| number.parse().ok()).expect("an inode number");
        Self { unshare, namespace }
    }

    /// Lets it execute its program, and waits for its end.
    fn go(&mut self) {
        let mut input = self.unshare.stdin.take().expect("piped");
        input.write_all(b"go\n").expect("it reads");
        self.unshare.wait().expect("our own child");
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

/// Check that nothing is reported for a container that has ended and is not deleted when the kernel
/// gives the number of its pid namespace to a process of the host.
#[test]
fn a_namespace_with_the_number_of_an_ended_one_is_a_strangers() {
    const ATTEMPTS: usize = 200;
    let containerd = Containerd::start(Version::V1_7);
    let subscriber = containerd.subscribe();
    sleeping(&containerd, "c", &[]);
    let ended = namespace("pid", containerd.pid("c"));
    containerd.ctr(&["task", "kill", "--signal", "SIGKILL", "c"]).success();
    containerd.wait_for_status("c", "STOPPED");
    let program = format!("{} child 7 exec {} nap 10 6", births_path(), births_path());
    // The others keep the numbers that are not wanted.
    let mut strangers = Vec::new();
    while strangers.len() < ATTEMPTS {
        strangers.push(Stranger::start(&program));
        let last = strangers.last_mut().expect("just added");
        if last.namespace == ended {
            last.go();
            break;
        }
    }
    assert!(strangers.len() < ATTEMPTS, "the number {ended} was not used again");
    drop(strangers);
    let lives = end(&containerd, &subscriber, "c");
    assert_eq!(lives.len(), 1, "{lives:#?}");
    drop(subscriber);
    containerd.assert_nothing_left();
}

/// Check that processes in a pid namespace which a container has nested in its own are reported,
/// although they are in a cgroup outside of the container's: those that the container forks, and
/// those that enter the namespace from outside.
#[test]
fn a_nested_namespace_outside_of_the_cgroup_is_reported() {
    let containerd = Containerd::start(Version::V1_7);
    let subscriber = containerd.subscribe();
    let folder = mount_of_our_folder(&containerd);
    sleeping(&containerd, "c", &["--privileged", "--mount", &folder]);
    let nested = "/births await /host/stop child 7 nap 0 6";
    let command = format!("/births await /host/go exec /bin/unshare -p -f {nested}");
    let client = containerd.program(&exec("nest", "c", &command)).spawn();
    let waits = subscriber.wait_run(&command.split(' ').collect::<Vec<_>>());
    move_into(&containerd, None, waits.number("/process/pid").expect("a pid"));
    fs::write(containerd.path("go"), "").expect("our directory is writable");
    let inner = subscriber.wait_run(&nested.split(' ').collect::<Vec<_>>());
    assert_eq!(inner.number("/process/vpid"), Some(1), "{inner:?}");
    let pid = inner.number("/process/pid").expect("a pid").to_string();
    let mut intruder = Command::new("nsenter");
    intruder.args(["--target", &pid, "--pid", &births_path(), "child", "5", "nap", "0", "4"]);
    Program::new(intruder).run().exit_code(5);
    fs::write(containerd.path("stop"), "").expect("our directory is writable");
    client.wait().exit_code(7);
    let lives = end(&containerd, &subscriber, "c");
    let kinds = ["fork", "start", "exit", "done"];
    let [first] =
        running(&lives, nested).into_iter().filter(|life| life.kinds == kinds).collect::<Vec<_>>()
            [..]
    else {
        panic!("not one {nested} in {lives:#?}")
    };
    first.assert_is(&kinds, "descendant", "nest");
    assert_eq!(first.status, Some(7), "{first:?}");
    ended_with(&lives, 6).assert_is(&["fork", "exit", "done"], "descendant", "nest");
    ended_with(&lives, 5).assert_is(&kinds, "injected", "");
    ended_with(&lives, 4).assert_is(&["fork", "exit", "done"], "descendant", "");
    drop(subscriber);
    containerd.assert_nothing_left();
}
