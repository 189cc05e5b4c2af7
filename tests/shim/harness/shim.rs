//! A serving shim: its process, its socket, and a client that is connected to it.

use std::{ops::Deref, path::PathBuf, time::Duration};

use super::{Answer, Bundle, Failure, Process, Task, deadline};

/// One serving shim. The methods of [`Task`] are its own; those here are what tests do most.
#[derive(Debug)]
pub(crate) struct Shim {
    pub(crate) answer: Answer,
    pub(crate) process: Process,
    task: Task,
}

impl Shim {
    /// Connects to a shim that was started for `bundle`.
    #[track_caller]
    pub(crate) fn connect(answer: &Answer, bundle: &Bundle) -> Self {
        let task = Task::connect(&answer.address, answer.version)
            .expect("a shim that has answered serves");
        let connected = task.connection(&bundle.id).expect("a shim tells its pid");
        Self { answer: answer.clone(), process: Process::new(connected.shim_pid), task }
    }

    /// Another connection to the same shim.
    #[track_caller]
    pub(crate) fn reconnect(&self) -> Task {
        Task::connect(&self.answer.address, self.answer.version).expect("the shim serves")
    }

    /// The file of its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.answer.address.trim_start_matches("unix://").into()
    }

    /// Creates the container of `bundle` and starts it. Gives its init.
    #[track_caller]
    pub(crate) fn run(&self, bundle: &Bundle) -> Process {
        let created = self.task.create(&bundle.create()).expect("create");
        let started = self.task.start(&bundle.id, "").expect("start");
        assert_eq!(created.pid, started.pid, "start answers with init's pid");
        Process::new(started.pid)
    }

    /// Adds an exec and starts it. Gives its process.
    #[track_caller]
    pub(crate) fn run_exec(&self, id: &str, exec_id: &str) -> Process {
        self.task.exec(id, exec_id).expect("exec");
        Process::new(self.task.start(id, exec_id).expect("start of an exec").pid)
    }

    /// Kills init, waits for its end, and deletes the container.
    #[track_caller]
    pub(crate) fn remove(&self, id: &str) {
        match self.task.kill(id, "", 9) {
            Ok(_) => {}
            Err(Failure { message, .. }) => {
                assert!(message.contains("process already finished"), "{message}")
            }
        }
        self.task.wait(id, "").expect("wait");
        self.task.delete(id, "").expect("delete");
    }

    /// Asks it to leave and waits until it has.
    #[track_caller]
    pub(crate) fn shut_down(self) {
        self.task.shutdown("").expect("shutdown");
        self.has_left(deadline::PATIENCE);
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn has_left(&self, within: Duration) {
        deadline::within(within, "the end of the shim", || !self.process.lives());
    }
}

impl Deref for Shim {
    type Target = Task;

    fn deref(&self) -> &Task {
        &self.task
    }
}

impl Drop for Shim {
    /// The node takes along what it can recognise; without root a shim's environment is secret.
    fn drop(&mut self) {
        let is_shim = |word: &String| word.contains("containerd-shim");
        if self.process.command_line().first().is_some_and(is_shim) {
            self.process.kill();
        }
        // Not always in a folder of the test's.
        let _ = std::fs::remove_file(self.socket());
    }
}
