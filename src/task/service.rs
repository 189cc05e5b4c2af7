//! containerd's Task service: decodes a request, sends a command to the container, encodes the
//! answer.
//!
//! One table of methods is registered under both of containerd's names: `containerd.task.v2.Task`
//! (1.x) and `containerd.task.v3.Task` (2.x). The messages are the same. ttrpc drops a handler when
//! its client disconnects; the request continues in the container's async task.

use std::{collections::HashMap, process, sync::Arc};

use async_trait::async_trait;
use containerd_shim_protos::{
    api,
    protobuf::MessageField,
    shim_async::{Task, create_task},
    ttrpc::{self, r#async::TtrpcContext},
};

use super::{
    TaskError,
    container::{Command, CreateRequest, DeletedTask, ExecRequest},
    supervisor::Supervisor,
    wire,
};
use crate::{model::ProcessId, runc::CheckpointOptions};

/// The Task service of one shim. Clones serve the same containers.
#[derive(Debug, Clone)]
pub struct Service {
    supervisor: Supervisor,
}

/// The return type of a method: the response, or the status for the client.
type Answer<T> = ttrpc::Result<T>;

impl Service {
    /// Makes a service for the containers of `supervisor`.
    #[must_use]
    pub fn new(supervisor: Supervisor) -> Self {
        Self { supervisor }
    }

    /// The method tables to register with a ttrpc server, by service name. Both names, of versions
    /// 2 and 3, have the same methods.
    #[must_use]
    pub fn tables(&self) -> HashMap<String, ttrpc::r#async::Service> {
        let table = |name: &str| {
            // `create_task` returns the table under one name only, so the table is registered under
            // both names here.
            let tables = create_task(Arc::new(self.clone()));
            tables.into_values().map(|table| (name.to_owned(), table)).collect::<Vec<_>>()
        };
        ["containerd.task.v2.Task", "containerd.task.v3.Task"].into_iter().flat_map(table).collect()
    }

    /// What the container `id`, which is deleted, still answers to a request about its init.
    fn deleted(&self, id: &str, process: &ProcessId) -> Option<DeletedTask> {
        self.supervisor.deleted(id).filter(|_| *process == ProcessId::Init)
    }

    /// Sends a command to the container `id` and waits for its answer.
    async fn call<T>(
        &self,
        id: &str,
        command: impl FnOnce(tokio::sync::oneshot::Sender<Result<T, TaskError>>) -> Command,
    ) -> Answer<T> {
        let container = self.supervisor.container(id).map_err(|error| error.status())?;
        container.call(command).await.map_err(|error| error.status())
    }
}

#[async_trait]
impl Task for Service {
    async fn state(
        &self,
        _: &TtrpcContext,
        request: api::StateRequest,
    ) -> Answer<api::StateResponse> {
        let process = ProcessId::from_exec_id(&request.exec_id);
        let deleted = self.deleted(&request.id, &process).and_then(|task| task.last_state);
        let snapshot = match deleted {
            Some(snapshot) => snapshot,
            None => self.call(&request.id, |reply| Command::State { process, reply }).await?,
        };
        Ok(wire::state(request.id, request.exec_id, snapshot))
    }

    async fn create(
        &self,
        _: &TtrpcContext,
        request: api::CreateTaskRequest,
    ) -> Answer<api::CreateTaskResponse> {
        let request = CreateRequest::try_from(request).map_err(|error| error.status())?;
        let pid = self.supervisor.create(request).await.map_err(|error| error.status())?;
        Ok(api::CreateTaskResponse { pid: wire::pid(pid), ..Default::default() })
    }

    async fn start(
        &self,
        _: &TtrpcContext,
        request: api::StartRequest,
    ) -> Answer<api::StartResponse> {
        let process = ProcessId::from_exec_id(&request.exec_id);
        let pid = self.call(&request.id, |reply| Command::Start { process, reply }).await?;
        Ok(api::StartResponse { pid: wire::pid(Some(pid)), ..Default::default() })
    }

    async fn delete(
        &self,
        _: &TtrpcContext,
        request: api::DeleteRequest,
    ) -> Answer<api::DeleteResponse> {
        let process = ProcessId::from_exec_id(&request.exec_id);
        if let Some(task) = self.deleted(&request.id, &process) {
            self.supervisor.delete_was_repeated(&request.id);
            return Ok(wire::deleted(task.deleted));
        }
        let deleted = self.call(&request.id, |reply| Command::Delete { process, reply }).await?;
        Ok(wire::deleted(deleted))
    }

