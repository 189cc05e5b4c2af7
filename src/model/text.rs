//! Bytes as text.

use std::fmt::Write as _;

/// Bytes that are not UTF-8 as `\xHH`, and a backslash doubled, so that the bytes can be had back.
#[must_use]
pub fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', r"\\"));
        for byte in chunk.invalid() {
            // A string takes everything that is written to it.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}
