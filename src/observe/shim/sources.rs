//! Selects the source of process events: the best one that the settings allow and the node has.
//!
//! `bpf` is better than `connector`, which is better than `poll`. When a source ends, the next one
//! in this order replaces it. A better one than that in use is tried again, at growing intervals.

use std::{
    io,
    time::{Duration, Instant},
};

use super::{
    confine::{confine_listener, confine_loader},
    shared::Shared,
};
use crate::{
    config::{Settings, SourceChoice},
    model::Backend,
    observe::{
        capability::{Capabilities, Probes, refusal},
        source::{
            Source, SourceError,
            bpf::{self, BpfSource},
            connector::{self, ConnectorSource},
            poll::{self, PollSource},
            probe::probe_connector,
        },
    },
    registration::runtime_dir,
};

/// The verb of this binary that loads the node's eBPF programs.
pub const LOAD_PROGRAMS: &str = "load-programs";

/// The verb of this binary that runs the node's one listener on the proc connector.
pub const LISTEN_CONNECTOR: &str = "listen-connector";

/// The time after which a better source is tried again first. It doubles with each failure.
const FIRST_UPGRADE_AFTER: Duration = Duration::from_secs(10);

/// The longest time between two attempts to use a better source. Each attempt costs some 50 ms of a
/// CPU.
const LONGEST_UPGRADE_INTERVAL: Duration = Duration::from_secs(3600);

/// Runs the verb [`LOAD_PROGRAMS`]: loads and pins the programs. Called in a process of its own
/// that ends then, because loading leaves memory in use.
///
/// # Errors
///
/// [`SourceError`]: bpffs is unavailable, or the kernel refused a program.
pub fn load_programs() -> Result<(), SourceError> {
    let bpffs = bpf::bpffs()?;
    confine_loader();
    bpf::load(&bpffs)
}

/// Runs the verb [`LISTEN_CONNECTOR`] in a process of its own, until no shim needs the listener.
///
/// # Errors
///
/// The error of the socket that the kernel refused.
pub fn listen_connector() -> io::Result<()> {
    connector::serve(&runtime_dir(), confine_listener)
}

/// Opens the best source and sets the capabilities of the shim accordingly.
///
/// # Errors
///
/// The error of the last source that was tried.
pub(super) fn open(shared: &Shared) -> Result<Box<dyn Source>, SourceError> {
    open_after(shared, None)
}

/// Opens the next source after `backend`, which has ended with `error`.
///
/// # Errors
///
/// The error of the last source that was tried, or `error` if there is no further one.
pub(super) fn replace(
    shared: &Shared,
    backend: Backend,
    error: SourceError,
) -> Result<Box<dyn Source>, SourceError> {
    tracing::warn!(
        source = backend.as_str(),
        error = refusal(&error),
        "a source has ended; trying the next one"
    );
    shared.set_call_marker(None);
    open_after(shared, Some((backend, error)))
}

/// Opens the first source that works, and keeps the reason why each better source does not work.
fn open_after(
    shared: &Shared,
    ended: Option<(Backend, SourceError)>,
) -> Result<Box<dyn Source>, SourceError> {
    let wanted = allowed_sources(shared);
    // The connector may be tried again, with a new listener. Any other source that has ended is
    // skipped for now.
    let ended_for_now = ended.as_ref().filter(|(backend, _)| *backend != Backend::Connector);
    let skip =
        ended_for_now.and_then(|(backend, _)| wanted.iter().position(|wanted| wanted == backend));
    let mut probes = not_tried();
    let last = ended.map(|(backend, error)| {
        *probe_result(&mut probes, backend) = Err(format!("ended: {}", refusal(&error)));
        error
    });
    open_first(shared, &wanted[skip.map_or(0, |index| index + 1)..], probes).map_err(|error| {
        error.or(last).unwrap_or(SourceError::Missing { what: "a source of process events" })
    })
}

/// When a source that is better than the one in use is tried again. It may have failed for a reason
/// that is gone, such as a full table of processes.
#[derive(Debug)]
pub(super) struct Upgrade {
    next: Instant,
    pause: Duration,
}

