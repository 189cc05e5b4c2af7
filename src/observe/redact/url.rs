//! Finds secrets in URLs: passwords and tokens before the host, and secrets in the paths of
//! webhooks.

use std::ops::Range;

use super::{
    Search,
    scan::Cursor,
    token_formats,
    value::{is_hexadecimal, is_random, is_reference},
};

/// The webhooks of known services: the host and the first path segments, and the number of further
/// segments before the secret one.
const WEBHOOKS: [(&[u8], usize); 13] = [
    (b"hooks.slack.com/services/", 2),
    (b"hooks.slack.com/workflows/", 2),
    (b"hooks.slack.com/triggers/", 2),
    (b"discord.com/api/webhooks/", 1),
    (b"discordapp.com/api/webhooks/", 1),
    (b"hooks.zapier.com/hooks/catch/", 1),
    (b"open.feishu.cn/open-apis/bot/v2/hook/", 0),
    (b"open.larksuite.com/open-apis/bot/v2/hook/", 0),
    (b"mainnet.infura.io/v3/", 0),
    (b"conda.anaconda.org/t/", 0),
    (b"hc-ping.com/", 0),
    (b"events.pagerduty.com/integration/", 0),
    (b"maker.ifttt.com/trigger/", 3),
];

/// The length in bytes of the shortest host in [`WEBHOOKS`].
const WEBHOOK_HOST_MIN: usize = 11;

impl Search {
    /// Reads the URL with its `://` at the cursor. Returns the position from which to continue.
    pub(super) fn read_url(&mut self, cursor: &mut Cursor<'_>) -> usize {
        let (text, bytes) = (cursor.text, cursor.text.bytes);
        let start = cursor.at + 3;
        let end = start
            + bytes[start..]
                .iter()
                .position(|byte| matches!(byte, b'/' | b'?' | b'#') || ends_url(*byte))
                .unwrap_or(bytes.len() - start);
        let Some(at_sign) = self.end_of_user_info(cursor, start, end) else {
            return self.hide_webhook_secret(cursor, start, end);
        };
        let user_info = &bytes[start..at_sign];
        match user_info.iter().position(|byte| *byte == b':') {
            Some(colon) => {
                let password = &user_info[colon + 1..];
                // A token may stand instead of the user, with an empty or a fixed password.
                if is_token(&user_info[..colon]) {
                    self.hide(&text, start..start + colon);
                }
                if !is_reference(password) && password != b"x-oauth-basic" {
                    self.hide(&text, start + colon + 1..at_sign);
                }
            }
            None if is_token(user_info) => self.hide(&text, start..at_sign),
            None => {}
        }
        at_sign + 1
    }

    /// The position of the `@` that ends the user information of the authority `start..end`; `None`
    /// if there is no user information.
    fn end_of_user_info(&self, cursor: &mut Cursor<'_>, start: usize, end: usize) -> Option<usize> {
        let bytes = cursor.text.bytes;
        // It is the last `@`, because a password that is not escaped may contain others.
        let within = bytes[start..end].iter().rposition(|byte| *byte == b'@').map(|at| start + at);
        let ends_early = bytes.get(end).is_some_and(|byte| matches!(byte, b'/' | b'?' | b'#'));
        let colon = bytes[start..end].iter().position(|byte| *byte == b':');
        // Passwords can contain `/`, `?` and `#` as well. Then `end` is within the password, at the
        // position where a port would be.
        let port = colon.map(|colon| &bytes[start + colon + 1..end]);
        let is_port = port.is_none_or(|port| port.iter().all(u8::is_ascii_digit));
        let is_web =
            bytes[..cursor.at].ends_with(b"http") || bytes[..cursor.at].ends_with(b"https");
        if !ends_early || within.is_some() && is_web || within.is_none() && is_port {
            return within;
        }
        // The positions are kept in the cursor, so that no byte is searched twice.
        if cursor.next_at_sign < end {
            cursor.next_at_sign = position_of(bytes, end, |byte| byte == b'@');
        }
        if cursor.next_url_end < end {
            cursor.next_url_end = position_of(bytes, end, ends_url);
        }
        let first = cursor.next_at_sign;
        if first >= cursor.next_url_end {
            return within;
        }
        let host = first + 1;
        let host_end =
            position_of(bytes, host, |byte| matches!(byte, b'/' | b'?' | b'#') || ends_url(byte));
        // The password may contain an `@` too, so the last one before the next `/`, `?` or `#` ends
        // it. One after that is in the path.
        Some(
            bytes[host..host_end]
                .iter()
                .rposition(|byte| *byte == b'@')
                .map_or(first, |at| host + at),
        )
    }

