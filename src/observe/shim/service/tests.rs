use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use containerd_shim_protos::ttrpc::{
    self,
    r#async::{Client, ClientStreamReceiver, Server, transport::Listener},
    context,
};
use tempfile::TempDir;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Notify,
};

use super::*;
use crate::{
    api::{EventBatch, Filter, SlowPolicy, SubscribeRequest, observer::ObserverClient},
    model::{
        Args, Backend, Body, Category, Counts, Ended, Event, Grade, Image, Origin, Parent,
        ProcessKey, Support,
    },
    observe::{
        encode::{Clock, Identity},
        stream::{Limits, SUBSCRIBERS_MAX},
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
    ) -> BoxFuture<'a, Result<LiveProcesses, Unavailable>> {
        let known = container.is_empty() || container == "web";
        let id = container.to_owned();
        let idle = self.living.iter().take(1).map(|(container, _)| container.clone()).collect();
        let living = LiveProcesses { processes: self.living.clone(), idle, seq: 9 };
        Box::pin(async move { if known { Ok(living) } else { Err(Unavailable::Container { id }) } })
    }

    fn ports<'a>(&'a self, container: &'a str) -> BoxFuture<'a, Result<OpenPorts, Unavailable>> {
        let id = container.to_owned();
        Box::pin(async move { Err(Unavailable::Container { id }) })
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
        gid: None,
        unknown: None,
    };
    let parent = Parent { key: ProcessKey { pid: 1, start_ticks: 1 }, image: Arc::default() };
    Process {
        key: ProcessKey { pid, start_ticks: 0x10 },
        vpid: Some(2),
        parent_pid: 1,
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
    event("web", Body::Exit { process: Arc::new(process(pid)), ended, oom_killed: false })
}

/// Check that the first record names the shim, its capabilities and the position of the stream.
#[tokio::test]
async fn the_first_record_is_a_hello() {
    let served = serve(1 << 20).await;
    served.event_log.publish(&mut vec![start(1), start(2)]);
    let mut followed = served.subscribe(SubscribeRequest::default()).await;
    let hello = followed.hello().await;
    assert_eq!((hello.schema_version, hello.seq, hello.shim_id.as_str()), (1, 2, "pod"));
    assert_eq!(hello.version, env!("CARGO_PKG_VERSION"));
    let categories: Vec<_> =
        hello.capabilities.iter().map(|capability| capability.category.as_str()).collect();
    assert_eq!(categories, ["lifecycle", "file", "network", "process"]);
    served.event_log.publish(&mut vec![start(3)]);
    assert_eq!(followed.seqs(1).await, [3]);
}

/// Check each field of a process that starts and exits, as a client sees them.
#[tokio::test]
async fn an_event_has_every_known_field() {
    let served = serve(1 << 20).await;
    served.event_log.publish(&mut vec![start(0x1234), exit(0x1234, Some(Ended::Signal(9)))]);
    let mut followed =
        served.subscribe(SubscribeRequest { backfill: true, ..Default::default() }).await;
    assert_eq!(followed.hello().await.seq, 0);
    let event = followed.next().await.expect("the start");
    assert_eq!((event.seq, event.epoch.as_str(), event.type_.as_str()), (1, "e1", "process.start"));
    assert_eq!(
        (event.time_ns, event.monotonic_ns, event.grade.as_str(), event.source.as_str()),
        (6, 5, "exact", "bpf")
    );
    assert_eq!((event.container.namespace.as_str(), event.container.id.as_str()), ("ns", "web"));
    let Some(api::event::Body::Process(process)) = event.body else { panic!("no process") };
    assert_eq!(process.entity_id, "000000ab0000123410");
    assert_eq!(process.created_ns, 1_000 + 16 * 10_000_000);
    assert_eq!(process.args, [&b"echo"[..], b"", b"\xff\n"]);
    assert_eq!(
        (process.args_count, process.args_bytes, process.args_truncated),
        (Some(3), Some(9), false)
    );
    assert_eq!((process.vpid, process.uid, process.gid), (Some(2), Some(0), None));
    assert_eq!((process.origin.as_str(), process.exec_id.as_str()), ("exec", "probe"));
    assert_eq!(process.executable.as_deref(), Some(&b"/bin/echo"[..]));
    assert_eq!((process.parent.pid, process.parent.entity_id.as_str()), (1, "000000ab000000011"));
    assert!(process.ended.is_none());
    let event = followed.next().await.expect("the exit");
    let Some(api::event::Body::Process(process)) = event.body else { panic!("no process") };
    let ended = process.ended.into_option().expect("an end");
    assert_eq!((ended.code, ended.signal.as_str(), ended.status), (None, "SIGKILL", Some(137)));
}