impl Upgrade {
    pub(super) fn new() -> Self {
        Self { next: Instant::now() + FIRST_UPGRADE_AFTER, pause: FIRST_UPGRADE_AFTER }
    }

    /// A source that is better than the one in use, if it is time to try and one works.
    pub(super) fn take(&mut self, shared: &Shared, current: Backend) -> Option<Box<dyn Source>> {
        let wanted = allowed_sources(shared);
        let better = wanted.iter().position(|wanted| *wanted == current)?;
        if better == 0 || Instant::now() < self.next {
            return None;
        }
        let source = open_first(shared, &wanted[..better], not_tried()).ok();
        *self = match source {
            Some(_) => Self::new(),
            None => {
                let pause = (self.pause * 2).min(LONGEST_UPGRADE_INTERVAL);
                Self { next: Instant::now() + pause, pause }
            }
        };
        source
    }
}

/// The sources that the setting allows, the best first.
fn allowed_sources(shared: &Shared) -> &'static [Backend] {
    match shared.settings.source {
        SourceChoice::Auto => &[Backend::Bpf, Backend::Connector, Backend::Poll],
        SourceChoice::Bpf => &[Backend::Bpf],
        SourceChoice::Connector => &[Backend::Connector],
        SourceChoice::Poll => &[Backend::Poll],
    }
}

fn not_tried() -> Probes {
    let not_tried = || Err("not allowed by the setting `source`".to_owned());
    Probes { bpf: not_tried(), udp: false, connector: not_tried(), proc: not_tried() }
}

/// Opens the first of `candidates` that works, and sets the capabilities and the marker of runtime
/// calls accordingly. The error is that of the last candidate.
fn open_first(
    shared: &Shared,
    candidates: &[Backend],
    mut probes: Probes,
) -> Result<Box<dyn Source>, Option<SourceError>> {
    let mut last = None;
    for backend in candidates {
        match open_one(shared, *backend) {
            Ok(source) => {
                *probe_result(&mut probes, *backend) = Ok(());
                probes.udp = source.sees_udp();
                // A source other than `bpf` has read /proc by now.
                probes.proc = Ok(());
                tracing::info!(source = backend.as_str(), "observing");
                shared.set_call_marker(source.call_marker());
                shared.set_capabilities(Capabilities::from_probes(&probes).categories().to_vec());
                return Ok(source);
            }
            Err(error) => {
                let why = refusal(&error);
                tracing::info!(source = backend.as_str(), why, "a source is unavailable");
                *probe_result(&mut probes, *backend) = Err(why);
                last = Some(error);
            }
        }
    }
    Err(last)
}

fn probe_result(probes: &mut Probes, backend: Backend) -> &mut Result<(), String> {
    match backend {
        Backend::Bpf => &mut probes.bpf,
        Backend::Connector => &mut probes.connector,
        _ => &mut probes.proc,
    }
}

fn open_one(shared: &Shared, backend: Backend) -> Result<Box<dyn Source>, SourceError> {
    Ok(match backend {
        Backend::Bpf => {
            let load = &mut || shared.helpers.run(LOAD_PROGRAMS);
            let mut source = BpfSource::open(&bpf::bpffs()?, shared.settings.ring_size, load)?;
            // The setting is shared by the node's shims, so it is only ever raised.
            if shared.settings.argv_max > Settings::default().argv_max {
                source.capture_args(shared.settings.argv_max)?;
            }
            Box::new(source)
        }
        Backend::Connector => {
            // Probed here to learn the reason of a refusal: a listener that the kernel refuses ends
            // without a reason.
            probe_connector().map_err(|why| SourceError::Kernel {
                action: "listen on the proc connector",
                source: io::Error::other(why),
            })?;
            let listen = &mut || shared.helpers.start(LISTEN_CONNECTOR);
            Box::new(ConnectorSource::connect(&runtime_dir(), listen)?)
        }
        _ => Box::new(PollSource::new(poll::SCAN_INTERVAL)),
    })
}
