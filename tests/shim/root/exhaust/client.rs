//! Clients of a shim: one that waits for its answer, one that leaves at once, and one that asks for
//! the state all the time.

use std::{
    io::Write as _,
    os::unix::net::UnixStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use containerd_shim_protos::{
    protobuf::Message,
    ttrpc::proto::{MESSAGE_TYPE_REQUEST, MessageHeader},
};
use nix::sys::{
    signal::Signal,
    socket::{MsgFlags, recv},
};

use super::scene::Scene;
use crate::harness::{Failure, Task, deadline};

/// The longest time for an answer, as of a client with a deadline.
pub(super) const CALL: Duration = Duration::from_secs(2);

/// The longest time of State (promise P3).
const STATE: Duration = Duration::from_millis(100);

/// The pause between two calls of State.
const PAUSE: Duration = Duration::from_millis(10);

/// So many late answers in a row, or one that is this late, are the shim's; less may be the
/// machine's, which runs four cells at a time.
const LATE: usize = 3;
const HUNG: Duration = Duration::from_secs(1);

/// What the client of an operation got, and after how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// `None` if it succeeded.
    pub(super) failure: Option<String>,
    pub(super) after: Duration,
}

impl Answer {
    /// Makes a call and measures it.
    pub(super) fn of<T>(call: impl FnOnce() -> Result<T, Failure>) -> Self {
        let begun = Instant::now();
        let failure = call().err().map(|failure| match failure.is_late() {
            true if begun.elapsed() >= CALL => "no answer".to_owned(),
            _ => failure.message,
        });
        Self { failure, after: begun.elapsed() }
    }
}

/// Sends a request to the shim at `address` and closes the connection before it is answered: the
/// shim is stopped meanwhile. Returns whether the request was unanswered.
pub(super) fn leave(scene: &Scene, method: &str, request: &impl Message) -> bool {
    use std::os::fd::AsRawFd as _;
    let path = scene.address.trim_start_matches("unix://");
    let mut connection = UnixStream::connect(path).expect("the shim listens");
    scene.shim.signal(Signal::SIGSTOP);
    deadline::until("the stop", || scene.shim.state() == Some('T'));
    let body = scene.task.request(method, request).write_to_bytes().expect("proto3");
    let length = u32::try_from(body.len()).expect("a short request");
    let header = MessageHeader { length, stream_id: 1, type_: MESSAGE_TYPE_REQUEST, flags: 0 };
    connection.write_all(&[Vec::from(header), body].concat()).expect("the shim reads");
    let answer = recv(connection.as_raw_fd(), &mut [0; 1], MsgFlags::MSG_DONTWAIT);
    drop(connection);
    scene.shim.signal(Signal::SIGCONT);
    answer == Err(nix::Error::EAGAIN)
}

/// Asks for the state of a container until it is stopped.
pub(super) struct Prober {
    end: Arc<AtomicBool>,
    thread: JoinHandle<States>,
}

/// The answers to State during a shortage.
#[derive(Debug, Clone, Default)]
pub(super) struct States {
    pub(super) count: usize,
    pub(super) median: Duration,
    pub(super) worst: Duration,
    /// Why the rule is broken; `None` if it is not.
    pub(super) wrong: Option<String>,
}

impl Prober {
    /// Starts it. The connection must exist already: there may be no descriptor for another one.
    pub(super) fn start(task: &Task, id: &str) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let (task, id, ends) = (task.with_deadline(CALL), id.to_owned(), end.clone());
        let thread = thread::spawn(move || {
            let mut answers = Vec::new();
            while !ends.load(Ordering::Relaxed) {
                let answer = Answer::of(|| task.state(&id, ""));
                let failed = answer.failure.is_some();
                answers.push(answer);
                if failed {
                    break;
                }
                thread::sleep(PAUSE);
            }
            States::of(&answers)
        });
        Self { end, thread }
    }

    pub(super) fn stop(self) -> States {
        self.end.store(true, Ordering::Relaxed);
        self.thread.join().expect("it does not panic")
    }
}

impl States {
    fn of(answers: &[Answer]) -> Self {
        let mut sorted: Vec<_> = answers.iter().map(|answer| answer.after).collect();
        sorted.sort();
        let failed = answers.iter().find_map(|answer| answer.failure.as_deref());
        let late = |run: &[Answer]| run.iter().all(|answer| answer.after > STATE);
        let wrong = match failed {
            Some(failure) => Some(format!("State: {failure}")),
            None => answers
                .windows(LATE)
                .find(|run| late(run))
                .map(|run| run[0].after)
                .or(sorted.last().copied().filter(|worst| *worst > HUNG))
                .map(|after| format!("State after {} ms", after.as_millis())),
        };
        Self {
            count: answers.len(),
            median: sorted.get(sorted.len() / 2).copied().unwrap_or_default(),
            worst: sorted.last().copied().unwrap_or_default(),
            wrong,
        }
    }
}