    async fn pids(&self, _: &TtrpcContext, request: api::PidsRequest) -> Answer<api::PidsResponse> {
        let pids = self.call(&request.id, |reply| Command::Pids { reply }).await?;
        let processes = pids.into_iter().map(wire::process).collect();
        Ok(api::PidsResponse { processes, ..Default::default() })
    }

    async fn pause(&self, _: &TtrpcContext, request: api::PauseRequest) -> Answer<api::Empty> {
        self.call(&request.id, |reply| Command::Pause { reply }).await.map(empty)
    }

    async fn resume(&self, _: &TtrpcContext, request: api::ResumeRequest) -> Answer<api::Empty> {
        self.call(&request.id, |reply| Command::Resume { reply }).await.map(empty)
    }

    async fn checkpoint(
        &self,
        _: &TtrpcContext,
        request: api::CheckpointTaskRequest,
    ) -> Answer<api::Empty> {
        let options = CheckpointOptions::decode(request.options.as_ref());
        let options = options.map_err(|error| TaskError::from(error).status())?;
        let path = request.path;
        self.call(&request.id, |reply| Command::Checkpoint { path, options, reply })
            .await
            .map(empty)
    }

    async fn kill(&self, _: &TtrpcContext, request: api::KillRequest) -> Answer<api::Empty> {
        let api::KillRequest { id, exec_id, signal, all, .. } = request;
        let process = ProcessId::from_exec_id(&exec_id);
        self.call(&id, |reply| Command::Kill { process, signal, all, reply }).await.map(empty)
    }

    async fn exec(&self, _: &TtrpcContext, request: api::ExecProcessRequest) -> Answer<api::Empty> {
        let id = request.id.clone();
        let request = ExecRequest::try_from(request).map_err(|error| error.status())?;
        self.call(&id, |reply| Command::Exec { request, reply }).await.map(empty)
    }

    async fn resize_pty(
        &self,
        _: &TtrpcContext,
        request: api::ResizePtyRequest,
    ) -> Answer<api::Empty> {
        let api::ResizePtyRequest { id, exec_id, .. } = request;
        let process = ProcessId::from_exec_id(&exec_id);
        // The size of a terminal has 16 bits per dimension (struct winsize).
        let bounded = |size: u32| u16::try_from(size).unwrap_or(u16::MAX);
        let (width, height) = (bounded(request.width), bounded(request.height));
        self.call(&id, |reply| Command::ResizePty { process, width, height, reply })
            .await
            .map(empty)
    }

    async fn close_io(&self, _: &TtrpcContext, request: api::CloseIORequest) -> Answer<api::Empty> {
        // The flag `stdin` is ignored, as by the Go shim, because the message can name no other
        // stream.
        let process = ProcessId::from_exec_id(&request.exec_id);
        self.call(&request.id, |reply| Command::CloseIo { process, reply }).await.map(empty)
    }

    async fn update(
        &self,
        _: &TtrpcContext,
        request: api::UpdateTaskRequest,
    ) -> Answer<api::Empty> {
        let resources = request.resources.into_option().unwrap_or_default().value;
        // The JSON is checked here, so that the error names the field. The runtime's own error
        // would not name it.
        if let Err(error) =
            serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&resources)
        {
            return Err(TaskError::Invalid { what: "resources", why: error.to_string() }.status());
        }
        self.call(&request.id, |reply| Command::Update { resources, reply }).await.map(empty)
    }

    async fn wait(&self, _: &TtrpcContext, request: api::WaitRequest) -> Answer<api::WaitResponse> {
        let process = ProcessId::from_exec_id(&request.exec_id);
        let exit = self.call(&request.id, |reply| Command::Wait { process, reply }).await?;
        Ok(wire::waited(exit))
    }

    async fn stats(
        &self,
        _: &TtrpcContext,
        request: api::StatsRequest,
    ) -> Answer<api::StatsResponse> {
        let stats = self.call(&request.id, |reply| Command::Stats { reply }).await?;
        Ok(api::StatsResponse { stats: MessageField::some(stats), ..Default::default() })
    }

    async fn connect(
        &self,
        _: &TtrpcContext,
        request: api::ConnectRequest,
    ) -> Answer<api::ConnectResponse> {
        // containerd uses this call for the pid of the shim, so a container that does not exist is
        // not an error.
        let task_pid = self.call(&request.id, |reply| Command::Pid { reply }).await.unwrap_or(None);
        Ok(api::ConnectResponse {
            shim_pid: process::id(),
            task_pid: wire::pid(task_pid),
            ..Default::default()
        })
    }

    async fn shutdown(&self, _: &TtrpcContext, _: api::ShutdownRequest) -> Answer<api::Empty> {
        self.supervisor.shut_down();
        Ok(api::Empty::new())
    }
}

fn empty((): ()) -> api::Empty {
    api::Empty::new()
}
