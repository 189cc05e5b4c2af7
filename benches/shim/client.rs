//! The client's side of the Task service: one connection, and one method for each measured call.

use std::time::Duration;

use containerd_shim_protos::{
    api::{
        ConnectRequest, ConnectResponse, CreateTaskRequest, CreateTaskResponse, DeleteRequest,
        DeleteResponse, Empty, ExecProcessRequest, KillRequest, Mount, ShutdownRequest,
        StartRequest, StartResponse, WaitRequest, WaitResponse,
    },
    protobuf::{Message, MessageField, well_known_types::any::Any},
    shim::oci::Options,
    ttrpc::{Request, asynchronous::Client},
};
use serde_json::json;

use crate::{Error, Result, bundle::Bundle, connections, fifo::Fifo};

/// The timeout of a call. No call takes a tenth of it.
const DEADLINE: Duration = Duration::from_secs(60);

/// A connection to one shim. Clones share it.
#[derive(Clone)]
pub(crate) struct Task {
    client: Client,
    service: &'static str,
}

impl Task {
    /// Connects to a shim. A shim that answered `start` with version 3 serves Task under that
    /// version.
    pub(crate) fn connect(address: &str, version: u64) -> Result<Self> {
        let service =
            if version >= 3 { "containerd.task.v3.Task" } else { "containerd.task.v2.Task" };
        let address = address.to_owned();
        let client = connections::wait(async move { Client::connect(&address).await })?;
        Ok(Self { client, service })
    }

    /// The shim's pid, as Connect reports it.
    pub(crate) fn shim_pid(&self, id: &str) -> Result<i32> {
        let answer: ConnectResponse =
            self.call("Connect", &ConnectRequest { id: id.into(), ..Default::default() })?;
        Ok(i32::try_from(answer.shim_pid)?)
    }

    /// Creates the container with its root filesystem mounted, and with these fifos as stdout and
    /// stderr, if any.
    pub(crate) fn create(
        &self,
        bundle: &Bundle,
        options: &Any,
        fifos: Option<&[Fifo; 2]>,
    ) -> Result<()> {
        let root = Mount {
            type_: "overlay".into(),
            source: "overlay".into(),
            options: bundle.overlay().into(),
            ..Default::default()
        };
        let [stdout, stderr] =
            fifos.map(|fifos| fifos.each_ref().map(Fifo::name)).unwrap_or_default();
        let request = CreateTaskRequest {
            id: bundle.id.clone(),
            bundle: bundle.path.display().to_string(),
            rootfs: vec![root],
            options: MessageField::some(options.clone()),
            stdout,
            stderr,
            ..Default::default()
        };
        self.call::<CreateTaskResponse>("Create", &request).map(drop)
    }

    /// Starts the container, or the exec.
    pub(crate) fn start(&self, id: &str, exec_id: &str) -> Result<()> {
        let request = StartRequest { id: id.into(), exec_id: exec_id.into(), ..Default::default() };
        self.call::<StartResponse>("Start", &request).map(drop)
    }

    /// Waits for the exit and returns the status.
    pub(crate) fn wait(&self, id: &str, exec_id: &str) -> Result<u32> {
        let request = WaitRequest { id: id.into(), exec_id: exec_id.into(), ..Default::default() };
        Ok(self.call::<WaitResponse>("Wait", &request)?.exit_status)
    }

    /// Kills the container's init.
    pub(crate) fn kill(&self, id: &str) -> Result<()> {
        let signal = nix::sys::signal::Signal::SIGKILL as i32;
        let request =
            KillRequest { id: id.into(), signal: u32::try_from(signal)?, ..Default::default() };
        self.call::<Empty>("Kill", &request).map(drop)
    }

    /// Deletes the container, or the exec.
    pub(crate) fn delete(&self, id: &str, exec_id: &str) -> Result<()> {
        let request =
            DeleteRequest { id: id.into(), exec_id: exec_id.into(), ..Default::default() };
        self.call::<DeleteResponse>("Delete", &request).map(drop)
    }

    /// Requests Shutdown. As in containerd, it is no error if the connection ends before the
    /// answer.
    pub(crate) fn shutdown(&self, id: &str) {
        let _ = self
            .call::<Empty>("Shutdown", &ShutdownRequest { id: id.into(), ..Default::default() });
    }

    /// Starts a process and waits for it as clients do: they send Wait before Start.
    pub(crate) fn start_and_wait(&self, id: &str, exec_id: &str) -> Result<()> {
        let status = std::thread::scope(|scope| {
            let waiter = scope.spawn(|| self.wait(id, exec_id));
            self.start(id, exec_id)?;
            waiter.join().map_err(|_| Error::from("the waiter panicked"))?
        })?;
        if status == 0 {
            Ok(())
        } else {
            Err(format!("{id} {exec_id} exited with {status}").into())
        }
    }

    /// Runs `true` in the container, from Exec to Delete.
    pub(crate) fn exec_true(&self, id: &str, exec_id: &str) -> Result<()> {
        self.exec(id, exec_id, &["/bin/true"])
    }

    /// Runs a program in the container, from Exec to Delete.
    pub(crate) fn exec(&self, id: &str, exec_id: &str, args: &[&str]) -> Result<()> {
        let process = json!({
            "args": args, "env": ["PATH=/bin"], "cwd": "/", "user": { "uid": 0, "gid": 0 },
        });
        let spec = Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".into(),
            value: process.to_string().into_bytes(),
            ..Default::default()
        };
        let request = ExecProcessRequest {
            id: id.into(),
            exec_id: exec_id.into(),
            spec: MessageField::some(spec),
            ..Default::default()
        };
        self.call::<Empty>("Exec", &request)?;
        self.start_and_wait(id, exec_id)?;
        self.delete(id, exec_id)
    }

    fn call<A: Message>(&self, method: &str, question: &impl Message) -> Result<A> {
        let request = Request {
            service: self.service.into(),
            method: method.into(),
            payload: question.write_to_bytes()?,
            timeout_nano: i64::try_from(DEADLINE.as_nanos())?,
            ..Default::default()
        };
        let client = self.client.clone();
        let answer = connections::wait(async move { client.request(request).await });
        let answer = answer.map_err(|error| format!("{method}: {error}"))?;
        Ok(A::parse_from_bytes(&answer.payload)?)
    }
}

/// The options that name a runtime, as they are sent to `start` and to Create.
pub(crate) fn options(runtime: &std::path::Path) -> Result<Any> {
    let options = Options { binary_name: runtime.display().to_string(), ..Default::default() };
    Ok(Any {
        type_url: "containerd.runc.v1.Options".into(),
        value: options.write_to_bytes()?,
        ..Default::default()
    })
}
