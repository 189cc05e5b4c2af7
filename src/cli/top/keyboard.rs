//! The keys of a terminal, decoded from the bytes that it sends.

/// A key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    /// A letter with Ctrl.
    Ctrl(char),
    Enter,
    Escape,
    Backspace,
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
}

/// Decodes keys. A key of several bytes may arrive in parts.
#[derive(Debug, Default)]
pub(super) struct KeyDecoder {
    pending: Vec<u8>,
}

/// The most bytes of an incomplete key; a longer one is no key.
const PENDING_MAX: usize = 16;

impl KeyDecoder {
    /// Decodes what has arrived. The beginning of a key is kept for the next call.
    pub(super) fn decode(&mut self, bytes: &[u8]) -> Vec<Key> {
        self.pending.extend_from_slice(bytes);
        let mut keys = Vec::new();
        let mut rest = self.pending.as_slice();
        while let Some((key, length)) = next_key(rest) {
            keys.extend(key);
            rest = &rest[length..];
        }
        let left = rest.len();
        self.pending.drain(..self.pending.len() - left);
        if self.pending.len() > PENDING_MAX {
            self.pending.clear();
        }
        keys
    }

    /// Whether the beginning of a key has arrived. If nothing follows within a moment, it was the
    /// key Escape.
    pub(super) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The key that has arrived if nothing follows.
    pub(super) fn flush(&mut self) -> Option<Key> {
        let first = self.pending.first().copied();
        self.pending.clear();
        first.filter(|first| *first == ESCAPE).map(|_| Key::Escape)
    }
}

const ESCAPE: u8 = 0x1b;

/// The first key, or none if the bytes are of a key that has no meaning here, and its length.
/// `None` if it is incomplete.
fn next_key(bytes: &[u8]) -> Option<(Option<Key>, usize)> {
    let first = *bytes.first()?;
    let key = match first {
        ESCAPE => return escape_sequence(bytes),
        b'\r' | b'\n' => Key::Enter,
        0x7f | 0x08 => Key::Backspace,
        0x01..=0x1a => Key::Ctrl(char::from(first | 0x60)),
        0x00..=0x1f => return Some((None, 1)),
        _ => return character(bytes),
    };
    Some((Some(key), 1))
}

fn escape_sequence(bytes: &[u8]) -> Option<(Option<Key>, usize)> {
    let final_at = match bytes.get(1)? {
        // SS3: one letter follows.
        b'O' => 2,
        // CSI: parameters, then a letter or `~`.
        b'[' => 2 + bytes.get(2..)?.iter().position(|byte| (0x40..=0x7e).contains(byte))?,
        // Two keys.
        _ => return Some((Some(Key::Escape), 1)),
    };
    let key = match (bytes.get(2..final_at)?, *bytes.get(final_at)?) {
        (_, b'A') => Some(Key::Up),
        (_, b'B') => Some(Key::Down),
        (_, b'C') => Some(Key::Right),
        (_, b'D') => Some(Key::Left),
        (_, b'H') | (b"1" | b"7", b'~') => Some(Key::Home),
        (_, b'F') | (b"4" | b"8", b'~') => Some(Key::End),
        (b"5", b'~') => Some(Key::PageUp),
        (b"6", b'~') => Some(Key::PageDown),
        (b"", b'M') => Some(Key::Enter),
        _ => None,
    };
    Some((key, final_at + 1))
}

fn character(bytes: &[u8]) -> Option<(Option<Key>, usize)> {
    let length = match bytes[0] {
        0x00..0x80 => 1,
        0xc0..0xe0 => 2,
        0xe0..0xf0 => 3,
        0xf0..0xf8 => 4,
        _ => return Some((None, 1)),
    };
    let text = bytes.get(..length)?;
    match std::str::from_utf8(text) {
        Ok(text) => Some((text.chars().next().map(Key::Char), length)),
        Err(_) => Some((None, 1)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Check each kind of key, and one that arrives in parts.
    #[test]
    fn keys_are_decoded() {
        let mut decoder = KeyDecoder::default();
        let keys = decoder.decode(b"q\x1b[A\x1bOB\x1b[5~\x1b[1;5C\r\x7f\x1a\xe5\xae\xb9\x1b[99~");
        use Key::{Backspace, Char, Ctrl, Down, Enter, PageUp, Right, Up};
        let expected =
            [Char('q'), Up, Down, PageUp, Right, Enter, Backspace, Ctrl('z'), Char('容')];
        assert_eq!(keys, expected);
        assert_eq!(decoder.decode(b"\x1b"), []);
        assert!(decoder.is_pending());
        assert_eq!(decoder.decode(b"["), []);
        assert_eq!(decoder.decode(b"D"), [Key::Left]);
        assert!(!decoder.is_pending());
        assert_eq!((decoder.decode(b"\x1b"), decoder.flush()), (vec![], Some(Key::Escape)));
        assert_eq!(decoder.decode(b"\x1bx"), [Key::Escape, Char('x')]);
    }

    proptest! {
        /// Check that no bytes are waited for without end, and that none make it panic.
        #[test]
        fn any_bytes_are_decoded(parts in proptest::collection::vec(any::<Vec<u8>>(), 0..8)) {
            let mut decoder = KeyDecoder::default();
            for part in parts {
                decoder.decode(&part);
                prop_assert!(decoder.pending.len() <= PENDING_MAX);
            }
            decoder.flush();
            prop_assert_eq!(decoder.decode(b"q"), [Key::Char('q')]);
        }
    }
}
