//! A client of the Task service that calls a shim as containerd does.

use std::{
    path::Path,
    thread::{self, JoinHandle},
    time::Duration,
};

use containerd_shim_protos::{
    api,
    protobuf::{Message, MessageField, well_known_types::any::Any},
    ttrpc::{
        self, Client,
        proto::{Code, KeyValue, Request},
    },
};

use super::{bundle::any, node::NAMESPACE};

/// The default deadline of a call: longer than any of them should take.
const CALL: Duration = Duration::from_secs(15);

type Answer<T> = Result<T, Failure>;

/// One connection to a shim. Clones share the connection.
#[derive(Clone)]
pub(crate) struct Task {
    client: Client,
    service: String,
    namespace: String,
    deadline: Duration,
}

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The code that the shim answered with; `None` if there was no answer.
    pub(crate) code: Option<Code>,
    pub(crate) message: String,
}

impl Task {
    /// Connects to the shim at `address`.
    pub(crate) fn connect(address: &str, version: i64) -> Answer<Self> {
        let client = Client::connect(address).map_err(Failure::from)?;
        let service = format!("containerd.task.v{version}.Task");
        Ok(Self { client, service, namespace: NAMESPACE.to_owned(), deadline: CALL })
    }

    /// The same connection, with another deadline.
    pub(crate) fn with_deadline(&self, deadline: Duration) -> Self {
        Self { deadline, ..self.clone() }
    }

