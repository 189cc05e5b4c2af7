//! What `redact_mode = strict` hides in addition: random text anywhere, and what looks like a
//! secret after an option that no rule knows.

use super::{
    Search,
    text::Text,
    value::{is_harmless, is_hexadecimal, is_random, is_uuid},
};

/// The least length in bytes of random text in a sentence or a path that is hidden.
const RANDOM_MIN: usize = 16;
/// The lengths in digits of hexadecimal text that is hidden. Other lengths are mostly those of
/// digests, container ids and commits, which are no secrets.
const KEY_LENGTHS: [usize; 3] = [32, 48, 96];

impl Search {
    /// Hides the random parts of a text, in strict mode only.
    pub(super) fn hide_random(&mut self, text: Text<'_>) {
        if !self.strict {
            return;
        }
        let mut at = 0;
        for part in text.bytes.split(|byte| !is_token_byte(*byte)) {
            let range = at..at + part.len();
            at += part.len() + 1;
            if part.len() < RANDOM_MIN {
                continue;
            }
            // What follows the first `=` is a value, if it is not the padding of base64.
            let equals = part.iter().position(|byte| *byte == b'=').map_or(0, |equals| equals + 1);
            let is_padding = part[equals..].iter().all(|byte| *byte == b'=');
            let start = if is_padding { 0 } else { equals };
            let part = text.part(range.start + start..range.end);
            if is_path(part.bytes) {
                let mut at = 0;
                for segment in part.bytes.split(|byte| *byte == b'/') {
                    if looks_like_key(segment) {
                        self.hide(&part, at..at + segment.len());
                    }
                    at += segment.len() + 1;
                }
            } else if looks_like_key(part.bytes) {
                self.hide_all(&part);
            }
        }
    }

    /// In strict mode, hides the value of an option without a rule if it looks like a secret.
    /// Returns whether it was hidden.
    pub(super) fn hide_if_strict_secret(&mut self, text: Text<'_>) -> bool {
        let value = text.bytes;
        let has = |test: fn(&u8) -> bool| value.iter().any(test);
        let is_word =
            value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&*+?^".contains(byte));
        let looks = self.strict
            && value.len() >= 6
            && !is_harmless(value)
            && !is_uuid(value)
            && (is_random(value)
                || is_hexadecimal(value, 16)
                || is_word && has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic));
        if looks {
            self.hide_all(&text);
        }
        looks
    }
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'+' | b'/' | b'=' | b'~')
}

/// Whether a text is a path and not base64, which has slashes too.
fn is_path(text: &[u8]) -> bool {
    text.contains(&b'/') && (!is_random(text) || text.starts_with(b"/") || text.contains(&b'.'))
}

/// Whether a text is random and long enough for a key, and is no UUID.
fn looks_like_key(text: &[u8]) -> bool {
    text.len() >= RANDOM_MIN
        && !is_uuid(text)
        && if text.iter().all(u8::is_ascii_hexdigit) {
            KEY_LENGTHS.contains(&text.len()) && is_hexadecimal(text, RANDOM_MIN)
        } else {
            is_random(text)
        }
}
