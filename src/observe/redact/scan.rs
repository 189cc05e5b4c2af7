//! Finds secrets within a text: assignments, JSON, headers, URLs, SQL, tokens and private keys.
//!
//! One cursor moves forward over the text and jumps over each secret, so the time is linear in the
//! text: a value that is no secret is read again, but only a bounded number of times.

use std::ops::Range;

use super::{
    Search,
    names::{ValueKind, value_kind_of},
    text::Text,
    token_formats,
    value::is_reference,
};

/// The position of a scan in a text, and what the text before it shows.
pub(super) struct Cursor<'a> {
    pub(super) text: Text<'a>,
    pub(super) at: usize,
    /// The last name before the cursor; empty if something other than quotes, brackets and spaces
    /// came after it.
    name: Range<usize>,
    /// Whether the text is a whole argument or a word of a script. If so, the value of an
    /// assignment at its beginning ends where the text ends.
    pub(super) is_argument: bool,
    /// What the words before the cursor announce.
    context: Context,
    /// The position of the next `@`, and that of the next end of a URL. A position before the
    /// cursor means that it must be searched.
    pub(super) next_at_sign: usize,
    pub(super) next_url_end: usize,
}

/// Words of SQL, `.netrc` or JSON that announce a secret after further words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Context {
    /// No such words.
    Nothing,
    /// `PASSWORD`: `FOR` may follow.
    Password,
    /// `PASSWORD FOR x`: a secret follows the next `=`.
    PasswordFor,
    /// `machine` of `.netrc`: the word after the next `password` is a secret.
    Netrc,
    /// `"name": "TOKEN"`: the next `value` is a secret.
    Named,
    /// `PRAGMA`: a secret follows `key =`, in an encrypted SQLite.
    Pragma,
    /// `IDENTIFIED`: a secret follows the next `BY`.
    Identified,
}

impl Search {
    /// Finds and hides the secrets in a text. `is_argument` means that the text is a whole argument
    /// or word.
    pub(super) fn scan(&mut self, text: Text<'_>, is_argument: bool) {
        let mut cursor = Cursor {
            text,
            at: 0,
            name: 0..0,
            is_argument,
            context: Context::Nothing,
            next_at_sign: 0,
            next_url_end: 0,
        };
        let bytes = text.bytes;
        while let Some(byte) = bytes.get(cursor.at) {
            if is_name_byte(*byte) {
                self.read_name(&mut cursor);
                continue;
            }
            let at = cursor.at;
            let next = match byte {
                b':' if bytes[at..].starts_with(b"://") => Some(self.read_url(&mut cursor)),
                b'=' | b':' => self.read_assignment(&mut cursor),
                b'"' | b'\'' => self.read_quoted_after_name(&cursor),
                b'>' => self.read_xml_element(&cursor),
                b'$' => self.hide_password_hash(&cursor),
                b'(' => {
                    cursor.at = self.read_call(&cursor).unwrap_or(at + 1);
                    continue;
                }
                b' ' | b'\t' | b'\n' | b'\r' | b'\\' | b']' => {
                    cursor.at += 1;
                    continue;
                }
                _ => Some(at + 1),
            };
            cursor.at = next.unwrap_or(at + 1);
            if next.is_some() {
                cursor.name = cursor.at..cursor.at;
            }
        }
        self.hide_random(text);
    }

