//! How a process ended, code and signal apart.

/// A thread group's end, from the kernel's wait status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ended {
    /// By exit(2) or by returning from main: 0–255.
    Code(u8),
    /// By a signal: its number.
    Signal(u8),
}

impl Ended {
    /// From a wait status as wait(2) and `task_struct.exit_code` have it: the code in bits 8–15,
    /// the signal in bits 0–6, bit 7 for a core dump.
    #[must_use]
    pub fn from_wait_status(status: u32) -> Self {
        let [low, code, ..] = status.to_le_bytes();
        match low & 0x7f {
            0 => Self::Code(code),
            signal => Self::Signal(signal),
        }
    }

    /// From a status as go-runc tells it. 129–192 can be an exit code as well as a signal, so
    /// what the kernel said is the better source where there is one.
    #[must_use]
    pub fn from_go_runc(status: u32) -> Self {
        match u8::try_from(status) {
            Ok(status @ 129..=192) => Self::Signal(status - 128),
            Ok(code) => Self::Code(code),
            Err(_) => Self::Code(u8::MAX),
        }
    }

    /// As go-runc tells it: 0–255, or 128 + the signal.
    #[must_use]
    pub fn status(self) -> u32 {
        match self {
            Self::Code(code) => u32::from(code),
            Self::Signal(signal) => 128 + u32::from(signal),
        }
    }

    /// The code of an exit.
    #[must_use]
    pub fn code(self) -> Option<u8> {
        match self {
            Self::Code(code) => Some(code),
            Self::Signal(_) => None,
        }
    }

    /// The signal's name, `SIGKILL`; `SIG34` and up for those that have none.
    #[must_use]
    pub fn signal_name(self) -> Option<String> {
        let Self::Signal(number) = self else { return None };
        let known = nix::sys::signal::Signal::try_from(i32::from(number));
        Some(known.map_or_else(|_| format!("SIG{number}"), |signal| signal.as_str().to_owned()))
    }
}
