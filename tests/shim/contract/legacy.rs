//! The options that clients of containerd 1.6 and 1.7 send to a runtime with a name that they do
//! not know: the messages of `containerd.linux.runc`.

use containerd_shim_protos::{
    api::CreateTaskRequest,
    protobuf::{MessageField, well_known_types::any::Any},
};

use crate::harness::{Node, any};

/// A field that is a boolean or a number below 128.
fn number(field: u8, value: u8) -> Vec<u8> {
    vec![field << 3, value]
}

fn string(field: u8, value: &str) -> Vec<u8> {
    let length = u8::try_from(value.len()).unwrap();
    assert!(length < 128, "a length of one byte");
    [&[field << 3 | 2, length], value.as_bytes()].concat()
}

fn message(name: &str, fields: &[Vec<u8>]) -> Any {
    any(&format!("containerd.linux.runc.{name}"), fields.concat())
}

/// Check that the create options are accepted with their effect. They name no runtime, so it is
/// `runc` from the path.
#[test]
fn legacy_create_options_have_their_effect() {
    let node = Node::new();
    let bundle = node.bundle("web");
    std::os::unix::fs::symlink(node.runtime().path(), node.runtime().file("runc")).unwrap();
    let path = format!("{}:/usr/bin:/bin", node.runtime().file("").display());
    let options = message(
        "CreateOptions",
        &[
            number(1, 1),
            number(2, 1),
            string(6, "network"),
            number(8, 1),
            number(10, 7),
            number(11, 9),
            string(12, "/criu/work"),
            string(13, "/criu/image"),
        ],
    );
    let shim = node.start_verb(&bundle).env("PATH", &path).with_options(options.clone()).shim();
    shim.create(&CreateTaskRequest { options: MessageField::some(options), ..bundle.create() })
        .unwrap();
    let call = &node.runtime().calls("create")[0];
    assert!(call.has("--no-pivot") && call.has("--no-new-keyring"), "{call:?}");
    let kept: serde_json::Value =
        serde_json::from_str(&bundle.read("options.json").unwrap()).unwrap();
    assert_eq!(
        kept,
        serde_json::json!({
            "no_pivot_root": true, "no_new_keyring": true, "io_uid": 7, "io_gid": 9,
            "criu_work_path": "/criu/work", "criu_image_path": "/criu/image",
        })
    );
    shim.delete("web", "").unwrap();
}

/// Check that the runtime, its root and the cgroup driver can be named in the old message, too.
#[test]
fn legacy_runtime_options_have_their_effect() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let options = message(
        "RuncOptions",
        &[
            string(1, &node.runtime().path().to_string_lossy()),
            string(2, &node.runtime_root().to_string_lossy()),
            string(3, "/usr/sbin/criu"),
            number(4, 1),
        ],
    );
    let shim = node.start_verb(&bundle).with_options(options.clone()).shim();
    shim.create(&CreateTaskRequest { options: MessageField::some(options), ..bundle.create() })
        .unwrap();
    let call = &node.runtime().calls("create")[0];
    assert!(call.has("--systemd-cgroup"), "{call:?}");
    assert_eq!(call.value("--root"), Some(&*node.runtime_root().join("test").to_string_lossy()));
    shim.delete("web", "").unwrap();
}

/// Check that a checkpoint goes to the directory that the client named in its options, although
/// containerd, which does not know their type, passes a directory of its own.
#[test]
fn a_legacy_checkpoint_goes_to_the_clients_directory() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let init = shim.run(&bundle);
    let [image, work, other] = ["image", "work", "other"].map(|name| node.path().join(name));
    let options = message(
        "CheckpointOptions",
        &[
            number(1, 1),
            number(5, 1),
            string(8, &work.to_string_lossy()),
            string(9, &image.to_string_lossy()),
        ],
    );
    shim.checkpoint("web", &other, Some(options)).unwrap();
    let call = &node.runtime().calls("checkpoint")[0];
    assert!(call.has("--file-locks") && !call.has("--leave-running"), "{call:?}");
    assert_eq!(call.value("--work-path"), Some(&*work.to_string_lossy()));
    assert!(image.join("image").exists());
    assert!(!other.exists());
    shim.wait("web", "").unwrap();
    assert!(!init.lives());
    shim.delete("web", "").unwrap();
}

/// Check that a checkpoint of which the runtime has written nothing is an error: the client may
/// remove the container because it believes in the image.
#[test]
fn a_checkpoint_that_writes_nothing_is_an_error() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    let image = node.path().join("image");
    for script in ["exit 0", "mkdir -p \"$image\"; exit 0"] {
        node.runtime().before("checkpoint", script);
        let failure = shim.checkpoint("web", &image, None).unwrap_err();
        assert_eq!(
            failure.message,
            format!("the OCI runtime wrote no checkpoint to {}", image.display())
        );
    }
    node.runtime().reset("checkpoint");
    shim.checkpoint("web", &image, None).unwrap();
    shim.remove("web");
}
