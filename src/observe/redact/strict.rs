//! What `redact_mode = strict` hides besides: random text anywhere, and what looks like a secret
//! after an option that no rule knows.

use super::{
    Search,
    text::Text,
    value::{is_harmless, is_hexadecimal, is_random, is_uuid},
};

/// Random text in a sentence or a path has at least this length.
const RANDOM_MIN: usize = 16;
/// Digests, container ids and commits in hexadecimal are everywhere; keys of this length are too.
const KEY_LENGTHS: [usize; 3] = [32, 48, 96];

impl Search {
    /// Hides random parts of a text.
    pub(super) fn hide_random(&mut self, text: Text<'_>) {
        if !self.strict {
            return;
        }
        let mut at = 0;
        for part in text.bytes.split(|byte| !is_part(*byte)) {
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
                    if is_key(segment) {
                        self.hide(&part, at..at + segment.len());
                    }
                    at += segment.len() + 1;
                }
            } else if is_key(part.bytes) {
                self.hide_all(&part);
            }
        }
    }

    /// Hides the value of an unknown option if it looks like a secret. Returns whether it does.
    pub(super) fn guess(&mut self, text: Text<'_>) -> bool {
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

fn is_part(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'+' | b'/' | b'=' | b'~')
}

/// Whether a text is a path and not base64, which has slashes too.
fn is_path(text: &[u8]) -> bool {
    text.contains(&b'/') && (!is_random(text) || text.starts_with(b"/") || text.contains(&b'.'))
}

fn is_key(text: &[u8]) -> bool {
    text.len() >= RANDOM_MIN
        && !is_uuid(text)
        && if text.iter().all(u8::is_ascii_hexdigit) {
            KEY_LENGTHS.contains(&text.len()) && is_hexadecimal(text, RANDOM_MIN)
        } else {
            is_random(text)
        }
}
