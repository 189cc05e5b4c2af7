//! Observes the ports of a process and of all its descendants, without containerd.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::{self, JoinHandle},
};

use super::detector::DetectorError;
use crate::{
    model::{Body, Endpoint, Grade, NetworkNamespace, Owners},
    observe::{
        node,
        pipeline::{Inbox, Pipeline},
        record::TargetId,
        source::{Source, SourceError, Target},
        track::Emission,
    },
};

/// A port of an observed process tree opened or closed.
#[derive(Debug, Clone, PartialEq)]
pub struct PortEvent {
    /// Whether the port opened; otherwise it closed.
    pub is_open: bool,
    /// The protocol, the address and the port number.
    pub endpoint: Endpoint,
    /// The network namespace of the port. In another namespace the same endpoint is another port.
    pub network_namespace: NetworkNamespace,
    /// The pid of the first owner; `None` if no owner is known.
    pub pid: Option<i32>,
    /// The processes that hold a socket of the port, as far as they are known: how many, and the
    /// first of them.
    pub owners: Owners,
    /// How exact the event is: [`Grade::Snapshot`] for a port that was open before the start, and
    /// for every event without eBPF.
    pub grade: Grade,
    /// The time of the event: `CLOCK_MONOTONIC`, in nanoseconds.
    pub monotonic_ns: u64,
}

/// Calls a callback for each port that a process or one of its descendants opens or closes, until
/// it is stopped. The TCP ports that are open already are reported first.
///
/// With eBPF (as root) no port is missed, however short its life. Without eBPF, the kernel's list
/// of sockets is read: shortly after an event of a process, at once after a listener was destroyed
/// (if the kernel's notifications are available), and every two seconds.
///
/// ```
/// use std::{net::TcpListener, sync::mpsc, time::Duration};
/// use lookout::observe::PortWatcher;
///
/// let (sender, events) = mpsc::channel();
/// let pid = std::process::id().cast_signed();
/// let mut watcher = PortWatcher::new(pid, move |event| drop(sender.send(event.clone())));
/// watcher.start()?;
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let port = listener.local_addr()?.port();
/// let opened = events.recv_timeout(Duration::from_secs(10))?;
/// assert!(opened.is_open && opened.endpoint.port == port);
/// assert_eq!(opened.pid, Some(pid));
/// drop(listener);
/// assert!(!events.recv_timeout(Duration::from_secs(10))?.is_open);
/// watcher.stop();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct PortWatcher {
    pid: i32,
    callback: Option<Callback>,
    running: Option<(Arc<Inbox<()>>, JoinHandle<Callback>)>,
}

type Callback = Box<dyn FnMut(&PortEvent) + Send>;

impl PortWatcher {
    /// A watcher of the process `pid` that is not started. The callback runs on the watcher's own
    /// thread.
    #[must_use]
    pub fn new(pid: i32, callback: impl FnMut(&PortEvent) + Send + 'static) -> Self {
        Self { pid, callback: Some(Box::new(callback)), running: None }
    }

    /// Reports the open ports, and from now on each port that opens or closes. Does nothing if the
    /// watcher runs already.
    ///
    /// # Errors
    ///
    /// [`DetectorError::Source`] if there is no such process or no source on this system, and
    /// [`DetectorError::Start`] if the thread or its descriptors could not be made.
    pub fn start(&mut self) -> Result<(), DetectorError> {
        let mut refused = SourceError::Missing { what: "a source of ports on this system" };
        for open in node::SOURCES {
            match open().map_err(DetectorError::Source).and_then(|source| self.start_over(source)) {
                // The next source may work. If the process is the cause, the next source fails as
                // well.
                Err(DetectorError::Source(why)) => refused = why,
                other => return other,
            }
        }
        Err(refused.into())
    }

    /// Starts as [`start`](Self::start) does, with the given source.
    ///
    /// # Errors
    ///
    /// Those of [`start`](Self::start).
    pub fn start_over(&mut self, source: Box<dyn Source>) -> Result<(), DetectorError> {
        let Some(mut callback) = self.callback.take() else { return Ok(()) };
        let made = self
            .pipeline(source)
            .and_then(|pipeline| Ok((pipeline, Inbox::new().map_err(DetectorError::Start)?)));
        let (pipeline, inbox) = match made {
            Ok((pipeline, inbox)) => (pipeline, Arc::new(inbox)),
            Err(error) => {
                self.callback = Some(callback);
                return Err(error);
            }
        };
        let commands = inbox.clone();
        let thread = thread::Builder::new().name("ports".into()).spawn(move || {
            // A panic of the callback ends this thread's work and does not unwind further. The
            // callback is returned, so that the watcher can be started again.
            let _ = catch_unwind(AssertUnwindSafe(|| run(pipeline, &commands, &mut callback)));
            callback
        });
        self.running = Some((inbox, thread.map_err(DetectorError::Start)?));
        Ok(())
    }

    /// Stops the watcher and waits until a running callback has returned. The watcher can be
    /// started again.
    pub fn stop(&mut self) {
        if let Some((inbox, thread)) = self.running.take() {
            // The inbox of a thread that has ended refuses the message, which changes nothing.
            let _ = inbox.put(());
            self.callback = thread.join().ok();
        }
    }

    fn pipeline(&self, source: Box<dyn Source>) -> Result<Pipeline, DetectorError> {
        let own = i32::try_from(std::process::id()).unwrap_or_default();
        let mut pipeline = Pipeline::new(source, own).map_err(DetectorError::Start)?;
        let id = TargetId::unique();
        pipeline.watch(id, Target::Tree { pid: self.pid }, None, None, 0)?;
        // The program runs already, so its ports are listed first.
        pipeline.watch_ports(id, self.pid, "", true);
        pipeline.request_scan(id);
        Ok(pipeline)
    }
}

impl Drop for PortWatcher {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for PortWatcher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_running = self.running.is_some();
        formatter
            .debug_struct("PortWatcher")
            .field("pid", &self.pid)
            .field("is_running", &is_running)
            .finish()
    }
}

fn run(
    mut pipeline: Pipeline,
    commands: &Inbox<()>,
    callback: &mut Callback,
) -> Result<(), SourceError> {
    loop {
        // Whether an iteration that finds nothing proves that nothing is left: only after a wait,
        // or a whole rest.
        let mut collected = true;
        loop {
            if !commands.take().is_empty() {
                return Ok(());
            }
            let more = pipeline.read()?;
            let busy = pipeline.track();
            pipeline.report_reaped();
            pipeline.run_due_scans();
            deliver(&mut pipeline, callback);
            collected &= !busy && !more;
            if collected {
                break;
            }
            collected = !more && pipeline.wait_to_collect(commands.waker());
        }
        pipeline.wait(commands.waker());
    }
}

/// Calls the callback for each port among the emissions.
fn deliver(pipeline: &mut Pipeline, callback: &mut Callback) {
    for Emission { at_ns, grade, body, .. } in pipeline.take_emissions() {
        let (is_open, port) = match body {
            Body::PortOpen(port) => (true, port),
            Body::PortClose(port) => (false, port),
            _ => continue,
        };
        let pid = port.owners.named.first().map(|owner| owner.key.pid);
        callback(&PortEvent {
            is_open,
            endpoint: port.endpoint,
            network_namespace: port.network_namespace,
            pid,
            owners: port.owners.clone(),
            grade,
            monotonic_ns: at_ns,
        });
    }
}

#[cfg(test)]
mod tests;
