//! The service over a real socket, with a real client.

mod responses;
mod subscribe;

use std::{sync::Arc, time::Duration};

use containerd_shim_protos::ttrpc::{
    self,
    r#async::{Client, ClientStreamReceiver, Server, transport::Listener},
    context,
};
use tempfile::TempDir;

use super::*;
use crate::{
    api::{EventBatch, SubscribeRequest, observer::ObserverClient},
    model::{
        Args, Backend, Body, Category, Ended, Event, Grade, Image, Origin, Parent, ProcessKey,
        RecordCounts, Support,
    },
    observe::{
        encode::{Clock, Identity},
        record::TargetId,
        stream::Limits,
    },
};

const DEADLINE: Duration = Duration::from_secs(20);

/// A service over an event log, and the address at which it is served.
struct Served {
    event_log: Arc<EventLog>,
    address: String,
    _server: Server,
    _directory: TempDir,
}

#[derive(Default)]
struct Scripted {
    living: Vec<(Arc<Container>, Arc<Process>)>,
    /// In the order of their positions.
    ports: Vec<OpenPort>,
}

impl Queries for Scripted {
    fn capabilities(&self) -> Vec<Capability> {
        let partial = |category| Capability {
            category,
            support: Support::Partial,
            backend: "poll".into(),
            reason: "a test".into(),
        };
        Category::ALL.map(partial).to_vec()
    }

    fn processes<'a>(
        &'a self,
        container: &'a str,
        after: Position,
    ) -> BoxFuture<'a, Result<LiveProcesses, Unavailable>> {
        let known = container.is_empty() || container == "web";
        let id = container.to_owned();
        let idle = self.living.iter().take(1).map(|(container, _)| container.clone()).collect();
        let positions = (1..).map(|serial| Position { target: TargetId(1), serial });
        let all = positions.zip(self.living.clone());
        let all = all.map(|(position, (container, process))| (position, container, process));
        let processes = all.filter(|(position, ..)| *position > after).collect();
        let living = LiveProcesses { processes, idle, seq: 9 };
        Box::pin(async move { if known { Ok(living) } else { Err(Unavailable::Container { id }) } })
    }

    fn ports<'a>(
        &'a self,
        container: &'a str,
        after: Option<PortPosition>,
    ) -> BoxFuture<'a, Result<OpenPorts, Unavailable>> {
        let id = container.to_owned();
        let is_after = |open: &&OpenPort| after.is_none_or(|after| open.position > after);
        let mut ports: Vec<_> = self.ports.iter().filter(is_after).take(1025).cloned().collect();
        let is_last = ports.len() <= 1024;
        ports.truncate(1024);
        let open = OpenPorts { ports, is_last, seq: 9 };
        let known = !self.ports.is_empty();
        Box::pin(async move { if known { Ok(open) } else { Err(Unavailable::Container { id }) } })
    }
}

async fn serve_with(journal_bytes: usize, queries: Scripted) -> Served {
    let directory = tempfile::tempdir().expect("a directory");
    let address = format!("unix://{}", directory.path().join("s").display());
    let identity = Identity { shim_id: "pod".into(), epoch: "e1".into(), boot: 0xab };
    let event_log = Arc::new(EventLog::new(
        Limits { journal_bytes },
        identity,
        Clock { boot_realtime_ns: 1_000 },
    ));
    let service = Service::new(event_log.clone(), Arc::new(queries));
    let listener = Listener::bind(&address).expect("a socket");
    let mut server =
        Server::new().add_listener(listener).register_service(tables(&Arc::new(service)));
    server.start().await.expect("it serves");
    Served { event_log, address, _server: server, _directory: directory }
}

async fn serve(journal_bytes: usize) -> Served {
    serve_with(journal_bytes, Scripted::default()).await
}

impl Served {
    async fn client(&self) -> ObserverClient {
        ObserverClient::new(Client::connect(&self.address).await.expect("a connection"))
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Followed {
        let stream = self
            .client()
            .await
            .subscribe(context::Context::default(), &request)
            .await
            .expect("a stream");
        Followed { stream, read: Vec::new().into_iter() }
    }

    /// The status with which a subscription is refused.
    async fn refusal(&self, request: SubscribeRequest) -> (Code, String) {
        let mut followed = self.subscribe(request).await;
        match within(followed.stream.recv()).await {
            Err(ttrpc::Error::RpcStatus(status)) => (status.code(), status.message().to_owned()),
            other => {
                panic!(
                    "{:?} events instead of a refusal",
                    other.map(|batch| batch.map(|batch| batch.events.len()))
                )
            }
        }
    }
}

/// A Subscribe stream, read event by event.
struct Followed {
    stream: ClientStreamReceiver<EventBatch>,
    read: std::vec::IntoIter<api::Event>,
}

impl Followed {
    async fn batch(&mut self) -> Option<EventBatch> {
        within(self.stream.recv()).await.expect("no error")
    }

    async fn next(&mut self) -> Option<api::Event> {
        loop {
            if let Some(event) = self.read.next() {
                return Some(event);
            }
            self.read = self.batch().await?.events.into_iter();
        }
    }

    /// The sequence numbers of the next events.
    async fn seqs(&mut self, count: usize) -> Vec<u64> {
        let mut seqs = Vec::new();
        while seqs.len() < count {
            seqs.push(self.next().await.expect("more events").seq);
        }
        seqs
    }

    async fn hello(&mut self) -> api::Hello {
        let first = self.next().await.expect("a first record");
        let Some(api::event::Body::Hello(hello)) = first.body else {
            panic!("{} before the hello", first.type_)
        };
        hello
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("in time")
}

fn event(container: &str, body: Body) -> Event {
    let container = Arc::new(Container {
        id: container.into(),
        namespace: "ns".into(),
        ..Container::default()
    });
    let (grade, source) = (Grade::Exact, Backend::Bpf);
    Event { monotonic_ns: 5, realtime_ns: 6, grade, source, container: Some(container), body }
}

fn process(pid: i32) -> Process {
    let image = Image {
        executable: Some((*b"/bin/echo").into()),
        args: Some(Args::from_nul_separated(b"echo\0\0\xff\n\0")),
        working_directory: Some((*b"/").into()),
        comm: Some((*b"echo").into()),
        uid: Some(0),
        ..Image::default()
    };
    let parent = Parent { key: ProcessKey::new(1, 1), image: Arc::default() };
    Process {
        key: ProcessKey::new(pid, 0x10),
        vpid: Some(2),
        parent_pid: Some(1),
        parent: Some(parent),
        image: Arc::new(image),
        origin: Origin::Exec,
        exec_id: Some("probe".into()),
        cgroup: None,
    }
}

fn start(pid: i32) -> Event {
    event("web", Body::Start(Arc::new(process(pid))))
}

fn exit(pid: i32, ended: Option<Ended>) -> Event {
    event(
        "web",
        Body::Exit { process: Arc::new(process(pid)), ended, oom_killed: false, run_time_ns: None },
    )
}
