//! Reads the output of a client line by line while it runs.

use std::{
    io::{BufRead as _, BufReader},
    process::Child,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::Program;
use crate::harness::schema;

/// A running client. Its output is read in the background until this is dropped.
#[derive(Debug)]
pub(crate) struct Listener<T> {
    client: Child,
    received: Arc<Received<T>>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Received<T> {
    lines: Mutex<Vec<T>>,
    more: Condvar,
}

impl<T> Received<T> {
    fn lines(&self) -> MutexGuard<'_, Vec<T>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone + std::fmt::Debug + Send + 'static> Listener<T> {
    /// Starts the client. Lines for which `parse` returns `None` are left out. Events that
    /// `lookout` prints must be as the schema says.
    pub(super) fn listen(
        client: Program,
        parse: impl Fn(&str) -> Option<T> + Send + 'static,
    ) -> Self {
        let is_lookout = client.is_lookout();
        let mut client = client.piped();
        let lines = BufReader::new(client.stdout.take().expect("piped")).lines();
        let received = Arc::new(Received { lines: Mutex::new(Vec::new()), more: Condvar::new() });
        let sink = received.clone();
        let reader = thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if is_lookout {
                    schema::assert_line_fits(&line);
                }
                let Some(line) = parse(&line) else { continue };
                sink.lines().push(line);
                sink.more.notify_all();
            }
        });
        Self { client, received, reader: Some(reader) }
    }

    /// All lines so far.
    pub(crate) fn all(&self) -> Vec<T> {
        self.received.lines().clone()
    }

    /// The first matching line so far.
    pub(crate) fn find(&self, wanted: impl Fn(&T) -> bool) -> Option<T> {
        self.received.lines().iter().find(|line| wanted(line)).cloned()
    }

    /// How many lines match so far.
    pub(crate) fn count(&self, wanted: impl Fn(&T) -> bool) -> usize {
        self.received.lines().iter().filter(|line| wanted(line)).count()
    }

    /// Waits for the first matching line. Panics after `within`.
    #[track_caller]
    pub(crate) fn wait(&self, within: Duration, what: &str, wanted: impl Fn(&T) -> bool) -> T {
        // Each line is checked only once, because there can be very many.
        let checked = std::cell::Cell::new(0);
        self.wait_for(within, what, |lines| {
            let new = &lines[checked.replace(lines.len())..];
            new.iter().find(|line| wanted(line)).cloned()
        })
    }

    /// Waits until `ask` returns an answer for the lines so far. Panics after `within`.
    #[track_caller]
    pub(crate) fn wait_for<A>(
        &self,
        within: Duration,
        what: &str,
        ask: impl Fn(&[T]) -> Option<A>,
    ) -> A {
        let end = Instant::now() + within;
        let mut lines = self.received.lines();
        loop {
            if let Some(answer) = ask(&lines) {
                return answer;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let count = lines.len();
                let last = lines.iter().rev().take(50).rev().map(|line| format!("{line:?}"));
                let last = last.collect::<Vec<_>>().join("\n  ");
                drop(lines);
                panic!(
                    "waited {within:?} in vain for {what}; received {count}, the last:\n  {last}"
                );
            }
            let waited = self.received.more.wait_timeout(lines, left);
            lines = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The client's pid.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.client.id()).expect("a pid")
    }
}

impl<T> Drop for Listener<T> {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
        // It ends before the client only by a panic, which must fail the test. It is not waited
        // for, because a child of the client may hold the output open.
        let ended = self.reader.take().filter(JoinHandle::is_finished);
        if ended.is_some_and(|reader| reader.join().is_err()) && !thread::panicking() {
            panic!("a line of the client was not as expected: see the panic of its reader above");
        }
    }
}
