//! The client's side of a stream: a fifo, as containerd and its clients create it.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    os::{fd::AsFd as _, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::mpsc::{self, Receiver},
    thread,
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    libc::O_NONBLOCK,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::stat::Mode,
    unistd::mkfifo,
};

use super::deadline::PATIENCE;

/// A fifo in a test's directory. No process has it open yet.
#[derive(Debug, Clone)]
pub(crate) struct Fifo {
    path: PathBuf,
}

/// The content of a fifo, available once the fifo ends.
#[derive(Debug)]
pub(crate) struct Collected {
    bytes: Receiver<Vec<u8>>,
}

impl Fifo {
    pub(crate) fn make(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        mkfifo(&path, Mode::from_bits_truncate(0o600)).expect("the directory is the test's own");
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its path, as a request names it.
    pub(crate) fn name(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    /// Reads it to its end in the background. The reader exists when this returns.
    pub(crate) fn collect(&self) -> Collected {
        let mut file = self.open_for_reading();
        let (sender, bytes) = mpsc::channel();
        thread::spawn(move || {
            let mut all = Vec::new();
            // Wait for the first byte or the first end: without a writer, a read would report the
            // end at once.
            let _ = poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
            let _ = fcntl(&file, FcntlArg::F_SETFL(OFlag::empty()));
            let _ = file.read_to_end(&mut all);
            let _ = sender.send(all);
        });
        Collected { bytes }
    }

    /// Opens it for reading, without reading yet.
    pub(crate) fn open_for_reading(&self) -> File {
        OpenOptions::new()
            .read(true)
            .custom_flags(O_NONBLOCK)
            .open(&self.path)
            .expect("a reader never waits")
    }

    /// Whether a process has it open for reading.
    pub(crate) fn has_reader(&self) -> bool {
        // Opening for writing fails with ENXIO without a reader: fifo(7).
        OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(&self.path).is_ok()
    }

    /// Writes all of `bytes` and closes it. A process must read it.
    pub(crate) fn send(&self, bytes: &[u8]) {
        let mut file =
            OpenOptions::new().write(true).open(&self.path).expect("the fifo is the test's own");
        file.write_all(bytes).expect("a process reads it");
    }
}

impl Collected {
    /// Waits for the end of the fifo and returns its content.
    #[track_caller]
    pub(crate) fn bytes(self) -> Vec<u8> {
        self.bytes.recv_timeout(PATIENCE).expect("the fifo ends in time")
    }

    #[track_caller]
    pub(crate) fn text(self) -> String {
        String::from_utf8(self.bytes()).expect("the test writes text")
    }

    /// Whether it has not ended yet.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.bytes.try_recv(), Err(mpsc::TryRecvError::Empty))
    }
}
