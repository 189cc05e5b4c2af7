//! A fake of containerd's events service that records events and can misbehave.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use containerd_shim_protos::{
    events::task as events,
    protobuf::Message,
    shim::{event::Envelope, events::ForwardRequest},
    ttrpc::{
        get_status,
        proto::{
            Code, MESSAGE_HEADER_LENGTH, MESSAGE_TYPE_RESPONSE, MessageHeader, Request, Response,
        },
    },
};

use super::deadline::PATIENCE;

/// A fake containerd that receives events at a socket and records them in order.
#[derive(Debug)]
pub(crate) struct Daemon {
    path: PathBuf,
    shared: Arc<Shared>,
}

/// How it handles an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Records and acknowledges it.
    Acknowledge,
    /// Records it and never answers.
    Swallow,
    /// Records it and answers with this code.
    Refuse(Code),
    /// Records it and closes the connection without an answer.
    HangUp,
    /// Does not even read it.
    Stall,
}

/// One received event.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// When it was received.
    pub(crate) at: Instant,
    /// A one-line summary without parts that differ from run to run: `exit web web 137`.
    pub(crate) line: String,
    /// The pid in the event, or 0.
    pub(crate) pid: u32,
    pub(crate) envelope: Envelope,
}

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug)]
struct Inner {
    behaviour: Behaviour,
    events: Vec<Event>,
    /// Open connections; empty while it does not listen.
    connections: Vec<UnixStream>,
    listening: bool,
    /// How often a client connected.
    accepted: usize,
}

impl Daemon {
    /// Listens at `path`.
    pub(crate) fn listen(path: &Path) -> Self {
        let inner = Inner {
            behaviour: Behaviour::Acknowledge,
            events: Vec::new(),
            connections: Vec::new(),
            listening: false,
            accepted: 0,
        };
        let shared = Arc::new(Shared { inner: Mutex::new(inner), changed: Condvar::new() });
        let daemon = Self { path: path.to_owned(), shared };
        daemon.listen_again();
        daemon
    }

    pub(crate) fn set_behaviour(&self, behaviour: Behaviour) {
        self.shared.lock().behaviour = behaviour;
        self.shared.changed.notify_all();
    }

    /// Closes all connections and the socket, as when a daemon is killed.
    pub(crate) fn stop_listening(&self) {
        let mut inner = self.shared.lock();
        inner.listening = false;
        for connection in inner.connections.drain(..) {
            let _ = connection.shutdown(std::net::Shutdown::Both);
        }
        drop(inner);
        // Wakes the accepting thread, which then ends.
        let _ = UnixStream::connect(&self.path);
        let _ = fs::remove_file(&self.path);
        self.shared.changed.notify_all();
    }

    /// Listens again. Recorded events are kept.
    pub(crate) fn listen_again(&self) {
        let listener = UnixListener::bind(&self.path).expect("the path is the test's own");
        self.shared.lock().listening = true;
        let shared = self.shared.clone();
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let mut inner = shared.lock();
                if !inner.listening {
                    return;
                }
                inner.accepted += 1;
                inner.connections.push(connection.try_clone().expect("there are descriptors left"));
                drop(inner);
                let shared = shared.clone();
                thread::spawn(move || shared.serve(connection));
            }
        });
    }

    /// All events so far.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.shared.lock().events.clone()
    }

    /// The summary lines of all events so far.
    pub(crate) fn event_lines(&self) -> Vec<String> {
        self.events().into_iter().map(|event| event.line).collect()
    }

    /// How often a client connected.
    pub(crate) fn accepted(&self) -> usize {
        self.shared.lock().accepted
    }

    /// Waits for the first event with this summary line.
    #[track_caller]
    pub(crate) fn wait_for(&self, line: &str) -> Event {
        let found = |events: &[Event]| events.iter().find(|event| event.line == line).cloned();
        self.wait_until(&format!("the event {line:?}"), PATIENCE, found)
    }

    /// Waits until `count` events are recorded, and returns their summary lines.
    #[track_caller]
    pub(crate) fn wait_for_count(&self, count: usize) -> Vec<String> {
        let found = |events: &[Event]| (events.len() >= count).then(|| events.to_vec());
        let events = self.wait_until(&format!("{count} events"), PATIENCE, found);
        events.into_iter().map(|event| event.line).collect()
    }

    /// Waits until `found` returns a value for the events so far.
    #[track_caller]
    pub(crate) fn wait_until<T>(
        &self,
        what: &str,
        within: Duration,
        found: impl Fn(&[Event]) -> Option<T>,
    ) -> T {
        let begin = Instant::now();
        let mut inner = self.shared.lock();
        loop {
            if let Some(found) = found(&inner.events) {
                return found;
            }
            let lines = || inner.events.iter().map(|event| event.line.as_str()).collect::<Vec<_>>();
            let left = within.checked_sub(begin.elapsed());
            let left = left.unwrap_or_else(|| {
                panic!("waited {within:?} in vain for {what}, have {:?}", lines())
            });
            inner = self.shared.changed.wait_timeout(inner, left).unwrap().0;
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop_listening();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A test that panics with the lock held must still be able to stop this daemon.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, mut connection: UnixStream) {
        loop {
            {
                let mut inner = self.lock();
                while inner.behaviour == Behaviour::Stall && inner.listening {
                    inner = self.changed.wait(inner).unwrap();
                }
            }
            let Ok((stream, request)) = read_request(&mut connection) else { return };
            let behaviour = self.record(&request);
            let status = match behaviour {
                Behaviour::Acknowledge | Behaviour::Stall => get_status(Code::OK, ""),
                Behaviour::Refuse(code) => get_status(code, "as the test requests"),
                Behaviour::Swallow => continue,
                Behaviour::HangUp => {
                    let _ = connection.shutdown(std::net::Shutdown::Both);
                    return;
                }
            };
            let response = Response { status: Some(status).into(), ..Default::default() };
            if write_response(&mut connection, stream, &response).is_err() {
                return;
            }
        }
    }

    fn record(&self, request: &Request) -> Behaviour {
        assert_eq!(request.service, "containerd.services.events.ttrpc.v1.Events");
        assert_eq!(request.method, "Forward");
        let forward = ForwardRequest::parse_from_bytes(&request.payload).expect("a ForwardRequest");
        let event = Event::new(forward.envelope.into_option().expect("an envelope"));
        let mut inner = self.lock();
        // Only task events are recorded. Events of the observer have tests of their own; for
        // example, a container of the scripted runtime has no cgroup of its own, so it gets a gap
        // event.
        if !event.envelope.topic.starts_with("/lookout/") {
            inner.events.push(event);
            self.changed.notify_all();
        }
        inner.behaviour
    }
}

