//! Contract tests that need root: sockets in the machine's own directory, mounts, owners of pipes.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use containerd_shim_protos::api::{CreateTaskRequest, Mount};

use crate::harness::{
    Answer, Bundle, Fifo, Node, Process, StartVerb, deadline, delete, tools::tool,
};

/// Runs a start with the socket in the machine's directory, and ends the shim.
#[track_caller]
fn answer_of(verb: &StartVerb, bundle: &Bundle) -> (Answer, String) {
    let started = verb.run();
    let answer = started.answer();
    let shim = crate::harness::Shim::connect(&answer, bundle);
    assert_eq!(bundle.read("address"), Some(answer.address.clone()));
    shim.shut_down();
    assert!(!Path::new(answer.address.trim_start_matches("unix://")).exists());
    (answer, started.text())
}

/// Check that the server's working directory is its bundle, where containerd finds the `log` of
/// stock shims.
#[test]
fn the_server_runs_in_its_bundle() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    assert_eq!(shim.process.cwd(), Some(bundle.path));
}

/// Check that containerd 1.6, which sends no version, gets the bare address.
#[test]
fn an_old_containerd_gets_the_bare_address() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let (answer, text) = answer_of(&node.start_verb(&bundle).plain(), &bundle);
    assert!(answer.address.starts_with("unix:///run/containerd/s/"), "{text}");
    assert_eq!(text, answer.address);
}

/// Check that runtime options on stdin, as 1.6 to 2.2 send them, are not taken for parameters.
#[test]
fn options_on_stdin_are_no_parameters() {
    use containerd_shim_protos::protobuf::Message as _;
    let node = Node::new();
    let bundle = node.bundle("web");
    let options = bundle.options().write_to_bytes().unwrap();
    let (answer, text) = answer_of(&node.start_verb(&bundle).plain().stdin(options), &bundle);
    assert_eq!(text, answer.address);
}

/// Check that containerd 1.7 gets version 2 in JSON, because it refuses version 3.
#[test]
fn containerd_1_7_gets_version_2() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let daemon = tool("containerd-1.7/bin/containerd");
    let verb = node.start_verb(&bundle).versioned().publish_binary(&daemon);
    let (answer, _) = answer_of(&verb, &bundle);
    assert_eq!((answer.version, answer.protocol.as_str()), (2, "ttrpc"));
}

/// Check that containerd 2.x, recognised by its Go module path, gets version 3 in JSON.
#[test]
fn containerd_2_1_gets_version_3() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let daemon = tool("containerd-2.1/bin/containerd");
    let verb = node.start_verb(&bundle).versioned().publish_binary(&daemon);
    let (answer, _) = answer_of(&verb, &bundle);
    assert_eq!((answer.version, answer.protocol.as_str()), (3, "ttrpc"));
}

/// Check that the mounts of a create exist for the container and are removed by its delete.
#[test]
fn mounts_live_as_long_as_their_container() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.create(&with_mount(&node, &bundle)).unwrap();
    assert!(bundle.path.join("rootfs/file").exists());
    shim.start("web", "").unwrap();
    shim.remove("web");
    assert!(!is_mounted(&bundle.path));
}

/// Check that nothing stays mounted after a failed create (containerd#4434).
#[test]
fn mounts_are_gone_after_a_failed_create() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    node.runtime().before("create", "fail 'no'");
    shim.create(&with_mount(&node, &bundle)).unwrap_err();
    assert!(!is_mounted(&bundle.path));
    let mut impossible = with_mount(&node, &bundle);
    impossible.rootfs.push(Mount {
        type_: "no-such-fs".into(),
        source: "none".into(),
        ..Default::default()
    });
    let failure = shim.create(&impossible).unwrap_err();
    assert!(failure.message.contains("no-such-fs"), "{failure:?}");
    assert!(!is_mounted(&bundle.path));
}

/// Check that `delete` unmounts every layer that a dead shim left mounted.
#[test]
fn delete_unmounts_what_a_dead_shim_left() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let mut request = with_mount(&node, &bundle);
    request.rootfs.push(Mount {
        type_: "tmpfs".into(),
        source: "tmpfs".into(),
        ..Default::default()
    });
    shim.create(&request).unwrap();
    shim.process.kill();
    shim.wait_for_exit(deadline::PATIENCE);
    assert!(is_mounted(&bundle.path));
    delete(&node, &bundle);
    assert!(!is_mounted(&bundle.path));
    node.wait_until_empty();
}

/// Check that the pipes have the owner in the options, so that a user namespace can use them.
#[test]
fn pipes_have_the_owner_that_the_options_name() {
    let node = Node::new();
    let mut bundle = node.bundle("web");
    (bundle.options.io_uid, bundle.options.io_gid) = (4242, 4343);
    let shim = node.shim(&bundle);
    let [stdin, stdout, stderr] =
        ["in", "out", "err"].map(|name| Fifo::make(node.path().join(name)));
    let request = CreateTaskRequest {
        stdin: stdin.name(),
        stdout: stdout.name(),
        stderr: stderr.name(),
        ..bundle.create()
    };
    shim.create(&request).unwrap();
    let init = shim.start("web", "").unwrap().pid;
    for number in 0..3 {
        let file = format!("/proc/{init}/fd/{number}");
        let owner = || fs::metadata(&file).map(|meta| (meta.uid(), meta.gid())).ok();
        deadline::until(&format!("the owner of descriptor {number}"), || {
            owner() == Some((4242, 4343))
        });
    }
    assert_eq!(fs::metadata(stdout.path()).unwrap().uid(), 0, "the client's fifo is left as it is");
}

fn with_mount(node: &Node, bundle: &Bundle) -> CreateTaskRequest {
    let source = node.path().join("source");
    if !source.exists() {
        fs::create_dir(&source).unwrap();
        fs::write(source.join("file"), "").unwrap();
    }
    let bind = Mount {
        type_: "bind".into(),
        source: source.to_string_lossy().into_owned(),
        options: vec!["rbind".into(), "rw".into()],
        ..Default::default()
    };
    CreateTaskRequest { rootfs: vec![bind], ..bundle.create() }
}

fn is_mounted(bundle: &Path) -> bool {
    let rootfs = bundle.join("rootfs");
    fs::read_to_string("/proc/self/mounts").unwrap().lines().any(|line| {
        line.split(' ').nth(1).is_some_and(|target| Path::new(target).starts_with(&rootfs))
    })
}

/// Check that the shim's OOM score is one above containerd's, so that the kernel kills it first,
/// and that a container keeps containerd's score (containerd#3380).
#[test]
fn the_shim_is_killed_for_memory_before_containerd() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let init = shim.run(&bundle);
    let ours = Process::new(std::process::id()).oom_score_adj().unwrap();
    assert_eq!(shim.process.oom_score_adj(), Some((ours + 1).min(1000)));
    assert_eq!(init.oom_score_adj(), Some(ours));
}
