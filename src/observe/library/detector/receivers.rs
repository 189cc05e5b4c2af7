//! The events of a detector, and the channels that deliver them.

use std::{
    sync::{Arc, mpsc},
    time::{Duration, SystemTime},
};

use super::DetectorError;
use crate::model::{Ended, Exit, Grade, Process, ProcessKey};

/// The number of events that one receiver holds. Further events are lost and counted.
pub(super) const QUEUE_CAPACITY: usize = 1024;

/// A process was forked, or runs a new image.
#[derive(Debug, Clone, PartialEq)]
pub struct ProcessEvent {
    /// The fork that made the process. It is also set in the event of each exec of the process.
    /// `None` if the fork was not observed.
    pub fork: Option<ForkSeen>,
    /// The exec; `None` if this is the event of the fork.
    pub exec: Option<ExecSeen>,
    /// The process, with its image, its parent and its origin.
    pub process: Arc<Process>,
    /// How exact the event is.
    pub grade: Grade,
}

/// The facts of one fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForkSeen {
    /// The pid of the parent; `None` if it is unknown.
    pub parent_pid: Option<i32>,
    /// The key of the child.
    pub child: ProcessKey,
    /// The time of the event: `CLOCK_MONOTONIC`, in nanoseconds.
    pub monotonic_ns: u64,
}

/// The facts of one exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecSeen {
    /// The pid of the process.
    pub pid: i32,
    /// The time of the event: `CLOCK_MONOTONIC`, in nanoseconds.
    pub monotonic_ns: u64,
}

/// A process is done: it was reaped, and no surviving process holds its stdout or stderr.
#[derive(Debug, Clone, PartialEq)]
pub struct DoneEvent {
    /// The process that is done.
    pub process: Arc<Process>,
    /// The time of the event: `CLOCK_MONOTONIC`, in nanoseconds.
    pub monotonic_ns: u64,
    /// The time from the exit to done.
    pub after_exit: Duration,
}

/// The receivers of a detector's events. A dropped receiver affects no other.
#[derive(Debug)]
pub struct Receivers {
    /// Forks and execs, of targets with [`Flags::fork`](super::Flags::fork) or
    /// [`Flags::exec`](super::Flags::exec).
    pub processes: mpsc::Receiver<ProcessEvent>,
    /// Done events, of targets with [`Flags::exit`](super::Flags::exit).
    pub done: mpsc::Receiver<DoneEvent>,
    /// Exits, with the status as go-runc reports it. The exit of a process that was only found
    /// missing is left out, because its status is unknown.
    pub exits: mpsc::Receiver<Exit>,
    /// Losses and failures. At most 1024 wait; further ones are dropped.
    pub errors: mpsc::Receiver<DetectorError>,
}

/// The sending sides of [`Receivers`].
pub(super) struct Senders {
    processes: CountingSender<ProcessEvent>,
    done: CountingSender<DoneEvent>,
    exits: CountingSender<Exit>,
    errors: mpsc::SyncSender<DetectorError>,
}

/// A sender that counts the events which its full receiver misses.
struct CountingSender<T> {
    sender: mpsc::SyncSender<T>,
    missed: u64,
}

impl Senders {
    pub(super) fn new() -> (Self, Receivers) {
        let (processes, from_processes) = CountingSender::new();
        let (done, from_done) = CountingSender::new();
        let (exits, from_exits) = CountingSender::new();
        // Errors that do not fit are not counted: a caller with 1024 unread errors knows enough.
        let (errors, from_errors) = mpsc::sync_channel(QUEUE_CAPACITY);
        let receivers = Receivers {
            processes: from_processes,
            done: from_done,
            exits: from_exits,
            errors: from_errors,
        };
        (Self { processes, done, exits, errors }, receivers)
    }

    pub(super) fn process(&mut self, event: ProcessEvent) {
        let lost = self.processes.send(event);
        self.full("processes", lost);
    }

    pub(super) fn done(&mut self, event: DoneEvent) {
        let lost = self.done.send(event);
        self.full("done", lost);
    }

    pub(super) fn exit(&mut self, pid: i32, ended: Ended, realtime_ns: u64) {
        let timestamp = SystemTime::UNIX_EPOCH + Duration::from_nanos(realtime_ns);
        let lost = self.exits.send(Exit { timestamp, pid, ended });
        self.full("exits", lost);
    }

    fn full(&self, what: &'static str, missed: u64) {
        if missed > 0 {
            self.error(DetectorError::Full { what, missed });
        }
    }

    pub(super) fn error(&self, error: DetectorError) {
        let _ = self.errors.try_send(error);
    }
}

impl<T> CountingSender<T> {
    fn new() -> (Self, mpsc::Receiver<T>) {
        // The channel is bounded: `send` counts the events that do not fit.
        let (sender, receiver) = mpsc::sync_channel(QUEUE_CAPACITY);
        (Self { sender, missed: 0 }, receiver)
    }

    /// Sends an event, or counts it as missed if the receiver is full. Returns the number of events
    /// that were missed before this one, if it was sent.
    fn send(&mut self, event: T) -> u64 {
        match self.sender.try_send(event) {
            Ok(()) => std::mem::take(&mut self.missed),
            Err(mpsc::TrySendError::Full(_)) => {
                self.missed += 1;
                0
            }
            // The caller has dropped the receiver, so it is not interested in the count either.
            Err(mpsc::TrySendError::Disconnected(_)) => 0,
        }
    }
}
