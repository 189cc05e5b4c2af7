//! The runtime's options, from containerd's message to the runtime's arguments.

use std::fs;

use containerd_shim_protos::{
    api::CreateTaskRequest,
    protobuf::{MessageField, well_known_types::any::Any},
    ttrpc::proto::Code,
};

use crate::harness::{Bundle, Node, any};

/// `runtimeoptions.v1.Options` with its `field`: 2 is `config_path`, 3 is `config_body`.
fn toml_options(field: u8, value: &str) -> Any {
    let mut bytes = vec![(1 << 3) | 2, 4];
    bytes.extend(b"type");
    bytes.push((field << 3) | 2);
    // A varint of two bytes, even for small lengths.
    let length = u8::try_from(value.len() % 128).unwrap();
    bytes.extend([length | 128, u8::try_from(value.len() / 128).unwrap()]);
    bytes.extend(value.as_bytes());
    any("runtimeoptions.v1.Options", bytes)
}

fn create_with(bundle: &Bundle, options: Any) -> CreateTaskRequest {
    CreateTaskRequest { options: MessageField::some(options), ..bundle.create() }
}

/// Check that each of runc's options that affects a create reaches the arguments.
#[test]
fn the_options_of_runc_become_arguments() {
    let node = Node::new();
    let mut bundle = node.bundle("web");
    bundle.options.no_pivot_root = true;
    bundle.options.no_new_keyring = true;
    bundle.options.systemd_cgroup = true;
    node.shim(&bundle).run(&bundle);
    let call = &node.runtime().calls("create")[0];
    let [root, log, pid_file] =
        ["--root", "--log", "--pid-file"].map(|flag| call.value(flag).unwrap());
    let path = bundle.path.to_string_lossy();
    assert_eq!(root, node.runtime_root().join("test").to_string_lossy());
    assert_eq!(pid_file, format!("{path}/init.pid"));
    // Each call has a log of its own.
    assert!(log.starts_with(&*path) && log.ends_with("/log.json"), "{log}");
    assert_ne!(log, node.runtime().calls("start")[0].value("--log").unwrap());
    assert_eq!(
        call.arguments,
        [
            "--root",
            root,
            "--log",
            log,
            "--log-format",
            "json",
            "--systemd-cgroup",
            "create",
            "--bundle",
            &path,
            "--pid-file",
            pid_file,
            "--no-pivot",
            "--no-new-keyring",
            "web",
        ]
    );
}

/// Check that without options only those arguments are used that every runtime accepts.
#[test]
fn a_start_and_a_kill_are_as_go_runc_writes_them() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    shim.kill_all("web", 12).unwrap_or_default();
    shim.remove("web");
    assert_eq!(node.runtime().calls("start")[0].after_globals(), ["start", "web"]);
    assert_eq!(node.runtime().calls("kill")[0].after_globals(), ["kill", "--all", "web", "12"]);
    assert_eq!(node.runtime().calls("delete")[0].after_globals(), ["delete", "web"]);
    assert!(
        !node
            .runtime()
            .all_calls()
            .iter()
            .any(|call| call.has("--systemd-cgroup") || call.has("--no-pivot"))
    );
}

/// Check that the TOML which containerd's CRI sends to any runtime that is not named runc.v2 is
/// understood, in the body and in a file.
#[test]
fn the_toml_of_cri_is_understood() {
    for by_path in [false, true] {
        let node = Node::new();
        let bundle = node.bundle("web");
        let text = format!(
            "BinaryName = {:?}\nRoot = {:?}\nSystemdCgroup = true\nno_pivot_root = true\n\
             [lookout]\nbus = \"none\"\n",
            node.runtime().path(),
            node.runtime_root(),
        );
        let options = if by_path {
            let path = node.path().join("options.toml");
            fs::write(&path, text).unwrap();
            toml_options(2, &path.to_string_lossy())
        } else {
            toml_options(3, &text)
        };
        let shim = node.shim(&bundle);
        shim.create(&create_with(&bundle, options)).unwrap();
        let call = &node.runtime().calls("create")[0];
        assert!(call.has("--systemd-cgroup") && call.has("--no-pivot"), "{call:?}");
        assert_eq!(call.value("--root"), node.runtime_root().join("test").to_str());
    }
}

/// Check that the error for an invalid option names it, and that nothing is done before.
#[test]
fn invalid_options_are_named_in_the_error() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    for (options, words) in [
        (toml_options(3, "SystemdCgruop = true"), "unknown runtime option \"SystemdCgruop\""),
        (toml_options(3, "SystemdCgroup = \"yes\""), "\"SystemdCgroup\" must be a boolean"),
        (toml_options(3, "IoUid = -1"), "\"IoUid\" must be a number"),
        (toml_options(3, "SystemdCgroup = "), "TOML"),
        (toml_options(2, "/nonexistent/options.toml"), "/nonexistent/options.toml"),
        (any("runtimeoptions.v1.Options", [0xff, 0xff]), "runtimeoptions.v1.Options"),
        (any("containerd.runc.v1.Options", [0xff, 0xff]), "containerd.runc.v1.Options"),
        (any("com.example.Options", []), "com.example.Options"),
    ] {
        let failure = shim.create(&create_with(&bundle, options)).unwrap_err();
        assert_eq!(failure.code, Some(Code::INVALID_ARGUMENT), "{failure:?}");
        assert!(failure.message.contains(words), "{failure:?} does not contain {words:?}");
    }
    assert_eq!(node.runtime().all_calls(), []);
    assert!(bundle.read("options.json").is_none());
}

/// Check that the error for a missing runtime names it.
#[test]
fn a_missing_runtime_is_named_in_the_error() {
    let node = Node::new();
    let mut bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    for name in ["no-such-oci-runtime", "/no/such/runtime", "/etc/passwd"] {
        name.clone_into(&mut bundle.options.binary_name);
        let failure = shim.create(&bundle.create()).unwrap_err();
        assert!(failure.message.starts_with("OCI runtime create failed: "), "{failure:?}");
        assert!(failure.message.contains(name), "{failure:?}");
    }
}

/// Check that an empty name stands for `runc`, found in the shim's own PATH.
#[test]
fn an_empty_name_is_runc_from_the_path() {
    let node = Node::new();
    let mut bundle = node.bundle("web");
    bundle.options.binary_name.clear();
    std::os::unix::fs::symlink(node.runtime().path(), node.runtime().file("runc")).unwrap();
    let path = format!("{}:/usr/bin:/bin", node.runtime().file("").display());
    let shim = node.start_verb(&bundle).env("PATH", path.trim_start()).shim();
    shim.run(&bundle);
    assert_eq!(node.runtime().calls("create").len(), 1);
}

/// Check that the options which `delete` needs are stored in the bundle under the stock shim's
/// names.
#[test]
fn the_options_are_kept_for_delete() {
    let node = Node::new();
    let bundle = node.bundle("web");
    node.shim(&bundle).run(&bundle);
    let kept: serde_json::Value =
        serde_json::from_str(&bundle.read("options.json").unwrap()).unwrap();
    assert_eq!(kept["binary_name"], *node.runtime().path().to_string_lossy());
    assert_eq!(kept["root"], *node.runtime_root().to_string_lossy());
    assert_eq!(bundle.read("runtime"), Some(node.runtime().path().to_string_lossy().into_owned()));
}