    /// Reads the name at the cursor. Hides it if it is a token, and notes it if it announces a
    /// secret.
    fn read_name(&mut self, cursor: &mut Cursor<'_>) {
        let (bytes, start) = (cursor.text.bytes, cursor.at);
        let length = bytes[start..].iter().take_while(|byte| is_name_byte(**byte)).count();
        let end = start + length;
        cursor.at = end;
        let truncated = self.truncated;
        // `-tTOKEN`: an option of one letter with its value.
        let begin = if bytes[start] == b'-' && length > 2 { start + 2 } else { start };
        for begin in [start, begin] {
            let length = token_formats::token_length(&bytes[begin..], truncated);
            if length > 0 {
                self.after_key_id |= bytes[begin] == b'A';
                self.hide(&cursor.text, begin..begin + length);
                cursor.at = begin + length;
                cursor.name = cursor.at..cursor.at;
                return;
            }
            if begin == start && bytes[start] != b'-' {
                break;
            }
        }
        let word = &bytes[start..end];
        if word.ends_with(b"-----BEGIN")
            && let Some(key) = token_formats::private_key(&bytes[end - 10..])
        {
            self.hide(&cursor.text, end - 10 + key.start..end - 10 + key.end);
            cursor.at = end - 10 + key.end;
            return;
        }
        cursor.name = start..end;
        let is = |text: &[u8]| word.eq_ignore_ascii_case(text);
        match (length, cursor.context) {
            (2, Context::Identified) if is(b"by") || is(b"as") => {
                cursor.context = Context::Nothing;
                let (value, _, _) = value_at(bytes, end + count_spaces(&bytes[end..]));
                if !is_reference(&bytes[value.clone()]) {
                    self.hide(&cursor.text, value.clone());
                    cursor.at = value.end.max(end);
                }
            }
            (3, Context::Password) if is(b"for") => cursor.context = Context::PasswordFor,
            // `.netrc`
            (7, _) if is(b"machine") => cursor.context = Context::Netrc,
            (8, Context::Netrc) if is(b"password") => {
                let (value, _, _) = value_at(bytes, end + count_spaces(&bytes[end..]));
                if self.hide_if_secret(ValueKind::Secret, cursor.text.part(value.clone())) {
                    cursor.at = value.end;
                }
            }
            (6, _) if is(b"pragma") => cursor.context = Context::Pragma,
            (10, _) if is(b"identified") => cursor.context = Context::Identified,
            (8, _) if is(b"password") => cursor.context = Context::Password,
            (5 | 6, _) if is(b"bearer") || is(b"basic") => self.hide_credential(cursor),
            (_, Context::Password) => cursor.context = Context::Nothing,
            _ => {}
        }
    }

    /// Hides what follows `Bearer` or `Basic`. Both are also English words, so the text after them
    /// must be long or have a digit.
    fn hide_credential(&mut self, cursor: &mut Cursor<'_>) {
        let bytes = cursor.text.bytes;
        let start = cursor.at
            + bytes[cursor.at..]
                .iter()
                .take_while(|byte| matches!(byte, b' ' | b':' | b'=' | b'\t'))
                .count();
        let length = bytes[start..]
            .iter()
            .take_while(|byte| is_name_byte(**byte) || b"~+/=".contains(byte))
            .count();
        let credential = &bytes[start..start + length];
        if start > cursor.at
            && length >= 4
            && (length >= 16 || credential.iter().any(u8::is_ascii_digit))
        {
            self.hide(&cursor.text, start..start + length);
            cursor.at = start + length;
        }
    }

