//! Single keys of a terminal, as they are typed.

use std::{
    io::{self, IsTerminal as _},
    os::fd::{AsFd as _, OwnedFd},
};

use nix::sys::termios::{
    LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr,
};
use tokio::io::{Interest, unix::AsyncFd};

use crate::sys;

/// A terminal that gives keys at once and does not show them; as it was before when this is
/// dropped.
pub(super) struct Keys {
    terminal: AsyncFd<OwnedFd>,
    before: Termios,
}

impl Keys {
    /// Of stdin, where that is a terminal.
    pub(super) fn listen() -> Option<Self> {
        let stdin = io::stdin();
        let fd = stdin.as_fd().try_clone_to_owned().ok().filter(|_| stdin.is_terminal())?;
        let before = tcgetattr(&fd).ok()?;
        let terminal = sys::watched(fd, Interest::READABLE).ok()?;
        let mut keys = before.clone();
        keys.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
        // A read never waits, so that the description, which the shell shares, stays as it is.
        for index in [SpecialCharacterIndices::VMIN, SpecialCharacterIndices::VTIME] {
            keys.control_chars[index as usize] = 0;
        }
        tcsetattr(terminal.get_ref(), SetArg::TCSANOW, &keys).ok()?;
        Some(Self { terminal, before })
    }

    /// The next one. Can be dropped without loss.
    pub(super) async fn next(&self) -> Option<u8> {
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

impl Drop for Keys {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal.get_ref(), SetArg::TCSANOW, &self.before);
    }
}
