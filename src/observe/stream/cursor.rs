//! A place in one shim's events.

use std::{fmt, str::FromStr};

/// `EPOCH:SEQ`: the event that was read last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The shim's run.
    pub epoch: String,
    /// The newest seq that was read; 0 for none.
    pub seq: u64,
}

/// Not a cursor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cursor {text:?} is not EPOCH:SEQ")]
pub struct Malformed {
    /// What was given.
    pub text: String,
}

impl FromStr for Cursor {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let malformed = || Malformed { text: text.to_owned() };
        let (epoch, seq) = text.split_once(':').ok_or_else(malformed)?;
        // A sign is a number to Rust and none to us.
        if epoch.is_empty() || !seq.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(malformed());
        }
        Ok(Self { epoch: epoch.to_owned(), seq: seq.parse().map_err(|_| malformed())? })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.epoch, self.seq)
    }
}
