//! How a process ended: with an exit code or by a signal.

/// How a thread group ended, from the kernel's wait status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ended {
    /// The process called exit(2) or returned from main. The value is the exit code, 0–255.
    Code(u8),
    /// A signal ended the process. The value is the number of the signal.
    Signal(u8),
}

impl Ended {
    /// Decodes a wait status in the form of wait(2) and `task_struct.exit_code`: the exit code in
    /// bits 8–15, the signal in bits 0–6, bit 7 for a core dump.
    #[must_use]
    pub fn from_wait_status(status: u32) -> Self {
        let [low, code, ..] = status.to_le_bytes();
        match low & 0x7f {
            0 => Self::Code(code),
            signal => Self::Signal(signal),
        }
    }

    /// The status in go-runc's form: 0–255, or 128 + the signal.
    #[must_use]
    pub fn status(self) -> u32 {
        match self {
            Self::Code(code) => u32::from(code),
            Self::Signal(signal) => 128 + u32::from(signal),
        }
    }

    /// The exit code; `None` if a signal ended the process.
    #[must_use]
    pub fn code(self) -> Option<u8> {
        match self {
            Self::Code(code) => Some(code),
            Self::Signal(_) => None,
        }
    }

    /// The signal's name, such as `SIGKILL`, or `SIG34` and up for real-time signals, which have no
    /// names. `None` if the process exited with a code.
    #[must_use]
    pub fn signal_name(self) -> Option<String> {
        let Self::Signal(number) = self else { return None };
        let known = nix::sys::signal::Signal::try_from(i32::from(number));
        Some(known.map_or_else(|_| format!("SIG{number}"), |signal| signal.as_str().to_owned()))
    }
}
