//! Checkpoint and restore: the runtime's arguments and the reported states. What CRIU does is
//! tested with a real runtime only.

use std::fs;

use containerd_shim_protos::{
    api::Status, protobuf::Message as _, protobuf::well_known_types::any::Any, shim::oci,
};

use crate::harness::{Node, any};

fn options(options: &oci::CheckpointOptions) -> Option<Any> {
    Some(any("containerd.runc.v1.CheckpointOptions", options.write_to_bytes().unwrap()))
}

/// Check that a checkpoint's options reach the arguments in go-runc's form, and that the container
/// continues.
#[test]
fn the_options_of_a_checkpoint_become_arguments() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let init = shim.run(&bundle);
    let (image, work) = (node.path().join("image"), node.path().join("work"));
    let all = oci::CheckpointOptions {
        open_tcp: true,
        external_unix_sockets: true,
        terminal: true,
        file_locks: true,
        empty_namespaces: vec!["network".into()],
        cgroups_mode: "soft".into(),
        work_path: work.to_string_lossy().into_owned(),
        ..Default::default()
    };
    shim.checkpoint("web", &image, options(&all)).unwrap();
    assert_eq!(
        node.runtime().calls("checkpoint")[0].after_globals(),
        [
            "checkpoint",
            "--image-path",
            &image.to_string_lossy(),
            "--work-path",
            &work.to_string_lossy(),
            "--tcp-established",
            "--ext-unix-sk",
            "--shell-job",
            "--file-locks",
            "--manage-cgroups-mode",
            "soft",
            "--empty-ns",
            "network",
            "--leave-running",
            "web",
        ]
    );
    assert!(init.lives());
    assert!(image.join("image").exists());
}

/// Check that the end of a container by its checkpoint is reported like any other end.
#[test]
fn a_checkpoint_may_end_its_container() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    let exit = oci::CheckpointOptions { exit: true, ..Default::default() };
    shim.checkpoint("web", &node.path().join("image"), options(&exit)).unwrap();
    let call = &node.runtime().calls("checkpoint")[0];
    assert!(!call.has("--leave-running"));
    assert_eq!(call.value("--work-path"), bundle.path.join("work/criu-work").to_str());
    assert_eq!(shim.wait("web", "").unwrap().exit_status, 137);
    shim.delete("web", "").unwrap();
}

/// Check that the error of a failed checkpoint names the path of CRIU's log, and that the log
/// exists there.
#[test]
fn a_failed_checkpoint_keeps_the_log_of_criu() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    let work = bundle.path.join("work/criu-work");
    let script = format!(
        "mkdir -p {0}; echo 'why not' >{0}/dump.log; fail 'criu failed: type NOTIFY errno 0'",
        work.display()
    );
    node.runtime().before("checkpoint", &script);
    let failure = shim.checkpoint("web", &node.path().join("image"), None).unwrap_err();
    let log = bundle.path.join("criu-dump.log");
    assert_eq!(
        failure.message,
        format!("criu failed: type NOTIFY errno 0 path= {}", log.display())
    );
    assert_eq!(fs::read_to_string(log).unwrap(), "why not\n");
    assert!(!work.exists());
    shim.remove("web");
}

/// Check that a checkpoint without a path for its image is refused.
#[test]
fn a_checkpoint_without_a_path_is_refused() {
    let node = Node::new();
    let mut bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    assert!(
        shim.checkpoint("web", "".as_ref(), None).unwrap_err().message.contains("checkpoint path")
    );
    shim.remove("web");
    let image = node.path().join("image");
    bundle.options.criu_image_path = image.to_string_lossy().into_owned();
    shim.run(&bundle);
    shim.checkpoint("web", "".as_ref(), None).unwrap();
    assert!(image.join("image").exists());
}

/// Check that a create from a checkpoint waits for its start, which restores it.
#[test]
fn a_restore_happens_at_start() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let daemon = node.daemon();
    let shim = node.shim(&bundle);
    let image = node.path().join("image");
    fs::create_dir(&image).unwrap();
    let mut request = bundle.create();
    request.checkpoint = image.to_string_lossy().into_owned();
    request.parent_checkpoint = "/parent".into();
    assert_eq!(shim.create(&request).unwrap().pid, 0);
    let state = shim.state("web", "").unwrap();
    assert_eq!((state.pid, state.status.enum_value()), (0, Ok(Status::CREATED)));
    assert_eq!(node.runtime().all_calls(), []);
    assert_eq!(shim.exec("web", "probe").unwrap_err().message, "cannot exec in a created state");
    let pid = shim.start("web", "").unwrap().pid;
    assert!(pid > 0);
    assert_eq!(shim.state("web", "").unwrap().pid, pid);
    let path = bundle.path.to_string_lossy().into_owned();
    assert_eq!(
        node.runtime().calls("restore")[0].after_globals(),
        [
            "restore",
            "--image-path",
            &request.checkpoint,
            "--work-path",
            &format!("{path}/work"),
            "--parent-path",
            "/parent",
            "--detach",
            "--pid-file",
            &format!("{path}/init.pid"),
            "--no-subreaper",
            "--bundle",
            &path,
            "web",
        ]
    );
    shim.remove("web");
    daemon.wait_for("delete web 137");
    assert_eq!(
        daemon.event_lines(),
        ["create web", "start web", "exit web web 137", "delete web 137"]
    );
}

/// Check that a restore that fails leaves a container that can be deleted.
#[test]
fn a_failed_restore_can_be_deleted() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let mut request = bundle.create();
    request.checkpoint = "/no/image".into();
    shim.create(&request).unwrap();
    assert_eq!(shim.start("web", "").unwrap_err().message, "OCI runtime restore failed: no image");
    shim.delete("web", "").unwrap();
    shim.run(&bundle);
    shim.remove("web");
}
