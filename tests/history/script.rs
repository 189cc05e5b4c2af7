//! Scripted shims: they emit events at a rate, keep the newest in a journal, and serve Subscribe.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use lookout::{
    api::{
        Container, ContainerStart, Ended, Event, EventBatch, Gap, Hello, Kubernetes, Parent,
        Process, SubscribeRequest,
        event::Body,
        observer::{Observer, create_observer},
    },
    linux::process::start_ticks,
};
use tokio::sync::oneshot;
use ttrpc::r#async::{Server, ServerStreamSender, TtrpcContext};

/// The time of the event before the first one.
pub(crate) const BEGAN_NS: u64 = 1_795_000_000_000_000_000;

/// The time between two events of a shim, in their own times, unless a test needs another one.
pub(crate) const SPACING_NS: u64 = 1_000_000;

/// The events of one message, as of a shim.
const MESSAGE_EVENTS: u64 = 256;

/// What a scripted shim emits.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    /// The shim's id and that of its first container.
    pub(crate) id: String,
    /// Events a second.
    pub(crate) rate: u64,
    /// How many events it keeps for subscribers that are behind.
    pub(crate) kept: u64,
    /// A hole: the shim omits these numbers, without a gap.
    pub(crate) hole: std::ops::Range<u64>,
    /// The time of the event before the first one.
    pub(crate) began_ns: u64,
    /// The time between two events, in their own times.
    pub(crate) spacing_ns: u64,
    /// How many bytes an argument of each process has in addition.
    pub(crate) extra_bytes: usize,
}

/// A shim that serves in this process. Dropping it stops it and removes its registration.
pub(crate) struct Shim {
    pub(crate) script: Script,
    shared: Arc<Shared>,
    registration: PathBuf,
    server: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

struct Shared {
    script: Script,
    began: Instant,
    /// It emits no more than this number of events.
    last: AtomicU64,
}

impl Script {
    pub(crate) fn new(id: &str, rate: u64) -> Self {
        Self {
            id: id.into(),
            rate,
            kept: u64::MAX,
            hole: 0..0,
            began_ns: BEGAN_NS,
            spacing_ns: SPACING_NS,
            extra_bytes: 0,
        }
    }

    pub(crate) fn epoch(&self) -> String {
        format!("{:024x}", self.id.bytes().fold(7_u64, |all, byte| all * 31 + u64::from(byte)))
    }

    /// The id of a container, as long as one of Kubernetes.
    pub(crate) fn container_id(&self) -> String {
        format!("{:0>64}", self.id)
    }

    /// The event with this number. A container runs short commands: three events for each.
    pub(crate) fn event(&self, seq: u64) -> Event {
        let time_ns = self.began_ns + seq * self.spacing_ns;
        let id = self.container_id();
        let k8s = Kubernetes {
            namespace: "shop".into(),
            pod_name: format!("{}-7d4b9c8f6d-x2x4z", self.id),
            pod_uid: "8d1f3c60-2f0d-4a5e-9a44-0c9b7e0d0c11".into(),
            container_name: "main".into(),
            ..Default::default()
        };
        let container = Container {
            namespace: "k8s.io".into(),
            id: id.clone(),
            k8s: Some(k8s).into(),
            ..Default::default()
        };
        let (type_, body) = match seq {
            1 => {
                let start = ContainerStart { init_pid: 4000, ..Default::default() };
                ("container.start", Body::ContainerStart(start))
            }
            _ => (
                ["process.fork", "process.exec", "process.exit"][usize::try_from(seq % 3).unwrap()],
                Body::Process(self.process(seq, &id)),
            ),
        };
        Event {
            seq,
            epoch: self.epoch(),
            type_: type_.into(),
            time_ns,
            monotonic_ns: seq * self.spacing_ns,
            grade: "exact".into(),
            source: "bpf".into(),
            container: Some(container).into(),
            body: Some(body),
            ..Default::default()
        }
    }