    /// The same connection, for another namespace of containerd.
    pub(crate) fn of_namespace(&self, namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), ..self.clone() }
    }

    /// The same connection, for another service.
    pub(crate) fn with_service(&self, service: &str) -> Self {
        Self { service: service.to_owned(), ..self.clone() }
    }

    /// Runs a call on another thread.
    pub(crate) fn in_background<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let task = self.clone();
        thread::spawn(move || call(&task))
    }

    pub(crate) fn state(&self, id: &str, exec_id: &str) -> Answer<api::StateResponse> {
        let request =
            api::StateRequest { id: id.into(), exec_id: exec_id.into(), ..Default::default() };
        self.call("State", &request)
    }

    pub(crate) fn create(
        &self,
        request: &api::CreateTaskRequest,
    ) -> Answer<api::CreateTaskResponse> {
        self.call("Create", request)
    }

    pub(crate) fn start(&self, id: &str, exec_id: &str) -> Answer<api::StartResponse> {
        let request =
            api::StartRequest { id: id.into(), exec_id: exec_id.into(), ..Default::default() };
        self.call("Start", &request)
    }

    pub(crate) fn delete(&self, id: &str, exec_id: &str) -> Answer<api::DeleteResponse> {
        let request =
            api::DeleteRequest { id: id.into(), exec_id: exec_id.into(), ..Default::default() };
        self.call("Delete", &request)
    }

    pub(crate) fn pids(&self, id: &str) -> Answer<api::PidsResponse> {
        self.call("Pids", &api::PidsRequest { id: id.into(), ..Default::default() })
    }

    pub(crate) fn pause(&self, id: &str) -> Answer<api::Empty> {
        self.call("Pause", &api::PauseRequest { id: id.into(), ..Default::default() })
    }

    pub(crate) fn resume(&self, id: &str) -> Answer<api::Empty> {
        self.call("Resume", &api::ResumeRequest { id: id.into(), ..Default::default() })
    }

    pub(crate) fn checkpoint(
        &self,
        id: &str,
        path: &Path,
        options: Option<Any>,
    ) -> Answer<api::Empty> {
        let path = path.to_string_lossy().into_owned();
        let options = MessageField::from_option(options);
        self.call(
            "Checkpoint",
            &api::CheckpointTaskRequest { id: id.into(), path, options, ..Default::default() },
        )
    }

    /// Sends a signal to init, or to an exec if `exec_id` is not empty.
    pub(crate) fn kill(&self, id: &str, exec_id: &str, signal: u32) -> Answer<api::Empty> {
        let request = api::KillRequest {
            id: id.into(),
            exec_id: exec_id.into(),
            signal,
            ..Default::default()
        };
        self.call("Kill", &request)
    }

    pub(crate) fn kill_all(&self, id: &str, signal: u32) -> Answer<api::Empty> {
        let request = api::KillRequest { id: id.into(), signal, all: true, ..Default::default() };
        self.call("Kill", &request)
    }

    /// Adds an exec without streams.
    pub(crate) fn exec(&self, id: &str, exec_id: &str) -> Answer<api::Empty> {
        self.exec_with(&exec_request(id, exec_id))
    }

    pub(crate) fn exec_with(&self, request: &api::ExecProcessRequest) -> Answer<api::Empty> {
        self.call("Exec", request)
    }

    pub(crate) fn resize_pty(
        &self,
        id: &str,
        exec_id: &str,
        width: u32,
        height: u32,
    ) -> Answer<api::Empty> {
        let (id, exec_id) = (id.into(), exec_id.into());
        self.call(
            "ResizePty",
            &api::ResizePtyRequest { id, exec_id, width, height, ..Default::default() },
        )
    }

    pub(crate) fn close_io(&self, id: &str, exec_id: &str) -> Answer<api::Empty> {
        let (id, exec_id) = (id.into(), exec_id.into());
        self.call(
            "CloseIO",
            &api::CloseIORequest { id, exec_id, stdin: true, ..Default::default() },
        )
    }

    pub(crate) fn update(&self, id: &str, resources: &str) -> Answer<api::Empty> {
        self.call("Update", &self.update_request(id, resources))
    }

    pub(crate) fn update_request(&self, id: &str, resources: &str) -> api::UpdateTaskRequest {
        let resources =
            any("types.containerd.io/opencontainers/runtime-spec/1/LinuxResources", resources);
        let resources = MessageField::some(resources);
        api::UpdateTaskRequest { id: id.into(), resources, ..Default::default() }
    }

    pub(crate) fn wait(&self, id: &str, exec_id: &str) -> Answer<api::WaitResponse> {
        let request =
            api::WaitRequest { id: id.into(), exec_id: exec_id.into(), ..Default::default() };
        self.call("Wait", &request)
    }

    pub(crate) fn stats(&self, id: &str) -> Answer<api::StatsResponse> {
        self.call("Stats", &api::StatsRequest { id: id.into(), ..Default::default() })
    }

    pub(crate) fn connection(&self, id: &str) -> Answer<api::ConnectResponse> {
        self.call("Connect", &api::ConnectRequest { id: id.into(), ..Default::default() })
    }

    pub(crate) fn shutdown(&self, id: &str) -> Answer<api::Empty> {
        self.call("Shutdown", &api::ShutdownRequest { id: id.into(), ..Default::default() })
    }

    /// Calls any method.
    pub(crate) fn call<T: Message>(&self, method: &str, request: &impl Message) -> Answer<T> {
        let response = self.client.request(self.request(method, request)).map_err(Failure::from)?;
        Ok(T::parse_from_bytes(&response.payload).expect("the answer is of the method's type"))
    }

    /// The request of a call, for a client that sends it itself.
    pub(crate) fn request(&self, method: &str, request: &impl Message) -> Request {
        Request {
            service: self.service.clone(),
            method: method.to_owned(),
            payload: request.write_to_bytes().expect("proto3 has no required fields"),
            // The stock shims read the namespace of a request here.
            metadata: vec![KeyValue {
                key: "containerd-namespace-ttrpc".to_owned(),
                value: self.namespace.clone(),
                ..Default::default()
            }],
            timeout_nano: i64::try_from(self.deadline.as_nanos()).unwrap_or(i64::MAX),
            ..Default::default()
        }
    }
}

impl Failure {
    /// Whether the deadline of the call passed, in the client or in the shim.
    pub(crate) fn is_late(&self) -> bool {
        matches!(self.code, None | Some(Code::DEADLINE_EXCEEDED))
    }
}

/// A request for an exec without streams.
pub(crate) fn exec_request(id: &str, exec_id: &str) -> api::ExecProcessRequest {
    let spec = r#"{"args":["sleep","600"],"cwd":"/","env":["PATH=/bin"]}"#;
    api::ExecProcessRequest {
        id: id.into(),
        exec_id: exec_id.into(),
        spec: MessageField::some(any(
            "types.containerd.io/opencontainers/runtime-spec/1/Process",
            spec,
        )),
        ..Default::default()
    }
}

impl std::fmt::Debug for Task {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Task({})", self.service)
    }
}

impl From<ttrpc::Error> for Failure {
    fn from(error: ttrpc::Error) -> Self {
        match error {
            ttrpc::Error::RpcStatus(status) => {
                Self { code: Some(status.code()), message: status.message }
            }
            other => Self { code: None, message: other.to_string() },
        }
    }
}
