//! Escapes bytes that are not UTF-8.

use std::fmt::Write as _;

/// The bytes as text: bytes that are not UTF-8 become `\xHH` and a backslash is doubled, so that
/// the original bytes can be restored.
#[must_use]
pub fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', r"\\"));
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}