    /// Reads the `=` or `:` at the cursor and hides the value after it, if the name before it
    /// belongs to a secret. Returns the position from which to continue; `None` for the next byte.
    fn read_assignment(&mut self, cursor: &mut Cursor<'_>) -> Option<usize> {
        let (bytes, at) = (cursor.text.bytes, cursor.at);
        let after = bytes.get(at + 1).copied();
        if cursor.context == Context::PasswordFor && bytes[at] == b'=' {
            cursor.context = Context::Nothing;
            return self.judge_value(cursor, ValueKind::Secret, false);
        }
        let name = &bytes[cursor.name.clone()];
        let gap = &bytes[cursor.name.end..at];
        let begins = cursor.is_argument && cursor.name.start == 0 && gap.is_empty();
        let is_value = cursor.name.start > 0 && bytes[cursor.name.start - 1] == b'=';
        if (begins || is_value && gap.is_empty())
            && bytes[at] == b':'
            && let Some(end) = self.hide_go_mysql_password(cursor)
        {
            return Some(end);
        }
        if name.len() < 2 {
            return None;
        }
        // A colon without a quote or a space is rarely an assignment: `host:port`, `image:tag`.
        let mut is_weak = false;
        if bytes[at] == b':' {
            if name == b"thin" {
                return self.hide_oracle_password(cursor);
            }

            let is_sign = gap.iter().any(|byte| matches!(byte, b'"' | b'\''))
                || after.is_some_and(|byte| {
                    byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'=' | b'\\')
                });
            is_weak = !is_sign;
            if is_weak && !begins && !is_authorization(name) {
                return None;
            }
        }
        if is_authorization(name) {
            return self.hide_authorization(cursor);
        }
        if cursor.context == Context::Pragma {
            cursor.context = Context::Nothing;
            if matches!(name, b"key" | b"rekey") {
                return self.judge_value(cursor, ValueKind::Secret, false);
            }
        }
        // `{"name": "TOKEN", "value": "X"}`, as Kubernetes and AWS write a variable.
        if name == b"name" {
            let (value, _, _) = value_at(bytes, at + 1 + count_spaces(&bytes[at + 1..]));
            cursor.context = if value_kind_of(&bytes[value]) == ValueKind::Secret {
                Context::Named
            } else {
                Context::Nothing
            };
        } else if name == b"value" && cursor.context == Context::Named {
            cursor.context = Context::Nothing;
            return self.judge_value(cursor, ValueKind::Secret, false);
        }
        match value_kind_of(name) {
            ValueKind::Other | ValueKind::Source => None,
            ValueKind::Cookie => self.hide_cookie_header(cursor, begins),
            // `X-Api-Key:X`, but not `token:*`.
            ValueKind::Secret | ValueKind::Pair if is_weak && !name.contains(&b'-') => {
                self.judge_value(cursor, ValueKind::Likely, begins)
            }
            other => self.judge_value(cursor, other, begins),
        }
    }

    /// Hides the value after the `=` or `:` at the cursor, if it is a secret. Returns the end of
    /// the value if it was hidden.
    fn judge_value(
        &mut self,
        cursor: &Cursor<'_>,
        value_kind: ValueKind,
        begins: bool,
    ) -> Option<usize> {
        let bytes = cursor.text.bytes;
        let signs = bytes[cursor.at..]
            .iter()
            .take_while(|byte| matches!(byte, b' ' | b'\t' | b'=' | b':' | b'>'))
            .count();
        let start = cursor.at + signs;
        // `N'X'` of SQL, `b'X'` of Python.
        let has_prefix = matches!(bytes.get(start), Some(b'N' | b'E' | b'b' | b'r'))
            && matches!(bytes.get(start + 1), Some(b'"' | b'\''));
        let start = start + usize::from(has_prefix);
        let range = if begins && signs == 1 {
            start..argument_end(bytes, start)
        } else {
            value_at(bytes, start).0
        };
        self.hide_if_secret(value_kind, cursor.text.part(range.clone())).then_some(range.end)
    }

    /// Hides a value of this kind, or the part of it after a colon, if that is a secret. Returns
    /// whether it was hidden.
    pub(super) fn hide_if_secret(&mut self, value_kind: ValueKind, text: Text<'_>) -> bool {
        use super::value::is_secret;
        // The value has quotes, which no shell has removed.
        if let [open @ (b'"' | b'\''), inside @ .., close] = text.bytes
            && open == close
        {
            let end = inside.len() + 1;
            return self.hide_if_secret(value_kind, text.part(1..end));
        }
        if matches!(value_kind, ValueKind::Pair | ValueKind::LikelyPair | ValueKind::PairOrLikely)
            && let Some(colon) = text.bytes.iter().position(|byte| *byte == b':')
            && !text.bytes[colon..].starts_with(b"://")
        {
            let secret = text.from(colon + 1);
            let value_kind =
                if value_kind == ValueKind::PairOrLikely { ValueKind::Pair } else { value_kind };
            let hide = is_secret(value_kind, secret.bytes);
            if hide {
                self.hide_all(&secret);
            }
            return hide;
        }
        let hide = is_secret(value_kind, text.bytes);
        if hide {
            self.hide_all(&text);
        }
        hide
    }

    /// Reads a quote after a name: `PASSWORD 'X'` of SQL, `password("X")`. Returns the end of the
    /// value if it was hidden.
    fn read_quoted_after_name(&mut self, cursor: &Cursor<'_>) -> Option<usize> {
        let bytes = cursor.text.bytes;
        let gap = &bytes[cursor.name.end..cursor.at];
        let is_gap =
            !gap.is_empty() && gap.iter().all(|byte| byte.is_ascii_whitespace() || *byte == b'(');
        if !is_gap || cursor.name.is_empty() {
            return None;
        }
        let name = &bytes[cursor.name.clone()];
        // An option with a quoted value is read as words of a script instead.
        if name.starts_with(b"-") || value_kind_of(name) != ValueKind::Secret {
            return None;
        }
        let (value, _, _) = value_at(bytes, cursor.at);
        self.hide_if_secret(ValueKind::Secret, cursor.text.part(value.clone())).then_some(value.end)
    }

    /// Hides the secret in `<password>X</password>`.
    fn read_xml_element(&mut self, cursor: &Cursor<'_>) -> Option<usize> {
        let (bytes, name) = (cursor.text.bytes, cursor.name.clone());
        let is_element = name.end == cursor.at
            && name.start.checked_sub(1).is_some_and(|before| bytes[before] == b'<');
        if !is_element {
            return Some(cursor.at + 1);
        }
        let rest = &bytes[cursor.at + 1..];
        let end = rest.iter().position(|byte| *byte == b'<').unwrap_or(rest.len());
        let value = cursor.at + 1..cursor.at + 1 + end;
        let value_kind = value_kind_of(&bytes[name]);
        self.hide_if_secret(value_kind, cursor.text.part(value.clone())).then_some(value.end)
    }

    /// Hides the password in `user:X@tcp(host)/db`, the form of Go's driver for MySQL, in which the
    /// protocol can be absent: `user:X@(host)/db`.
    fn hide_go_mysql_password(&mut self, cursor: &Cursor<'_>) -> Option<usize> {
        /// How many bytes after the colon are searched.
        const PASSWORD_MAX: usize = 256;
        let rest = &cursor.text.bytes[cursor.at + 1..];
        let rest = &rest[..rest.len().min(PASSWORD_MAX)];
        let is_end = |window: &[u8]| {
            window.starts_with(b"@(") || window.starts_with(b"@tcp(") || window == b"@unix("
        };
        let end = cursor.at + 1 + rest.windows(6).position(is_end)?;
        self.hide(&cursor.text, cursor.at + 1..end);
        Some(end)
    }

    /// Hides the last string of a call that takes a password: `auth('user', 'X')`.
    fn read_call(&mut self, cursor: &Cursor<'_>) -> Option<usize> {
        /// How many bytes after the opening bracket are searched for the closing one.
        const CALL_MAX: usize = 128;
        let (bytes, at) = (cursor.text.bytes, cursor.at);
        let gap = &bytes[cursor.name.end..at];
        let name = &bytes[cursor.name.clone()];
        if name.len() < 4 || !matches!(gap, b"" | b"=") {
            return None;
        }
        let name = name.rsplit(|byte| *byte == b'.').next().unwrap_or(name);
        let takes_secret =
            matches!(value_kind_of(name), ValueKind::Secret | ValueKind::PairOrLikely)
                || name.ends_with(b"superuser")
                || name.ends_with(b"create_user");
        if !takes_secret {
            return None;
        }
        let rest = &bytes[at + 1..];
        let rest = &rest[..rest.len().min(CALL_MAX)];
        let inside = &rest[..rest.iter().position(|byte| *byte == b')')?];
        let close = inside.iter().rposition(|byte| matches!(byte, b'"' | b'\''))?;
        let open = inside[..close].iter().rposition(|byte| *byte == inside[close])?;
        let secret = cursor.text.part(at + 2 + open..at + 1 + close);
        self.hide_if_secret(ValueKind::Secret, secret).then_some(at + 1 + close)
    }

    /// Hides a hashed password in the form of crypt(5): `$6$salt$hash`.
    fn hide_password_hash(&mut self, cursor: &Cursor<'_>) -> Option<usize> {
        const METHODS: [&[u8]; 11] = [
            b"$1$", b"$5$", b"$6$", b"$y$", b"$7$", b"$2a$", b"$2b$", b"$2y$", b"$gy$", b"$apr1$",
            b"$argon2",
        ];
        let rest = &cursor.text.bytes[cursor.at..];
        if !METHODS.iter().any(|method| rest.starts_with(method)) {
            return Some(cursor.at + 1);
        }
        let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || b"$./=,+-_".contains(byte);
        let length = rest.iter().take_while(is_part).count();
        if length < PASSWORD_HASH_MIN {
            return Some(cursor.at + 1);
        }
        self.hide(&cursor.text, cursor.at..cursor.at + length);
        Some(cursor.at + length)
    }

    /// Hides the password in `jdbc:oracle:thin:user/X@host`.
    fn hide_oracle_password(&mut self, cursor: &Cursor<'_>) -> Option<usize> {
        let rest = &cursor.text.bytes[cursor.at + 1..];
        let end = rest.iter().position(|byte| *byte == b'@')?;
        let slash = rest[..end].iter().position(|byte| *byte == b'/')?;
        self.hide(&cursor.text, cursor.at + slash + 2..cursor.at + 1 + end);
        Some(cursor.at + 1 + end)
    }
}