    fn process(&self, seq: u64, id: &str) -> Process {
        let number = i32::try_from(seq / 3 % 60_000).unwrap();
        let (pid, is_exit) = (5000 + number, seq % 3 == 2);
        let ended = Ended {
            code: Some(u32::from(number % 7 == 0)),
            status: Some(u32::from(number % 7 == 0)),
            ..Default::default()
        };
        // Sometimes an argument is not UTF-8.
        let mut last =
            if number % 50 == 0 { b"caf\xe9".to_vec() } else { format!("/tmp/{seq}").into() };
        last.resize(last.len() + self.extra_bytes, b'x');
        Process {
            pid,
            vpid: Some(number + 2),
            parent_pid: 4000,
            entity_id: format!("c0ffee00{pid:08x}{:x}", 252_000 + seq / 3),
            created_ns: BEGAN_NS + seq / 3 * 3 * SPACING_NS,
            origin: if number % 10 == 0 { "exec" } else { "descendant" }.into(),
            exec_id: if number % 10 == 0 { "probe".into() } else { String::new() },
            executable: Some(b"/usr/bin/curl".to_vec()),
            args: vec![b"curl".to_vec(), b"--silent".to_vec(), b"--output".to_vec(), last],
            args_count: Some(4),
            args_bytes: Some(40),
            working_directory: Some(b"/srv".to_vec()),
            uid: Some(1000),
            gid: Some(1000),
            cgroup: format!("/kubepods.slice/kubepods-besteffort.slice/cri-containerd-{id}.scope"),
            parent: Some(Parent {
                pid: 4000,
                entity_id: format!("c0ffee00{:08x}{:x}", 4000, 251_000),
                executable: Some(b"/bin/sh".to_vec()),
                ..Default::default()
            })
            .into(),
            ended: is_exit.then_some(ended).into(),
            comm: Some(b"curl".to_vec()),
            ..Default::default()
        }
    }
}

impl Shim {
    /// Starts a shim and registers it when it serves.
    pub(crate) fn start(runtime_dir: &Path, script: Script) -> Self {
        let began = Instant::now();
        let shared =
            Arc::new(Shared { script: script.clone(), began, last: AtomicU64::new(u64::MAX) });
        let socket = runtime_dir.join(format!("{}.sock", script.id));
        // A shim of the same id before has left its socket.
        let _ = fs::remove_file(&socket);
        let address = format!("unix://{}", socket.display());
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (bound, served) = (address.clone(), Service(shared.clone()));
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut server = Server::new()
                    .bind(&bound)
                    .unwrap()
                    .register_service(create_observer(Arc::new(served)));
                server.start().await.unwrap();
                ready.send(()).unwrap();
                let _ = stopped.await;
            });
        });
        is_ready.recv_timeout(Duration::from_secs(10)).expect("it serves");
        let registration = register(runtime_dir, &script, &address);
        Self { script, shared, registration, server: Some((stop, thread)) }
    }

    /// The number of its last event until now.
    pub(crate) fn last(&self) -> u64 {
        self.shared.emitted()
    }

    /// Emits no further events. Returns the number of the last one.
    pub(crate) fn finish(&self) -> u64 {
        let last = self.last();
        self.finish_at(last);
        last
    }

    /// Emits no events beyond this number.
    pub(crate) fn finish_at(&self, last: u64) {
        self.shared.last.store(last, Ordering::Relaxed);
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.registration);
        if let Some((stop, thread)) = self.server.take() {
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}

/// Registers a shim that runs in this process.
fn register(runtime_dir: &Path, script: &Script, address: &str) -> PathBuf {
    let pid = std::process::id();
    let text = serde_json::json!({
        "pid": pid,
        "start": start_ticks(i32::try_from(pid).unwrap()).unwrap(),
        "address": address,
        "epoch": script.epoch(),
        "version": "0.1.0",
    });
    let shims = runtime_dir.join("shims/k8s.io");
    fs::create_dir_all(&shims).unwrap();
    // Write and rename, as a shim does: the daemon may read the directory at any moment.
    let part = shims.join(format!(".{}", script.id));
    fs::write(&part, text.to_string()).unwrap();
    let path = shims.join(format!("{}.json", script.id));
    fs::rename(&part, &path).unwrap();
    path
}

impl Shared {
    fn emitted(&self) -> u64 {
        let emitted =
            self.began.elapsed().as_nanos() * u128::from(self.script.rate) / 1_000_000_000;
        u64::try_from(emitted).unwrap().min(self.last.load(Ordering::Relaxed))
    }
}

struct Service(Arc<Shared>);

#[async_trait]
impl Observer for Service {
    async fn subscribe(
        &self,
        _: &TtrpcContext,
        request: SubscribeRequest,
        sender: ServerStreamSender<EventBatch>,
    ) -> ttrpc::Result<()> {
        let script = &self.0.script;
        let since = request.since.rsplit_once(':');
        let mut sent: u64 = since.map_or(0, |(_, seq)| seq.parse().unwrap());
        sender.send(&batch(vec![own(script, "hello", Body::Hello(Hello::default()))])).await?;
        let mut is_new = true;
        let heartbeat = Duration::from_millis(u64::from(request.heartbeat_ms.max(100)));
        let mut said = Instant::now();
        loop {
            let emitted = self.0.emitted();
            let mut events = Vec::new();
            let oldest = emitted.saturating_sub(script.kept) + 1;
            if sent + 1 < oldest {
                let lost = Some(oldest - 1 - sent);
                let stage = if is_new { "journal" } else { "subscriber" }.to_owned();
                let gap = Gap { lost, stage, ..Default::default() };
                events.push(own(script, "observer.gap", Body::Gap(gap)));
                sent = oldest - 1;
            }
            is_new = false;
            let last = emitted.min(sent + MESSAGE_EVENTS);
            let numbers = (sent + 1..=last).filter(|seq| !script.hole.contains(seq));
            events.extend(numbers.map(|seq| script.event(seq)));
            sent = last;
            // An empty batch is a heartbeat: there is nothing new.
            if !events.is_empty() || said.elapsed() >= heartbeat {
                sender.send(&batch(events)).await?;
                said = Instant::now();
            }
            if sent == emitted {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

fn batch(events: Vec<Event>) -> EventBatch {
    EventBatch { events, ..Default::default() }
}

/// An event without a number.
fn own(script: &Script, type_: &str, body: Body) -> Event {
    Event {
        type_: type_.into(),
        epoch: script.epoch(),
        time_ns: script.began_ns,
        body: Some(body),
        ..Default::default()
    }
}
