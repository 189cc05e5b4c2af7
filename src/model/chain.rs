//! Formats an error and its causes as one text.

use std::error::Error;

/// An error with its causes as `outer: inner: …`, the form in which clients and containerd's log
/// show it.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
