//! A fake shim that follows a script: a registration, a socket and the Observer service.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use async_trait::async_trait;
use lookout::{
    api::{
        CapabilitiesRequest, CapabilitiesResponse, Container, ContainerPort, ContainerProcess,
        Event, EventBatch, Exit, ExitBatch, ExitsRequest, Filter, Hello, PortsRequest,
        PortsResponse, ProcessesRequest, ProcessesResponse, StatusRequest, StatusResponse,
        SubscribeRequest,
        event::Body,
        observer::{Observer, create_observer},
    },
    linux::process::start_ticks,
};
use tokio::sync::oneshot;
use ttrpc::r#async::{Server, ServerStreamSender, TtrpcContext};

use super::{
    schema,
    script::{self, EPOCH},
};

/// The answers of a fake shim. Tests change them while it serves.
#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) events: Vec<Event>,
    pub(crate) processes: Vec<ContainerProcess>,
    pub(crate) ports: Vec<ContainerPort>,
    pub(crate) exits: Vec<Exit>,
    pub(crate) status: StatusResponse,
    /// The containers of the greeting, with their names.
    pub(crate) containers: Vec<Container>,
    pub(crate) idle: Vec<Container>,
    /// Each stream breaks after this number of events; `None`: never.
    pub(crate) breaks_after: Option<usize>,
    /// The cursors of all subscriptions so far.
    pub(crate) since: Vec<String>,
}

/// A runtime directory and its fake shims, which all run in this process.
pub(crate) struct Node {
    pub(crate) folder: tempfile::TempDir,
}

impl Drop for Node {
    fn drop(&mut self) {
        // What a daemon of the node has written, whether the test reads it or not.
        if !thread::panicking() {
            schema::assert_stream_fits(&self.path().join("registry"));
        }
    }
}

