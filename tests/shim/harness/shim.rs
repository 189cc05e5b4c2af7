//! A serving shim: its process, its socket, and a connected client.

use std::{ops::Deref, path::PathBuf, time::Duration};

use super::{Answer, Bundle, Failure, Process, Task, deadline};

/// One serving shim. It dereferences to its [`Task`] client; the methods here are shortcuts for
/// common steps.
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
            .expect("a shim that printed its address serves");
        let connected = task.connection(&bundle.id).expect("a shim reports its pid");
        Self { answer: answer.clone(), process: Process::new(connected.shim_pid), task }
    }

    /// Opens another connection to the same shim.
    #[track_caller]
    pub(crate) fn reconnect(&self) -> Task {
        Task::connect(&self.answer.address, self.answer.version).expect("the shim serves")
    }

    /// The path of its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.answer.address.trim_start_matches("unix://").into()
    }

    /// Creates and starts the container of `bundle`. Returns its init.
    #[track_caller]
    pub(crate) fn run(&self, bundle: &Bundle) -> Process {
        let created = self.task.create(&bundle.create()).expect("create");
        let started = self.task.start(&bundle.id, "").expect("start");
        assert_eq!(created.pid, started.pid, "start answers with init's pid");
        Process::new(started.pid)
    }

    /// Adds and starts an exec. Returns its process.
    #[track_caller]
    pub(crate) fn run_exec(&self, id: &str, exec_id: &str) -> Process {
        self.task.exec(id, exec_id).expect("exec");
        Process::new(self.task.start(id, exec_id).expect("start of an exec").pid)
    }

    /// Kills init, waits until it ends, and deletes the container.
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

    /// Requests Shutdown and waits until the process has ended.
    #[track_caller]
    pub(crate) fn shut_down(self) {
        self.task.shutdown("").expect("shutdown");
        self.wait_for_exit(deadline::PATIENCE);
    }

    /// Waits until the process has ended.
    #[track_caller]
    pub(crate) fn wait_for_exit(&self, within: Duration) {
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
    /// The node kills every process that it can recognise, but without root it cannot read a shim's
    /// environment.
    fn drop(&mut self) {
        let is_shim = |word: &String| word.contains("containerd-shim");
        if self.process.command_line().first().is_some_and(is_shim) {
            self.process.kill();
        }
        // The socket is not always in a directory of the test.
        let _ = std::fs::remove_file(self.socket());
    }
}