/// Check that filters select events, and that each event carries the labels of its filters.
#[tokio::test]
async fn filters_select_and_label() {
    let served = serve(1 << 20).await;
    let filters = vec![
        Filter {
            types: vec!["process.exit".into()],
            failures: true,
            label: "failed".into(),
            ..Default::default()
        },
        Filter {
            types: vec!["process.exit".into()],
            limit: 1,
            label: "first".into(),
            ..Default::default()
        },
    ];
    let mut followed = served.subscribe(SubscribeRequest { filters, ..Default::default() }).await;
    followed.hello().await;
    let (good, bad) = (Some(Ended::Code(0)), Some(Ended::Code(3)));
    served.event_log.publish(&mut vec![start(1), exit(1, good), exit(2, good), exit(3, bad)]);
    let first = followed.next().await.expect("an event");
    let second = followed.next().await.expect("an event");
    assert_eq!((first.seq, first.labels), (2, vec!["first".to_owned()]));
    assert_eq!((second.seq, second.labels), (4, vec!["failed".to_owned()]));
}

/// Check that an invalid request is refused with the code and the invalid word.
#[tokio::test]
async fn an_invalid_request_is_refused_by_name() {
    let served = serve(1 << 20).await;
    let filter = |filter| SubscribeRequest { filters: vec![filter], ..Default::default() };
    let bad_type = filter(Filter { types: vec!["process.exce".into()], ..Default::default() });
    let bad_origin = filter(Filter { origin: "unheard-of".into(), ..Default::default() });
    let cases = [
        (SubscribeRequest { since: "nonsense".into(), ..Default::default() }, "nonsense"),
        (SubscribeRequest { since: "e1:9".into(), ..Default::default() }, "e1:9"),
        (bad_type, "process.exce"),
        (bad_origin, "unheard-of"),
        (
            SubscribeRequest {
                when_slow: ::protobuf::EnumOrUnknown::from_i32(7),
                ..Default::default()
            },
            "7",
        ),
    ];
    for (request, named) in cases {
        let (code, message) = served.refusal(request).await;
        assert_eq!(code, Code::INVALID_ARGUMENT);
        assert!(message.contains(named), "{message:?} does not name {named:?}");
    }
    assert_eq!(served.event_log.subscribers(), 0);
}

/// Check that a subscriber beyond the limit is refused and the error names the limit.
#[tokio::test]
async fn a_subscriber_beyond_the_limit_is_refused() {
    let served = serve(1 << 20).await;
    let mut all = Vec::new();
    for _ in 0..SUBSCRIBERS_MAX {
        let mut followed = served.subscribe(SubscribeRequest::default()).await;
        followed.hello().await;
        all.push(followed);
    }
    let (code, message) = served.refusal(SubscribeRequest::default()).await;
    assert_eq!(code, Code::RESOURCE_EXHAUSTED);
    assert!(message.contains("64"), "{message}");
}

