//! Reads single keys from a terminal.

use std::{
    io::{self, IsTerminal as _},
    os::fd::{AsFd as _, OwnedFd},
};

use nix::sys::termios::{
    LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr,
};
use tokio::io::{Interest, unix::AsyncFd};

use crate::sys;

/// A terminal that delivers each key at once and without echo. Dropping this value restores the
/// terminal.
pub(super) struct KeyReader {
    terminal: AsyncFd<OwnedFd>,
    before: Termios,
}

impl KeyReader {
    /// Prepares the terminal of stdin for single keys; `None` if stdin is not a terminal.
    pub(super) fn from_stdin() -> Option<Self> {
        let stdin = io::stdin();
        let fd = stdin.as_fd().try_clone_to_owned().ok().filter(|_| stdin.is_terminal())?;
        let before = tcgetattr(&fd).ok()?;
        let terminal = sys::watched(fd, Interest::READABLE).ok()?;
        let mut keys = before.clone();
        keys.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
        // With VMIN and VTIME 0 a read never blocks. O_NONBLOCK would do the same, but it belongs
        // to the open file description, which the shell shares.
        for index in [SpecialCharacterIndices::VMIN, SpecialCharacterIndices::VTIME] {
            keys.control_chars[index as usize] = 0;
        }
        tcsetattr(terminal.get_ref(), SetArg::TCSANOW, &keys).ok()?;
        Some(Self { terminal, before })
    }

    /// Waits for the next key; `None` if the terminal cannot be read. Cancel safe.
    pub(super) async fn next_key(&self) -> Option<u8> {
        loop {
            let mut ready = self.terminal.readable().await.ok()?;
            let mut key = [0];
            match nix::unistd::read(self.terminal.get_ref(), &mut key) {
                Ok(1) => return Some(key[0]),
                Ok(_) => ready.clear_ready(),
                Err(_) => return None,
            }
        }
    }
}

impl Drop for KeyReader {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal.get_ref(), SetArg::TCSANOW, &self.before);
    }
}