/// A fake shim. Dropping it stops its server but keeps its registration.
pub(crate) struct Fake {
    pub(crate) script: Arc<Mutex<Script>>,
    socket: PathBuf,
    server: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Node {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes the registration of a shim that does not serve.
    pub(crate) fn register(&self, id: &str) -> PathBuf {
        self.register_as(i32::try_from(std::process::id()).expect("a pid"), id)
    }

    /// As [`register`](Self::register), of a shim that is the process `pid`.
    fn register_as(&self, pid: i32, id: &str) -> PathBuf {
        let socket = self.path().join(format!("{id}.sock"));
        let start = start_ticks(pid).expect("it lives");
        let shims = self.path().join("shims/default");
        fs::create_dir_all(&shims).expect("a folder");
        let address = format!("unix://{}", socket.display());
        let text = serde_json::json!({
            "pid": pid,
            "start": start,
            "address": address,
            "epoch": EPOCH,
            "version": "0.1.0",
        });
        // Write and rename, as a shim does: the command may read the directory at any moment.
        let part = shims.join(format!(".{id}"));
        fs::write(&part, text.to_string()).expect("a file");
        fs::rename(&part, shims.join(format!("{id}.json"))).expect("a file");
        socket
    }

    /// Starts a fake shim and registers it when it serves.
    pub(crate) fn shim(&self, id: &str, script: Script) -> Fake {
        self.shim_of(i32::try_from(std::process::id()).expect("a pid"), id, script)
    }

    /// As [`shim`](Self::shim). The shim lives as long as the process `pid`.
    pub(crate) fn shim_of(&self, pid: i32, id: &str, script: Script) -> Fake {
        let socket = self.path().join(format!("{id}.sock"));
        let mut fake = Fake { script: Arc::new(Mutex::new(script)), socket, server: None };
        fake.serve();
        self.register_as(pid, id);
        fake
    }
}

impl Fake {
    /// Starts to serve, on a thread of its own.
    pub(crate) fn serve(&mut self) {
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let address = format!("unix://{}", self.socket.display());
        let id = self.socket.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let service = Arc::new(Service { script: self.script.clone(), id });
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let mut server = Server::new()
                    .bind(&address)
                    .expect("a socket")
                    .register_service(create_observer(service));
                server.start().await.expect("a server");
                ready.send(()).expect("the receiver waits");
                let _ = stopped.await;
            });
        });
        is_ready.recv_timeout(Duration::from_secs(10)).expect("it serves");
        self.server = Some((stop, thread));
    }

    /// Stops serving, which breaks every connection.
    pub(crate) fn stop(&mut self) {
        if let Some((stop, thread)) = self.server.take() {
            let _ = stop.send(());
            thread.join().expect("the server ends");
        }
        let _ = fs::remove_file(&self.socket);
    }

    /// Adds an event to the journal; open streams send it.
    pub(crate) fn emit(&self, event: Event) {
        self.script.lock().expect("no thread panicked").events.push(event);
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Service {
    script: Arc<Mutex<Script>>,
    id: String,
}

impl Service {
    fn read<T>(&self, read: impl FnOnce(&mut Script) -> T) -> T {
        read(&mut self.script.lock().expect("no thread panicked"))
    }
}

#[async_trait]
impl Observer for Service {
    async fn capabilities(
        &self,
        _: &TtrpcContext,
        _: CapabilitiesRequest,
    ) -> ttrpc::Result<CapabilitiesResponse> {
        Ok(CapabilitiesResponse { categories: script::capabilities(), ..Default::default() })
    }

    async fn processes(
        &self,
        _: &TtrpcContext,
        request: ProcessesRequest,
    ) -> ttrpc::Result<ProcessesResponse> {
        let wanted = request.container_id;
        let mut processes = self.read(|script| script.processes.clone());
        processes.retain(|one| wanted.is_empty() || one.container.get_or_default().id == wanted);
        let mut idle = self.read(|script| script.idle.clone());
        idle.retain(|one| wanted.is_empty() || one.id == wanted);
        Ok(ProcessesResponse { processes, idle, ..Default::default() })
    }

    async fn ports(&self, _: &TtrpcContext, request: PortsRequest) -> ttrpc::Result<PortsResponse> {
        const PAGE: usize = 1000;
        let wanted = request.container_id;
        let is_wanted =
            |one: &&ContainerPort| wanted.is_empty() || one.container.get_or_default().id == wanted;
        let from: usize = request.page.parse().unwrap_or_default();
        let mut ports: Vec<ContainerPort> = self.read(|script| {
            script.ports.iter().filter(is_wanted).skip(from).take(PAGE + 1).cloned().collect()
        });
        let is_last = ports.len() <= PAGE;
        ports.truncate(PAGE);
        let next = if is_last { String::new() } else { (from + PAGE).to_string() };
        Ok(PortsResponse { ports, next, ..Default::default() })
    }

    async fn status(&self, _: &TtrpcContext, _: StatusRequest) -> ttrpc::Result<StatusResponse> {
        Ok(self.read(|script| script.status.clone()))
    }

    async fn exits(
        &self,
        _: &TtrpcContext,
        _: ExitsRequest,
        sender: ServerStreamSender<ExitBatch>,
    ) -> ttrpc::Result<()> {
        let exits = self.read(|script| script.exits.clone());
        sender.send(&ExitBatch { exits, ..Default::default() }).await?;
        std::future::pending().await
    }

    async fn subscribe(
        &self,
        _: &TtrpcContext,
        request: SubscribeRequest,
        sender: ServerStreamSender<EventBatch>,
    ) -> ttrpc::Result<()> {
        self.read(|script| script.since.push(request.since.clone()));
        let newest = self.read(|script| script.events.last().map_or(0, |event| event.seq));
        let begin = if request.backfill { 0 } else { newest };
        let after: u64 =
            request.since.rsplit_once(':').map_or(begin, |(_, seq)| seq.parse().expect("a number"));
        if self.read(|script| script.events.iter().all(|event| event.seq < after)) && after > newest
        {
            return Err(ttrpc::Error::RpcStatus(ttrpc::get_status(
                ttrpc::Code::INVALID_ARGUMENT,
                "ahead",
            )));
        }
        let hello = Hello {
            schema_version: 1,
            seq: after,
            shim_id: self.id.clone(),
            containers: self.read(|script| script.containers.clone()),
            ..Default::default()
        };
        let mut batch = vec![Event {
            epoch: EPOCH.into(),
            type_: "hello".into(),
            time_ns: script::TIME_NS,
            body: Some(Body::Hello(hello)),
            ..Default::default()
        }];
        let mut next = 0;
        let mut sent = 0;
        loop {
            let new = self.read(|script| script.events.get(next..).unwrap_or_default().to_vec());
            next += new.len();
            let limit = self.read(|script| script.breaks_after).unwrap_or(usize::MAX);
            for event in new {
                if (event.seq > after || event.seq == 0)
                    && passes(&event, &request.filters)
                    && sent < limit
                {
                    sent += 1;
                    batch.push(event);
                }
            }
            for part in batch.chunks(500) {
                sender.send(&EventBatch { events: part.to_vec(), ..Default::default() }).await?;
            }
            if sent >= limit {
                let status =
                    ttrpc::get_status(ttrpc::Code::ABORTED, "the script breaks the stream");
                return Err(ttrpc::Error::RpcStatus(status));
            }
            let is_idle = batch.is_empty();
            batch = Vec::new();
            tokio::time::sleep(Duration::from_millis(20)).await;
            // A heartbeat, so that a command without `-f` sees the end of the journal.
            if is_idle {
                sender.send(&EventBatch::default()).await?;
            }
        }
    }
}

/// The filter semantics of `proto/lookout/v1/observer.proto`, as far as these tests need them.
fn passes(event: &Event, filters: &[Filter]) -> bool {
    let (exec_id, origin, status) = match &event.body {
        Some(Body::Process(process)) => (
            process.exec_id.as_str(),
            process.origin.as_str(),
            process.ended.get_or_default().status,
        ),
        _ => ("", "", None),
    };
    let one = |filter: &Filter| {
        let of_type = |wanted: &String| match wanted.strip_suffix('*') {
            Some(kind) => event.type_.starts_with(kind),
            None => *wanted == event.type_,
        };
        (filter.types.is_empty() || filter.types.iter().any(of_type))
            && (filter.container_id.is_empty()
                || event.container.get_or_default().id == filter.container_id)
            && filter.exec_id.as_ref().is_none_or(|wanted| wanted == exec_id)
            && (filter.origin.is_empty() || filter.origin == origin)
            && (!filter.failures || status.is_some_and(|status| status != 0))
    };
    filters.is_empty() || filters.iter().any(one)
}
