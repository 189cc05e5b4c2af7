//! The life of a shim with containerd's sequence of calls: the `start` verb, a connection,
//! Shutdown, the `delete` verb.

use std::{
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use containerd_shim_protos::protobuf::{Message as _, well_known_types::any::Any};
use nix::{sys::wait::waitpid, unistd::Pid};

use crate::{
    Result,
    bundle::Bundle,
    client::{self, Task},
    fifo::Fifo,
    workspace::{Runtime, Side, Version, Workspace},
};

/// Calls the shims of one side.
pub(crate) struct Caller<'a> {
    workspace: &'a Workspace,
    program: PathBuf,
    version: Version,
    options: Any,
}

impl<'a> Caller<'a> {
    /// Calls the shim of `side` as that version of containerd does, with containers run by
    /// `runtime`.
    pub(crate) fn new(
        workspace: &'a Workspace,
        side: Side,
        version: Version,
        runtime: Runtime,
    ) -> Result<Self> {
        let options = client::options(&workspace.runtime(runtime))?;
        Ok(Self { workspace, program: workspace.shim(side, version), version, options })
    }

    pub(crate) fn bundle(&self, args: &[&str], annotation: Option<(&str, &str)>) -> Result<Bundle> {
        Bundle::new(self.workspace, args, annotation)
    }

    /// Runs the `start` verb.
    pub(crate) fn start(&self, bundle: &Bundle) -> Result<Answer> {
        let mut child = self.verb(bundle, "start").stdin(Stdio::piped()).spawn()?;
        // Dropping it closes the pipe: the shim reads to its end.
        child.stdin.take().ok_or("no stdin")?.write_all(&self.options.write_to_bytes()?)?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            return Err(format!(
                "start: {}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            )
            .into());
        }
        Answer::parse(&String::from_utf8(output.stdout)?)
    }

    /// Runs `start` and the first RPC.
    pub(crate) fn serve(&self, bundle: Bundle) -> Result<Shim> {
        let task = self.start(&bundle)?.connect()?;
        let pid = Pid::from_raw(task.shim_pid(&bundle.id)?);
        Ok(Shim { bundle, task, pid, _fifos: None })
    }

    /// Starts a shim with an idle running container and its output at fifos.
    pub(crate) fn idle(&self, annotation: Option<(&str, &str)>) -> Result<Shim> {
        let bundle = self.bundle(&["/bin/sleep", "1000000"], annotation)?;
        let fifos = Fifo::outputs(&bundle)?;
        let shim = self.serve(bundle)?;
        shim.task.create(&shim.bundle, &self.options, Some(&fifos))?;
        shim.task.start(&shim.bundle.id, "")?;
        Ok(Shim { _fifos: Some(fifos), ..shim })
    }

    pub(crate) fn create(&self, shim: &Shim, fifos: Option<&[Fifo; 2]>) -> Result<()> {
        shim.task.create(&shim.bundle, &self.options, fifos)
    }

    /// Runs the `delete` verb.
    pub(crate) fn delete(&self, bundle: &Bundle) -> Result<()> {
        let output = self.verb(bundle, "delete").stdin(Stdio::null()).output()?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("delete: {}: {}", output.status, String::from_utf8_lossy(&output.stderr))
            .into())
    }

    /// The command of a verb as containerd calls it (`pkg/shim/util.go`, `Command`).
    fn verb(&self, bundle: &Bundle, verb: &str) -> Command {
        let containerd = self.workspace.containerd_bin(self.version).join("containerd");
        let mut command = Command::new(&self.program);
        command.arg("-namespace").arg(&self.workspace.namespace);
        command.arg("-address").arg(self.workspace.grpc_socket());
        command.arg("-publish-binary").arg(containerd);
        command.args(["-id", &bundle.id]);
        if verb == "delete" {
            command.arg("-bundle").arg(&bundle.path);
        }
        command.arg(verb).current_dir(&bundle.path).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
            // Containers choose by an annotation whether they are observed.
            .env("LOOKOUT_ALLOW", "observe")
            .env("TTRPC_ADDRESS", self.workspace.events_socket())
            .env("GRPC_ADDRESS", self.workspace.grpc_socket());
        command.env("NAMESPACE", &self.workspace.namespace).env("GOMAXPROCS", "2");
        if self.version != Version::V1_6 {
            command.env("MAX_SHIM_VERSION", "2");
        }
        command
    }
}

/// The answer of `start`.
pub(crate) struct Answer {
    address: String,
    version: u64,
}

impl Answer {
    /// Parses the plain address or JSON.
    fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        if !text.starts_with('{') {
            return Ok(Self { address: text.to_owned(), version: 2 });
        }
        let json: serde_json::Value = serde_json::from_str(text)?;
        let address =
            json["address"].as_str().ok_or("no address in the answer of start")?.to_owned();
        Ok(Self { address, version: json["version"].as_u64().unwrap_or(2) })
    }

    pub(crate) fn connect(&self) -> Result<Task> {
        Task::connect(&self.address, self.version)
    }
}

/// A serving shim and the container that it was started for.
pub(crate) struct Shim {
    pub(crate) bundle: Bundle,
    pub(crate) task: Task,
    pub(crate) pid: Pid,
    /// The client's ends of an idle container's output fifos.
    _fifos: Option<[Fifo; 2]>,
}

impl Shim {
    /// Requests Shutdown and waits until the process is gone.
    pub(crate) fn leave(&self) -> Result<()> {
        self.task.shutdown(&self.bundle.id);
        self.wait_until_gone()
    }

    /// Kills and deletes the container. The shim keeps running.
    pub(crate) fn end_container(&self) -> Result<()> {
        let id = &self.bundle.id;
        self.task.kill(id)?;
        self.task.wait(id, "")?;
        self.task.delete(id, "")
    }

    /// Kills and deletes the container, and ends the shim.
    pub(crate) fn end(self) -> Result<()> {
        self.end_container()?;
        self.leave()
    }

    /// Waits for the process: once its parent, the `start` verb, has ended, it is a child of this
    /// subreaper.
    fn wait_until_gone(&self) -> Result<()> {
        waitpid(self.pid, None)?;
        Ok(())
    }
}