/// The least length of a hashed password, its method and salt included.
const PASSWORD_HASH_MIN: usize = 20;

/// Whether a byte can be a part of a name.
pub(super) fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// Whether a name is `Authorization`, or ends with it (`Proxy-Authorization`).
fn is_authorization(name: &[u8]) -> bool {
    const NAME: &[u8] = b"authorization";
    name.len() >= NAME.len() && name[name.len() - NAME.len()..].eq_ignore_ascii_case(NAME)
}

/// The number of bytes of white space at the beginning.
pub(super) fn count_spaces(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

/// The range of the value that begins at `start`: the text inside quotes, or the rest of the word.
/// The two numbers are the lengths in bytes of its opening and of its closing quote; 0 without
/// quotes.
pub(super) fn value_at(bytes: &[u8], start: usize) -> (Range<usize>, usize, usize) {
    let rest = &bytes[start.min(bytes.len())..];
    // JSON inside a string has escaped quotes: `\"`, and inside another string `\\\"`.
    let escapes = rest.iter().take_while(|byte| **byte == b'\\').count();
    if let Some(quote @ (b'"' | b'\'')) = rest.get(escapes) {
        let from = escapes + 1;
        let mut at = from;
        while let Some(byte) = rest.get(at) {
            if byte == quote {
                break;
            }
            if *byte == b'\\' {
                let run = rest[at..].iter().take_while(|byte| **byte == b'\\').count();
                // A closing quote has as many backslashes as the opening one; an escaped quote
                // inside has more.
                if rest.get(at + run) == Some(quote) && run <= escapes {
                    break;
                }
                at += run + usize::from(run % 2 == 1 || escapes > 0);
                continue;
            }
            at += 1;
        }
        let at = at.min(rest.len());
        return (start + from..start + at, from, usize::from(at < rest.len()));
    }
    let ends = |byte: &u8| byte.is_ascii_whitespace() || b"&;|<>\"'`,".contains(byte);
    let mut length = rest.iter().position(ends).unwrap_or(rest.len());
    // Closing brackets at the end do not belong to the value, but to the text around it.
    while length > 0 && matches!(rest[length - 1], b'}' | b')' | b']' | b'\\') {
        // `${X}` and `$(x)` are values with a bracket.
        if rest.starts_with(b"$") && rest[length - 1] != b'\\' {
            break;
        }
        length -= 1;
    }
    (start..start + length, 0, 0)
}

/// The end of the value of an assignment that is an argument of its own: the end of the argument,
/// or where another assignment begins, as in `password=X;Server=Y` and `password=X dbname=Y`.
fn argument_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    while at < bytes.len() {
        let byte = bytes[at];
        if matches!(byte, b'\n' | b'\r') {
            return at;
        }
        if !(byte.is_ascii_whitespace() || matches!(byte, b';' | b'&' | b',')) {
            at += 1;
            continue;
        }
        let rest = &bytes[at + 1..];
        // Names in connection strings have spaces: `User Id=`.
        let is_part = |part: &u8| is_name_byte(*part) || byte == b';' && *part == b' ';
        let length = rest.iter().take_while(|byte| is_part(byte)).count();
        let is_name =
            rest.get(length) == Some(&b'=') && length > 0 || byte == b';' && rest.is_empty();
        if is_name {
            return at;
        }
        at += 1 + length;
    }
    bytes.len()
}
