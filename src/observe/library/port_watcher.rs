//! The library's watch over the ports of a process and of all that descends from it, outside any
//! container.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::{self, JoinHandle},
};

use super::detector::DetectorError;
use crate::{
    model::{Body, Endpoint, Grade, Owner},
    observe::{
        node,
        pipeline::{Inbox, Pipeline},
        record::TargetId,
        source::{Source, SourceError, Target},
        track::Emission,
    },
};

/// A port of the tree opened or closed.
#[derive(Debug, Clone, PartialEq)]
pub struct PortEvent {
    /// Whether it opened.
    pub is_open: bool,
    /// Protocol, address and port.
    pub endpoint: Endpoint,
    /// The first of the owners.
    pub pid: Option<i32>,
    /// Who holds it, as far as that is known.
    pub owners: Vec<Owner>,
    /// [`Grade::Snapshot`] for what was open when the watch began, and for everything where there
    /// is no eBPF.
    pub grade: Grade,
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub monotonic_ns: u64,
}

/// Tells each port that a process or one of its descendants opens and closes to a callback: first
/// what is open already of TCP, then what happens, until it is stopped.
///
/// With eBPF (as root) nothing is missed, however short. Without it the kernel's list of sockets is
/// asked for: soon after something happened to a process, at once after a listener has gone where
/// that may be heard, and every two seconds in any case.
///
/// ```
/// use std::{net::TcpListener, sync::mpsc, time::Duration};
/// use lookout::observe::PortWatcher;
///
/// let (sender, events) = mpsc::channel();
/// let mut watcher = PortWatcher::new(std::process::id().cast_signed(), move |event| drop(sender.send(event.clone())));
/// watcher.start()?;
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let port = listener.local_addr()?.port();
/// let opened = events.recv_timeout(Duration::from_secs(10))?;
/// assert!(opened.is_open && opened.endpoint.port == port);
/// assert_eq!(opened.pid, Some(std::process::id().cast_signed()));
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
    /// Watches nothing yet. The callback runs on a thread of the watcher's own.
    #[must_use]
    pub fn new(pid: i32, callback: impl FnMut(&PortEvent) + Send + 'static) -> Self {
        Self { pid, callback: Some(Box::new(callback)), running: None }
    }

    /// Tells what is open, and from now on what opens and closes. Started again, it does nothing.
    ///
    /// # Errors
    ///
    /// [`DetectorError::Source`] where there is no such process, [`DetectorError::Start`].
    pub fn start(&mut self) -> Result<(), DetectorError> {
        let mut refused = SourceError::Missing { what: "a source of ports on this system" };
        for open in node::PORT_SOURCES {
            match open().map_err(DetectorError::Source).and_then(|source| self.start_over(source)) {
                // What one refuses may be had in the other way, and what is wrong with the process
                // is wrong there too.
                Err(DetectorError::Source(why)) => refused = why,
                other => return other,
            }
        }
        Err(refused.into())
    }

    /// As [`start`](Self::start), over this source.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
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
        let orders = inbox.clone();
        let thread = thread::Builder::new().name("ports".into()).spawn(move || {
            // A callback that panics ends its own watch.
            let _ = catch_unwind(AssertUnwindSafe(|| run(pipeline, &orders, &mut callback)));
            callback
        });
        self.running = Some((inbox, thread.map_err(DetectorError::Start)?));
        Ok(())
    }

    /// Ends it, after the callback that runs. It can be started again.
    pub fn stop(&mut self) {
        if let Some((inbox, thread)) = self.running.take() {
            // A thread that has ended reads no more.
            let _ = inbox.put(());
            self.callback = thread.join().ok();
        }
    }

    fn pipeline(&self, source: Box<dyn Source>) -> Result<Pipeline, DetectorError> {
        let own = i32::try_from(std::process::id()).unwrap_or_default();
        let mut pipeline = Pipeline::new(source, own).map_err(DetectorError::Start)?;
        let id = TargetId::of_this_process(u64::from(std::process::id()));
        pipeline.watch(id, Target::Tree { pid: self.pid }, None, None, 0)?;
        pipeline.watch_ports(id, self.pid, "", true);
        pipeline.look(id);
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
    orders: &Inbox<()>,
    callback: &mut Callback,
) -> Result<(), SourceError> {
    loop {
        // Whether finding nothing means that there is nothing.
        let mut rested = true;
        loop {
            if !orders.take().is_empty() {
                return Ok(());
            }
            let more = pipeline.read()?;
            let busy = pipeline.track();
            pipeline.ask_reaped();
            pipeline.look_again();
            tell(&mut pipeline, callback);
            rested &= !busy && !more;
            if rested {
                break;
            }
            rested = !more && pipeline.rest(orders.waker());
        }
        pipeline.wait(orders.waker());
    }
}

fn tell(pipeline: &mut Pipeline, callback: &mut Callback) {
    for Emission { at_ns, grade, body, .. } in pipeline.take_told() {
        let (is_open, port) = match body {
            Body::PortOpen(port) => (true, port),
            Body::PortClose(port) => (false, port),
            _ => continue,
        };
        let pid = port.owners.first().map(|owner| owner.key.pid);
        let (endpoint, owners) = (port.endpoint, port.owners.clone());
        callback(&PortEvent { is_open, endpoint, pid, owners, grade, monotonic_ns: at_ns });
    }
}

#[cfg(test)]
mod tests;
