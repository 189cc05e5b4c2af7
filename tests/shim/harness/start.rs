//! Runs the `start` verb as containerd runs it.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use containerd_shim_protos::{
    bootstrap_api::{BootstrapParams, BootstrapResult, Extension},
    protobuf::{Message as _, MessageField, well_known_types::any::Any},
};

use super::{Bundle, Node, Shim, deadline, node::NAMESPACE, tools};

/// The longest time for `start`. containerd has no timeout for it, but its users would not wait
/// longer.
const START: Duration = Duration::from_secs(20);

/// One `start` to be run. The default is the call of containerd 2.3 and later, with the node's
/// socket directory, so that root is not needed.
#[derive(Debug)]
pub(crate) struct StartVerb {
    binary: PathBuf,
    bundle: Bundle,
    namespace: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    stdin: Vec<u8>,
    wrapper: Option<String>,
}

/// The result of a `start`.
#[derive(Debug)]
pub(crate) struct Started {
    /// The exit code; 128 plus the number for a signal.
    pub(crate) code: i32,
    /// stdout and stderr through one pipe, read until no process holds it open.
    pub(crate) combined: Vec<u8>,
}

/// The address that a `start` printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The version of the Task service.
    pub(crate) version: i64,
    pub(crate) address: String,
    pub(crate) protocol: String,
}

impl StartVerb {
    pub(crate) fn new(node: &Node, bundle: &Bundle) -> Self {
        let params = BootstrapParams {
            instance_id: bundle.id.clone(),
            namespace: NAMESPACE.to_owned(),
            containerd_version: "2.3.0".to_owned(),
            containerd_grpc_address: node.address(),
            containerd_ttrpc_address: node.ttrpc_address(),
            socket_dir: Some(node.socket_dir().to_string_lossy().into_owned()),
            ..Default::default()
        };
        let marker = node.marker();
        let (name, value) = marker.split_once('=').expect("it is an assignment");
        Self {
            binary: tools::SHIM.into(),
            bundle: bundle.clone(),
            namespace: NAMESPACE.to_owned(),
            arguments: vec![
                "-address".into(),
                node.address(),
                "-publish-binary".into(),
                "/nonexistent/containerd".into(),
            ],
            environment: vec![
                (name.to_owned(), value.to_owned()),
                ("TTRPC_ADDRESS".into(), node.ttrpc_address()),
            ],
            stdin: params.write_to_bytes().expect("proto3 has no required fields"),
            wrapper: None,
        }
    }

    /// As containerd 1.6: options or nothing on stdin, and no version.
    pub(crate) fn plain(self) -> Self {
        self.stdin([])
    }

    /// As containerd 1.7 to 2.2.
    pub(crate) fn versioned(self) -> Self {
        self.plain().env("MAX_SHIM_VERSION", "2")
    }

    pub(crate) fn stdin(mut self, stdin: impl Into<Vec<u8>>) -> Self {
        self.stdin = stdin.into();
        self
    }

    /// Changes the parameters on stdin.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut BootstrapParams)) -> Self {
        let mut params =
            BootstrapParams::parse_from_bytes(&self.stdin).expect("it is what `new` wrote");
        change(&mut params);
        self.stdin = params.write_to_bytes().expect("proto3 has no required fields");
        self
    }

    /// Adds the runtime's options to the parameters on stdin.
    pub(crate) fn with_options(self, options: Any) -> Self {
        self.with(|params| {
            params
                .extensions
                .push(Extension { value: MessageField::some(options), ..Default::default() });
        })
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn flag(mut self, flag: &str) -> Self {
        self.arguments.push(flag.to_owned());
        self
    }

    /// Names this binary in `-publish-binary`.
    pub(crate) fn publish_binary(mut self, binary: &std::path::Path) -> Self {
        self.arguments.extend(["-publish-binary".into(), binary.to_string_lossy().into_owned()]);
        self
    }

    pub(crate) fn namespace(mut self, namespace: &str) -> Self {
        namespace.clone_into(&mut self.namespace);
        self
    }

    /// Runs a shell script first, which then replaces itself by the shim (`exec`).
    pub(crate) fn after(mut self, script: &str) -> Self {
        let wrapped = format!("{script}; exec \"$0\" \"$@\"");
        self.wrapper = Some(wrapped);
        self
    }

    /// Uses a stock shim instead of ours.
    pub(crate) fn binary(mut self, binary: PathBuf) -> Self {
        self.binary = binary;
        self
    }

    /// Runs it to its end and to the end of its output.
    #[track_caller]
    pub(crate) fn run(&self) -> Started {
        let mut command = match &self.wrapper {
            None => Command::new(&self.binary),
            Some(script) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", script]).arg(&self.binary);
                shell
            }
        };
        command
            .args(["-namespace", &self.namespace, "-id", &self.bundle.id])
            .args(&self.arguments)
            .arg("start");
        command.current_dir(&self.bundle.path).envs(self.environment.iter().cloned());
        command.stdin(Stdio::piped());
        let (mut read, write) = io::pipe().expect("there are descriptors left");
        command.stdout(write.try_clone().expect("there are descriptors left")).stderr(write);
        let mut child = command.spawn().expect("the binary is there");
        drop(command);
        let stdin = self.stdin.clone();
        deadline::finish_within(START, "start", move || {
            // A verb that fails early may not read it.
            let _ = child.stdin.take().expect("it is piped").write_all(&stdin);
            let status = child.wait().expect("it is our child");
            let mut combined = Vec::new();
            read.read_to_end(&mut combined).expect("a pipe can be read");
            let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(255);
            Started { code, combined }
        })
    }

    /// Runs it and connects to the shim at the address that it prints.
    #[track_caller]
    pub(crate) fn shim(&self) -> Shim {
        let answer = self.run().answer();
        Shim::connect(&answer, &self.bundle)
    }
}

impl Started {
    /// Its output as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.combined).into_owned()
    }

    /// Its answer, in any of the three formats.
    #[track_caller]
    pub(crate) fn answer(&self) -> Answer {
        assert_eq!(self.code, 0, "start failed: {}", self.text());
        let text = self.text();
        if text.starts_with("unix://") {
            return Answer { version: 2, address: text, protocol: "ttrpc".to_owned() };
        }
        if let Ok(json) = serde_json::from_slice::<serde_json::Value>(&self.combined) {
            let word = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
            let version = json["version"].as_i64().expect("a version");
            return Answer { version, address: word("address"), protocol: word("protocol") };
        }
        let result = BootstrapResult::parse_from_bytes(&self.combined)
            .expect("an answer of one of three kinds");
        Answer {
            version: result.version.into(),
            address: result.address,
            protocol: result.protocol,
        }
    }

    /// The single line that a refused start prints.
    #[track_caller]
    pub(crate) fn refusal(&self) -> String {
        assert_eq!(self.code, 1, "{}", self.text());
        let text = self.text();
        assert_eq!(text.matches('\n').count(), 1, "one line: {text:?}");
        text.trim_end().to_owned()
    }
}
