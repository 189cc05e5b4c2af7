//! The terminal: its modes, the alternate screen, and its keys. Whatever ends the command, the
//! terminal is as before.

use std::{
    io::{self, IsTerminal as _, Write as _},
    os::fd::{AsFd as _, OwnedFd},
    panic,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{Signal, kill, raise},
        termios::{
            FlushArg, InputFlags, LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcflush,
            tcgetattr, tcsetattr,
        },
    },
};
use ratatui_core::terminal::Terminal;
use tokio::io::{Interest, unix::AsyncFd};

use super::{backend::Stdio, state::State, view};
use crate::sys;

/// Begins the alternate screen, which keeps what was printed before, and hides the cursor.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[2J";
/// Ends it, without any colour.
const LEAVE: &[u8] = b"\x1b[0m\x1b[?25h\x1b[?1049l";

/// The whole terminal. Dropping it restores the terminal.
pub(super) struct Screen {
    terminal: Terminal<Stdio>,
    modes: Arc<Modes>,
    /// The terminal of stdin; `None` if stdin is none. Then there are no keys, and Ctrl-C is the
    /// signal that it always is.
    keys: Option<AsyncFd<OwnedFd>>,
}

/// The modes of the terminal, shared with the hook that runs at a panic.
struct Modes {
    is_entered: AtomicBool,
    /// The terminal, and its modes before. Locked only for a system call, so a panic finds it free.
    stdin: Option<(OwnedFd, Mutex<Termios>)>,
}

impl Screen {
    /// Takes over the terminal.
    pub(super) fn enter() -> io::Result<Self> {
        let stdin = io::stdin();
        let fd = || stdin.as_fd().try_clone_to_owned();
        let (mut keys, mut before) = (None, None);
        if stdin.is_terminal() {
            before = Some((fd()?, Mutex::new(tcgetattr(&stdin)?)));
            keys = Some(sys::watched(fd()?, Interest::READABLE)?);
        }
        let modes = Arc::new(Modes { is_entered: AtomicBool::new(false), stdin: before });
        // The message of a panic would be lost with the alternate screen.
        let at_panic = Arc::downgrade(&modes);
        let next = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if let Some(modes) = at_panic.upgrade() {
                modes.leave();
            }
            next(info);
        }));
        let screen = Self { terminal: Terminal::new(Stdio::new())?, modes, keys };
        screen.modes.enter();
        Ok(screen)
    }

    /// Takes the terminal over again, after the command was stopped: the shell has set its own
    /// modes, and may have written anything.
    pub(super) fn enter_again(&mut self) -> io::Result<()> {
        self.modes.enter();
        self.terminal.clear()
    }

    /// Draws everything again.
    pub(super) fn redraw(&mut self) -> io::Result<()> {
        self.terminal.clear()
    }

    /// Gives the terminal back and stops this process. The rest of its process group, such as sudo,
    /// is stopped first, as the terminal does it for Ctrl-Z. This process has a handler for
    /// SIGTSTP, so it stops itself by the signal that none can handle.
    pub(super) fn suspend(&self, is_by_key: bool) {
        self.modes.leave();
        // The loop receives this SIGTSTP too, and then calls this function again.
        let is_sent = is_by_key && kill(nix::unistd::Pid::from_raw(0), Signal::SIGTSTP).is_ok();
        if !is_sent {
            let _ = raise(Signal::SIGSTOP);
        }
    }

    /// The size of the terminal: width, height.
    pub(super) fn size(&self) -> io::Result<(u16, u16)> {
        let size = self.terminal.size()?;
        Ok((size.width, size.height))
    }

    /// Draws a state; nothing while the command is being stopped.
    pub(super) fn draw(&mut self, state: &mut State) -> io::Result<()> {
        if !self.modes.is_entered.load(Ordering::Relaxed) {
            return Ok(());
        }
        state.refresh();
        self.terminal.draw(|frame| view::draw(state, frame))?;
        Ok(())
    }

    /// Waits for bytes of keys. Never returns if there are none, or while the terminal is given
    /// back. Cancel safe.
    pub(super) async fn key_bytes(&self) -> Vec<u8> {
        let is_entered = self.modes.is_entered.load(Ordering::Relaxed);
        let Some(keys) = self.keys.as_ref().filter(|_| is_entered) else {
            return std::future::pending().await;
        };
        let mut bytes = [0; 256];
        loop {
            let Ok(mut ready) = keys.readable().await else { return std::future::pending().await };
            // In the modes of a shell a read waits for a whole line, and the loop with it. They may
            // have been set by one that has continued this process. In these modes the terminal is
            // readable only if it has a line.
            let mut waits = [PollFd::new(keys.get_ref().as_fd(), PollFlags::POLLIN)];
            if poll(&mut waits, PollTimeout::ZERO) == Ok(0) {
                ready.clear_ready();
                continue;
            }
            match nix::unistd::read(keys.get_ref(), &mut bytes) {
                Ok(count @ 1..) => return bytes[..count].to_vec(),
                // Hung up: SIGHUP ends the command.
                Ok(_) | Err(_) => ready.clear_ready(),
            }
        }
    }
}

impl Modes {
    /// Sets the modes for single keys, also if that was done before.
    fn enter(&self) {
        self.is_entered.store(true, Ordering::Relaxed);
        if let Some((stdin, before)) = &self.stdin {
            let mut modes = before.lock().unwrap_or_else(PoisonError::into_inner).clone();
            // Without ISIG Ctrl-C and Ctrl-Z are keys: the terminal is restored before either acts.
            modes.local_flags.remove(
                LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG | LocalFlags::IEXTEN,
            );
            modes.input_flags.remove(InputFlags::IXON | InputFlags::ICRNL);
            // With VMIN and VTIME 0 a read never blocks. O_NONBLOCK would do the same, but it
            // belongs to the open file description, which the shell shares.
            for index in [SpecialCharacterIndices::VMIN, SpecialCharacterIndices::VTIME] {
                modes.control_chars[index as usize] = 0;
            }
            let _ = tcsetattr(stdin, SetArg::TCSANOW, &modes);
        }
        write(ENTER);
    }

    /// Restores the terminal; nothing if that was done before.
    fn leave(&self) {
        if !self.is_entered.swap(false, Ordering::Relaxed) {
            return;
        }
        write(LEAVE);
        if let Some((stdin, before)) = &self.stdin {
            let before = before.lock().unwrap_or_else(PoisonError::into_inner);
            // Not TCSAFLUSH, which waits for a terminal that has stopped its output.
            let _ = tcsetattr(stdin, SetArg::TCSANOW, &before);
            // Keys that were pressed and not read yet are not for the shell.
            let _ = tcflush(stdin, FlushArg::TCIFLUSH);
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.modes.leave();
    }
}

/// Writes to the terminal. An error is ignored: a terminal that is gone needs no restoring.
fn write(bytes: &[u8]) {
    let mut out = io::stdout();
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}
