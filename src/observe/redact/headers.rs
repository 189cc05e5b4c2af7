//! Finds the secrets in the headers `Authorization` and `Cookie`.

use super::{
    Search,
    names::{ValueKind, value_kind_of},
    scan::{Cursor, count_spaces, is_name_byte, value_at},
    text::Text,
    value::{is_reference, looks_secret},
};

impl Search {
    /// Hides the credential in `Authorization: SCHEME X`. Without a scheme the whole line is the
    /// credential.
    pub(super) fn hide_authorization(&mut self, cursor: &Cursor<'_>) -> Option<usize> {
        let bytes = cursor.text.bytes;
        let is_sign = |byte: &&u8| matches!(byte, b' ' | b':' | b'=' | b'"' | b'\'' | b'\\');
        let start = cursor.at + bytes[cursor.at..].iter().take_while(is_sign).count();
        // The parameters of a credential may have quotes, so in an argument of its own a quote does
        // not end the header.
        let alone = cursor.is_argument && !matches!(bytes.first(), Some(b'{' | b'['));
        let ends = |byte: &u8| matches!(byte, b'\n' | b'\r') || !alone && b"\"'\\".contains(byte);
        let length = bytes[start..].iter().position(ends).unwrap_or(bytes.len() - start);
        let line = &bytes[start..start + length];
        let word = line.iter().position(|byte| *byte == b' ').unwrap_or(0);
        let has_scheme = word > 0 && line[..word].iter().all(|byte| is_name_byte(*byte));
        let from = if has_scheme { word + count_spaces(&line[word..]) } else { 0 };
        let credential = &line[from..];
        if is_reference(credential) {
            return Some(start + length);
        }
        let has_parameters = credential.contains(&b',') && credential.contains(&b'=');
        if !has_parameters {
            self.hide(&cursor.text, start + from..start + length);
            return Some(start + length);
        }
        let mut at = start + from;
        for parameter in credential.split(|byte| *byte == b',') {
            let spaces = count_spaces(parameter);
            if let Some(equals) = parameter.iter().position(|byte| *byte == b'=')
                && matches!(
                    &parameter[spaces..equals].to_ascii_lowercase()[..],
                    b"response"
                        | b"signature"
                        | b"oauth_signature"
                        | b"oauth_token"
                        | b"mac"
                        | b"token"
                        | b"password"
                )
            {
                let (value, _, _) = value_at(bytes, at + equals + 1);
                self.hide(&cursor.text, value);
            }
            at += parameter.len() + 1;
        }
        Some(start + length)
    }

    /// Hides the values in `Cookie: a=X; b=Y` that look like secrets or have the name of a secret.
    pub(super) fn hide_cookie_header(
        &mut self,
        cursor: &Cursor<'_>,
        begins: bool,
    ) -> Option<usize> {
        let bytes = cursor.text.bytes;
        let is_sign = |byte: &&u8| matches!(byte, b' ' | b':' | b'=' | b'"' | b'\'' | b'\\');
        let start = cursor.at + bytes[cursor.at..].iter().take_while(is_sign).count();
        let ends = |byte: &u8| matches!(byte, b'\n' | b'\r' | b'"' | b'\'' | b'\\');
        let length = bytes[start..].iter().position(ends).unwrap_or(bytes.len() - start);
        let end =
            if begins || !bytes[start..start + length].is_empty() { start + length } else { start };
        self.hide_cookies(cursor.text.part(start..end));
        Some(end)
    }

    /// Hides the values in `a=X; b=Y` that look like secrets or have the name of a secret.
    pub(super) fn hide_cookies(&mut self, text: Text<'_>) {
        let mut at = 0;
        for pair in text.bytes.split(|byte| *byte == b';') {
            if let Some(equals) = pair.iter().position(|byte| *byte == b'=') {
                let (name, value) = (pair[..equals].trim_ascii(), &pair[equals + 1..]);
                if looks_secret(value)
                    || value_kind_of(name) != ValueKind::Other && !is_reference(value)
                {
                    self.hide(&text, at + equals + 1..at + pair.len());
                }
            } else if looks_secret(pair) {
                self.hide(&text, at..at + pair.len());
            }
            at += pair.len() + 1;
        }
    }
}