/// Check that heartbeats are empty batches, and that they free the subscription of a client that
/// has disconnected.
#[tokio::test]
async fn a_heartbeat_finds_a_disconnected_client() {
    let served = serve(1 << 20).await;
    let request = SubscribeRequest { heartbeat_ms: 100, ..Default::default() };
    let mut followed = served.subscribe(request).await;
    followed.hello().await;
    let beat = followed.batch().await.expect("a heartbeat");
    assert!(beat.events.is_empty() && beat.sent_ns > 0);
    drop(followed);
    within(async {
        while served.event_log.subscribers() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// Check that the streams of a closed event log end after the last `container.close`, and that
/// `drained` waits for that.
#[tokio::test]
async fn a_stream_ends_after_the_last_close() {
    let served = serve(1 << 20).await;
    let mut followed = served.subscribe(SubscribeRequest::default()).await;
    followed.hello().await;
    let counts = Counts { seen: Some(3), delivered: 2, lost: Some(1), runtime: 4 };
    served.event_log.publish(&mut vec![start(1), event("web", Body::ContainerClose(counts))]);
    served.event_log.close();
    served.event_log.drained(Duration::from_secs(1)).await;
    assert_eq!(followed.seqs(1).await, [1]);
    let close = followed.next().await.expect("the close");
    let Some(api::event::Body::ContainerClose(close)) = close.body else {
        panic!("{} is no close", close.type_)
    };
    assert_eq!((close.seen, close.delivered, close.lost, close.runtime), (Some(3), 2, Some(1), 4));
    assert!(followed.next().await.is_none());
}

/// Check that a subscriber that is killed repeatedly and returns with its cursor receives each
/// event once, while events are written and the journal is large enough.
#[tokio::test]
async fn a_cursor_resumes_exactly_once() {
    const EVENTS: u64 = 20_000;
    let served = serve(64 << 20).await;
    let (event_log, stop) = (served.event_log.clone(), Arc::new(AtomicBool::new(false)));
    let stopped = stop.clone();
    let writer = thread::spawn(move || {
        let mut published = 0;
        while published < EVENTS && !stopped.load(Ordering::Relaxed) {
            event_log.publish(&mut (0..10).map(start).collect());
            published += 10;
            thread::yield_now();
        }
    });
    let (mut cursor, mut lives) = ("e1:0".to_owned(), 0);
    let mut expected = 1;
    while expected <= EVENTS {
        let mut followed = served
            .subscribe(SubscribeRequest { since: cursor.clone(), ..Default::default() })
            .await;
        assert_eq!(followed.hello().await.seq, expected - 1);
        // It is dropped with unread events. The cursor has only those that were read.
        for _ in 0..=(lives * 97 % 800) {
            if expected > EVENTS {
                break;
            }
            let event = followed.next().await.expect("more");
            assert_eq!(event.seq, expected, "{}", event.type_);
            cursor = format!("{}:{}", event.epoch, event.seq);
            expected += 1;
        }
        lives += 1;
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().expect("the writer");
    assert!(lives > 10, "{lives} lives");
}

/// A connection to `address` that holds back the server's answers until `released`. A ttrpc client
/// always reads its socket, even if no event is requested, so a client alone is never slow.
fn relay(address: &str, released: Arc<Notify>) -> (String, impl Future<Output = ()>) {
    let server = address.trim_start_matches("unix://").to_owned();
    let path = format!("{server}.slow");
    let listener = UnixListener::bind(&path).expect("a socket");
    let relay = async move {
        let (client, _) = listener.accept().await.expect("the client");
        let server = UnixStream::connect(server).await.expect("the server");
        let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
            (client.into_split(), server.into_split());
        let back = async {
            released.notified().await;
            tokio::io::copy(&mut from_server, &mut to_client).await
        };
        let _ = tokio::join!(tokio::io::copy(&mut from_client, &mut to_server), back);
    };
    (format!("unix://{path}"), relay)
}

/// Check that a subscriber that does not read loses only its own events, and that each loss is
/// counted.
#[tokio::test]
async fn a_slow_subscriber_does_not_affect_another() {
    const EVENTS: u64 = 30_000;
    let served = serve(1 << 20).await;
    let released = Arc::new(Notify::new());
    let (address, relay) = relay(&served.address, released.clone());
    let test = async {
        let client = ObserverClient::new(Client::connect(&address).await.expect("a connection"));
        let stream =
            client.subscribe(context::Context::default(), &SubscribeRequest::default()).await;
        let mut slow = Followed { stream: stream.expect("a stream"), read: Vec::new().into_iter() };
        within(async {
            while served.event_log.subscribers() == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let block = SubscribeRequest {
            when_slow: SlowPolicy::BLOCK.into(),
            block_ms: 1000,
            ..Default::default()
        };
        let mut quick = served.subscribe(block).await;
        quick.hello().await;
        let event_log = served.event_log.clone();
        let writer = thread::spawn(move || {
            for _ in 0..EVENTS / 100 {
                event_log.publish(&mut (0..100).map(start).collect());
            }
        });
        for seq in 1..=EVENTS {
            assert_eq!(quick.next().await.expect("more").seq, seq);
        }
        writer.join().expect("the writer");
        released.notify_one();
        slow.hello().await;
        let (mut got, mut lost, mut last) = (0, 0, 0);
        while last < EVENTS {
            let event = slow.next().await.expect("more");
            if let Some(api::event::Body::Gap(gap)) = &event.body {
                assert_eq!(
                    (event.seq, gap.stage.as_str(), event.epoch.as_str()),
                    (0, "subscriber", "e1")
                );
                lost += gap.lost.expect("counted");
            } else {
                assert!(event.seq > last);
                last = event.seq;
                got += 1;
            }
        }
        assert_eq!(got + lost, EVENTS);
        assert!(lost > 0, "the socket was larger than the events");
    };
    tokio::select! {
        () = test => {}
        () = relay => panic!("the relay ended"),
    }
}

/// Check that Exits reports what go-runc would, of the requested container.
#[tokio::test]
async fn exits_are_reported_as_go_runc_does() {
    let served = serve(1 << 20).await;
    let request = api::ExitsRequest { container_id: "web".into(), ..Default::default() };
    let mut stream =
        served.client().await.exits(context::Context::default(), &request).await.expect("a stream");
    let first = within(stream.recv()).await.expect("no error").expect("a first batch");
    assert!(first.exits.is_empty());
    let neighbour = event("db", exit(9, None).body);
    let ends = [Some(Ended::Code(5)), Some(Ended::Signal(9)), None];
    let mut events: Vec<_> =
        ends.into_iter().zip(1..).map(|(ended, pid)| exit(pid, ended)).collect();
    events.push(neighbour);
    served.event_log.publish(&mut events);
    served.event_log.close();
    let mut received = Vec::new();
    while let Some(batch) = within(stream.recv()).await.expect("no error") {
        received.extend(
            batch
                .exits
                .into_iter()
                .map(|exit| (exit.pid, exit.status, exit.timestamp_ns, exit.exec_id)),
        );
    }
    assert_eq!(
        received,
        [(1, 5), (2, 137), (3, 255)].map(|(pid, status)| (pid, status, 6, "probe".to_owned()))
    );
}

/// Check that Processes answers with the living processes, and refuses an unknown container.
#[tokio::test]
async fn processes_are_the_living_ones() {
    let web = Arc::new(Container {
        id: "web".into(),
        cgroup: "/default/web".into(),
        ..Container::default()
    });
    let living = vec![(web, Arc::new(process(7)))];
    let served = serve_with(1 << 20, Scripted { living }).await;
    let client = served.client().await;
    let request =
        |id: &str| api::ProcessesRequest { container_id: id.into(), ..Default::default() };
    let answer = client
        .processes(context::with_duration(DEADLINE), &request("web"))
        .await
        .expect("an answer");
    assert_eq!((answer.epoch.as_str(), answer.seq), ("e1", 9));
    assert_eq!(
        answer.idle.iter().map(|container| container.id.as_str()).collect::<Vec<_>>(),
        ["web"]
    );
    let process = &answer.processes.first().expect("one").process;
    assert_eq!((process.pid, process.cgroup.as_str(), process.args.len()), (7, "/default/web", 3));
    match client.processes(context::with_duration(DEADLINE), &request("db")).await {
        Err(ttrpc::Error::RpcStatus(status)) => assert_eq!(status.code(), Code::NOT_FOUND),
        other => panic!(
            "{} processes of an unknown container",
            other.map_or(0, |answer| answer.processes.len())
        ),
    }
}

/// Check that the arguments are cut in a response that would be too large, and that each process
/// shows the cut.
#[tokio::test]
async fn a_large_response_has_its_arguments_cut() {
    let web = Arc::new(Container { id: "web".into(), ..Container::default() });
    let mut long = process(7);
    let args = Args::from_nul_separated(&b"0123456\0".repeat(512));
    long.image = Arc::new(Image { args: Some(args), ..(*long.image).clone() });
    let served = serve_with(1 << 20, Scripted { living: vec![(web, Arc::new(long)); 2000] }).await;
    let answer = served
        .client()
        .await
        .processes(context::with_duration(DEADLINE), &Default::default())
        .await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.processes.len(), 2000);
    for entry in &answer.processes {
        let process = &entry.process;
        assert!(
            process.args_truncated && process.args.len() < 40 && process.args_count == Some(512)
        );
    }
}

/// Check that Capabilities lists every category in order.
#[tokio::test]
async fn capabilities_are_listed_in_order() {
    let served = serve(1 << 20).await;
    let answer = served
        .client()
        .await
        .capabilities(context::with_duration(DEADLINE), &Default::default())
        .await;
    let categories = answer.expect("an answer").categories;
    let listed: Vec<_> = categories
        .iter()
        .map(|capability| (capability.category.as_str(), capability.support.as_str()))
        .collect();
    assert_eq!(
        listed,
        ["lifecycle", "file", "network", "process"].map(|category| (category, "partial"))
    );
}
