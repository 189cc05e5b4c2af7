//! The position from which a subscriber continues.

use std::{fmt, str::FromStr};

/// A position in one shim's event log: the last event that a subscriber has read. Its text form is
/// `EPOCH:SEQ`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The epoch, which is one run of one shim. Not empty, and without a colon.
    pub epoch: String,
    /// The sequence number of the last event that was read; 0 if none was.
    pub seq: u64,
}

/// A text is not a cursor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cursor {text:?} is not EPOCH:SEQ")]
pub struct MalformedCursor {
    /// The text that was to be parsed.
    pub text: String,
}

impl FromStr for Cursor {
    type Err = MalformedCursor;

    fn from_str(text: &str) -> Result<Self, MalformedCursor> {
        let malformed = || MalformedCursor { text: text.to_owned() };
        let (epoch, seq) = text.split_once(':').ok_or_else(malformed)?;
        // `u64::from_str` accepts a leading `+`, which no cursor has.
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
