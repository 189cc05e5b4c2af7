//! What a client prints, line by line, as it comes.

use std::{
    io::{BufRead as _, BufReader},
    process::Child,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::Program;

/// A client that is listened to in the background until it is dropped.
#[derive(Debug)]
pub(crate) struct Listener<T> {
    client: Child,
    heard: Arc<Heard<T>>,
}

#[derive(Debug)]
struct Heard<T> {
    lines: Mutex<Vec<T>>,
    more: Condvar,
}

impl<T> Heard<T> {
    fn lines(&self) -> MutexGuard<'_, Vec<T>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone + std::fmt::Debug + Send + 'static> Listener<T> {
    /// Starts the client; a line that `parse` makes nothing of is left out.
    pub(super) fn listen(
        client: Program,
        parse: impl Fn(&str) -> Option<T> + Send + 'static,
    ) -> Self {
        let mut client = client.piped();
        let lines = BufReader::new(client.stdout.take().expect("piped")).lines();
        let heard = Arc::new(Heard { lines: Mutex::new(Vec::new()), more: Condvar::new() });
        let told = heard.clone();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok).filter_map(|line| parse(&line)) {
                told.lines().push(line);
                told.more.notify_all();
            }
        });
        Self { client, heard }
    }

    /// All so far.
    pub(crate) fn all(&self) -> Vec<T> {
        self.heard.lines().clone()
    }

    /// The first such one so far.
    pub(crate) fn find(&self, wanted: impl Fn(&T) -> bool) -> Option<T> {
        self.heard.lines().iter().find(|line| wanted(line)).cloned()
    }

    /// How many such ones so far.
    pub(crate) fn count(&self, wanted: impl Fn(&T) -> bool) -> usize {
        self.heard.lines().iter().filter(|line| wanted(line)).count()
    }

    /// Waits for the first such one. Panics when the time is over.
    #[track_caller]
    pub(crate) fn wait(&self, within: Duration, what: &str, wanted: impl Fn(&T) -> bool) -> T {
        // Each line is looked at once, however many come.
        let looked = std::cell::Cell::new(0);
        self.wait_for(within, what, |lines| {
            let new = &lines[looked.replace(lines.len())..];
            new.iter().find(|line| wanted(line)).cloned()
        })
    }

    /// Waits until all so far have an answer to give. Panics when the time is over.
    #[track_caller]
    pub(crate) fn wait_for<A>(
        &self,
        within: Duration,
        what: &str,
        ask: impl Fn(&[T]) -> Option<A>,
    ) -> A {
        let end = Instant::now() + within;
        let mut lines = self.heard.lines();
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
                panic!("waited {within:?} in vain for {what}; heard {count}, the last:\n  {last}");
            }
            let waited = self.heard.more.wait_timeout(lines, left);
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
    }
}