impl Event {
    pub(crate) fn new(envelope: Envelope) -> Self {
        let any = envelope.event.as_ref().expect("an envelope holds an event");
        let (line, pid) = line(&any.type_url, &any.value);
        Self { at: Instant::now(), line, pid, envelope }
    }

    /// Decodes its message.
    pub(crate) fn message<T: Message>(&self) -> T {
        T::parse_from_bytes(&self.envelope.event.value)
            .expect("the event is of the type that the test expects")
    }
}

fn line(type_url: &str, value: &[u8]) -> (String, u32) {
    fn parse<T: Message>(value: &[u8]) -> T {
        T::parse_from_bytes(value).expect("the value is of the type that its URL names")
    }
    match type_url {
        "containerd.events.TaskCreate" => {
            let event = parse::<events::TaskCreate>(value);
            (format!("create {}", event.container_id), event.pid)
        }
        "containerd.events.TaskStart" => {
            let event = parse::<events::TaskStart>(value);
            (format!("start {}", event.container_id), event.pid)
        }
        "containerd.events.TaskExecAdded" => {
            let event = parse::<events::TaskExecAdded>(value);
            (format!("exec-added {} {}", event.container_id, event.exec_id), 0)
        }
        "containerd.events.TaskExecStarted" => {
            let event = parse::<events::TaskExecStarted>(value);
            (format!("exec-started {} {}", event.container_id, event.exec_id), event.pid)
        }
        "containerd.events.TaskExit" => {
            let event = parse::<events::TaskExit>(value);
            (format!("exit {} {} {}", event.container_id, event.id, event.exit_status), event.pid)
        }
        "containerd.events.TaskDelete" => {
            let event = parse::<events::TaskDelete>(value);
            (format!("delete {} {}", event.container_id, event.exit_status), event.pid)
        }
        "containerd.events.TaskOOM" => {
            (format!("oom {}", parse::<events::TaskOOM>(value).container_id), 0)
        }
        "containerd.events.TaskPaused" => {
            (format!("paused {}", parse::<events::TaskPaused>(value).container_id), 0)
        }
        "containerd.events.TaskResumed" => {
            (format!("resumed {}", parse::<events::TaskResumed>(value).container_id), 0)
        }
        other => (format!("unexpected {other}"), 0),
    }
}

/// Reads one ttrpc frame: its stream id and the request.
fn read_request(connection: &mut UnixStream) -> io::Result<(u32, Request)> {
    let mut header = [0; MESSAGE_HEADER_LENGTH];
    connection.read_exact(&mut header)?;
    let header = MessageHeader::from(header);
    let mut body = vec![0; usize::try_from(header.length).map_err(io::Error::other)?];
    connection.read_exact(&mut body)?;
    Ok((header.stream_id, Request::parse_from_bytes(&body)?))
}

fn write_response(
    connection: &mut UnixStream,
    stream_id: u32,
    response: &Response,
) -> io::Result<()> {
    let body = response.write_to_bytes()?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let header = MessageHeader { length, stream_id, type_: MESSAGE_TYPE_RESPONSE, flags: 0 };
    let mut frame = Vec::from(header);
    frame.extend(body);
    connection.write_all(&frame)
}
