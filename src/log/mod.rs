//! The log, with one line per record. The shim writes it to the fifo `log`, which containerd reads;
//! the daemon writes it to stderr.
//!
//! The lines are logfmt, the form of containerd's own log. Every value is quoted and escaped, so
//! text from a container or a runtime cannot forge a line. Writing to the fifo never blocks: when
//! the fifo is full because containerd does not read, lines are dropped. Each line is limited in
//! its rate; a line after suppressed ones says how many they were (`suppressed`).

mod limit;

use std::{
    fmt::{self, Write as _},
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::{
        fd::AsFd as _,
        unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    },
    sync::{Mutex, PoisonError},
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    callsite::Identifier,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
};

use self::limit::Limiter;
use crate::{
    clock::{monotonic_ns, realtime_ns},
    model::rfc3339,
};

/// Sends the log records of this process, up to `level`, to the fifo `log` in the working
/// directory. Without such a fifo nothing is logged.
pub fn to_fifo(level: LevelFilter) {
    let Some(fifo) = open() else { return };
    install(fifo, level);
}

/// Sends all log records of this process to its stderr.
pub fn to_stderr() {
    // The logger owns a duplicate of stderr's descriptor. If the descriptors of this process have
    // run out, nothing is logged.
    let Ok(stderr) = io::stderr().as_fd().try_clone_to_owned() else { return };
    install(stderr.into(), Level::INFO.into());
}

fn install(file: File, max: LevelFilter) {
    let limiter = Mutex::new(Limiter::new());
    // This fails only if a subscriber is installed already.
    let _ = tracing::subscriber::set_global_default(Logger { file, max, limiter });
}

/// Opens the fifo for writing and for reading, so that a write does not fail with EPIPE while
/// containerd restarts. Neither the open nor a write blocks.
fn open() -> Option<File> {
    let mut open = OpenOptions::new();
    open.read(true).write(true).custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW);
    open.open("log")
        .ok()
        .filter(|file| file.metadata().is_ok_and(|meta| meta.file_type().is_fifo()))
}

struct Logger {
    file: File,
    max: LevelFilter,
    limiter: Mutex<Limiter<Identifier>>,
}

impl Subscriber for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= self.max
    }

    fn event(&self, event: &Event<'_>) {
        let origin = event.metadata().callsite();
        // The limits are valid after each change, so a poisoned lock stays in use.
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(suppressed) = limiter.admit(origin, monotonic_ns()) else { return };
        drop(limiter);
        let mut line = Line(String::with_capacity(160));
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        let _ = write!(line.0, "time=\"{}\" level={level}", rfc3339(realtime_ns()));
        event.record(&mut line);
        if suppressed > 0 {
            let _ = write!(line.0, " suppressed=\"{suppressed}\"");
        }
        line.0.push('\n');
        // One write per line, which is atomic up to PIPE_BUF. If the fifo is full (EAGAIN), the
        // line is dropped.
        let _ = (&self.file).write(line.0.as_bytes());
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let name = if field.name() == "message" { "msg" } else { field.name() };
        let text = format!("{value:?}");
        let _ = write!(self.0, " {name}=\"{}\"", text.escape_debug());
    }
}