    /// Hides the secret part of the path of a webhook with the host `start..end`.
    fn hide_webhook_secret(&mut self, cursor: &Cursor<'_>, start: usize, end: usize) -> usize {
        let (text, bytes) = (cursor.text, cursor.text.bytes);
        if end - start < WEBHOOK_HOST_MIN {
            return start;
        }
        let rest = &bytes[start..];
        let length = position_of(rest, 0, ends_url);
        let rest = &rest[..length.min(WEBHOOK_URL_MAX)];
        let is_stream =
            bytes[..cursor.at].ends_with(b"rtmp") || bytes[..cursor.at].ends_with(b"rtmps");
        let found = if is_stream {
            // `rtmp://host/app/KEY`
            let at = skip_segments(rest, 0, 2);
            Some(at..at + segment_length(&rest[at..]))
        } else if rest.starts_with(b"api.telegram.org/bot") {
            let colon = rest.iter().position(|byte| *byte == b':').map(|colon| colon + 1);
            colon.map(|colon| colon..colon + segment_length(&rest[colon..]))
        } else if let Some(path) = part_after(rest, b".webhook.office.com/webhookb2/", end - start)
        {
            // `…/IncomingWebhook/SECRET/ID`
            let at = skip_segments(rest, path, 2);
            Some(at..at + segment_length(&rest[at..]))
        } else {
            WEBHOOKS.iter().find(|(prefix, _)| rest.starts_with(prefix)).map(|(prefix, parts)| {
                let at = skip_segments(rest, prefix.len(), *parts);
                at..at + segment_length(&rest[at..])
            })
        };
        match found {
            Some(Range { start: from, end: to }) if to > from => {
                self.hide(&text, start + from..start + to);
                start + to
            }
            _ => start,
        }
    }
}

/// How many bytes of a URL are compared with the webhooks.
const WEBHOOK_URL_MAX: usize = 512;

/// Whether a byte ends a URL in a text.
fn ends_url(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'<' | b'>' | b'`')
}

/// Whether the user in `https://user@host` is a token.
fn is_token(user: &[u8]) -> bool {
    token_formats::token_length(user, false) > 0
        || user.len() >= 16 && is_random(user)
        || is_hexadecimal(user, 32)
}

/// The first position from `start` on with a byte for which `is` is true; the length of `bytes` if
/// there is none.
fn position_of(bytes: &[u8], start: usize, is: impl Fn(u8) -> bool) -> usize {
    let start = start.min(bytes.len());
    bytes[start..].iter().position(|byte| is(*byte)).map_or(bytes.len(), |at| start + at)
}

/// The position after `part`, which consists of the end of the host (the first `host` bytes) and
/// the beginning of the path.
fn part_after(url: &[u8], part: &[u8], host: usize) -> Option<usize> {
    let dot = part.iter().position(|byte| *byte == b'/')?;
    let start = host.checked_sub(dot)?;
    url.get(start..)?.starts_with(part).then_some(start + part.len())
}

/// The position after the next `parts` segments of a path.
fn skip_segments(url: &[u8], start: usize, parts: usize) -> usize {
    (0..parts).fold(start, |at, _| (at + segment_length(&url[at..]) + 1).min(url.len()))
}

/// The length of the first segment of a path.
fn segment_length(path: &[u8]) -> usize {
    position_of(path, 0, |byte| matches!(byte, b'/' | b'?' | b'#' | b'&'))
}
