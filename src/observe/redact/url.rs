//! Finds secrets in URLs: passwords and tokens before the host, and secrets in the paths of
//! webhooks.

use std::ops::Range;

use super::{
    Search,
    scan::Cursor,
    tokens,
    value::{is_hexadecimal, is_random, is_reference},
};

/// The host and the first path segments of a webhook, and how many further segments come before the
/// secret one.
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

/// A host of at least this length can be one of [`WEBHOOKS`].
const WEBHOOK_HOST_MIN: usize = 11;

impl Search {
    /// Handles the `://` at the cursor. Returns where to go on.
    pub(super) fn url(&mut self, cursor: &mut Cursor<'_>) -> usize {
        let (text, bytes) = (cursor.text, cursor.text.bytes);
        let start = cursor.at + 3;
        let end = start
            + bytes[start..]
                .iter()
                .position(|byte| matches!(byte, b'/' | b'?' | b'#') || ends_url(*byte))
                .unwrap_or(bytes.len() - start);
        let Some(at_sign) = self.at_sign(cursor, start, end) else {
            return self.webhook(cursor, start, end);
        };
        let user_info = &bytes[start..at_sign];
        match user_info.iter().position(|byte| *byte == b':') {
            Some(colon) => {
                let password = &user_info[colon + 1..];
                // A token in place of the user has an empty or a fixed password.
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

    /// Where the `@` is that ends the user information of the authority `start..end`.
    fn at_sign(&self, cursor: &mut Cursor<'_>, start: usize, end: usize) -> Option<usize> {
        let bytes = cursor.text.bytes;
        // The last `@` ends it: a password that is not escaped may contain others.
        let within = bytes[start..end].iter().rposition(|byte| *byte == b'@').map(|at| start + at);
        let ends_early = bytes.get(end).is_some_and(|byte| matches!(byte, b'/' | b'?' | b'#'));
        let colon = bytes[start..end].iter().position(|byte| *byte == b':');
        // Passwords can contain `/`, `?` and `#` as well. Then the authority seems to end within
        // the password, that is where a port should be.
        let port = colon.map(|colon| &bytes[start + colon + 1..end]);
        let is_port = port.is_none_or(|port| port.iter().all(u8::is_ascii_digit));
        let is_web =
            bytes[..cursor.at].ends_with(b"http") || bytes[..cursor.at].ends_with(b"https");
        if !ends_early || within.is_some() && is_web || within.is_none() && is_port {
            return within;
        }
        // The positions are kept, so that no byte is searched twice for them.
        if cursor.next_at_sign < end {
            cursor.next_at_sign = position(bytes, end, |byte| byte == b'@');
        }
        if cursor.next_end < end {
            cursor.next_end = position(bytes, end, ends_url);
        }
        let first = cursor.next_at_sign;
        if first >= cursor.next_end {
            return within;
        }
        let host = first + 1;
        let host_end =
            position(bytes, host, |byte| matches!(byte, b'/' | b'?' | b'#') || ends_url(byte));
        // After a complete user information a second `@` must look like the end of one too: a path
        // with an `@` has a host and no colon before it.
        Some(
            bytes[host..host_end]
                .iter()
                .rposition(|byte| *byte == b'@')
                .map_or(first, |at| host + at),
        )
    }

    /// Hides the secret part of the path of a webhook with the host `start..end`.
    fn webhook(&mut self, cursor: &Cursor<'_>, start: usize, end: usize) -> usize {
        let (text, bytes) = (cursor.text, cursor.text.bytes);
        if end - start < WEBHOOK_HOST_MIN {
            return start;
        }
        let rest = &bytes[start..];
        let length = position(rest, 0, ends_url);
        let rest = &rest[..length.min(URL_MAX)];
        let found = if rest.starts_with(b"api.telegram.org/bot") {
            let colon = rest.iter().position(|byte| *byte == b':').map(|colon| colon + 1);
            colon.map(|colon| colon..colon + segment(&rest[colon..]))
        } else if let Some(path) = part_after(rest, b".webhook.office.com/webhookb2/", end - start)
        {
            // `…/IncomingWebhook/SECRET/ID`
            let at = skip(rest, path, 2);
            Some(at..at + segment(&rest[at..]))
        } else {
            WEBHOOKS.iter().find(|(prefix, _)| rest.starts_with(prefix)).map(|(prefix, parts)| {
                let at = skip(rest, prefix.len(), *parts);
                at..at + segment(&rest[at..])
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

/// How much of a URL is compared with the webhooks.
const URL_MAX: usize = 512;

/// Whether a byte ends a URL in a text.
fn ends_url(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'<' | b'>' | b'`')
}

/// Whether a user before a host is a token: `https://TOKEN@host`.
fn is_token(user: &[u8]) -> bool {
    tokens::length(user, false) > 0
        || user.len() >= 16 && is_random(user)
        || is_hexadecimal(user, 32)
}

/// The first position from `start` on with such a byte, or the length.
fn position(bytes: &[u8], start: usize, is: impl Fn(u8) -> bool) -> usize {
    let start = start.min(bytes.len());
    bytes[start..].iter().position(|byte| is(*byte)).map_or(bytes.len(), |at| start + at)
}

/// The position after `part`, which stands in the first `host` bytes and what follows them.
fn part_after(url: &[u8], part: &[u8], host: usize) -> Option<usize> {
    let dot = part.iter().position(|byte| *byte == b'/')?;
    let start = host.checked_sub(dot)?;
    url.get(start..)?.starts_with(part).then_some(start + part.len())
}

/// The position after so many parts of a path.
fn skip(url: &[u8], start: usize, parts: usize) -> usize {
    (0..parts).fold(start, |at, _| (at + segment(&url[at..]) + 1).min(url.len()))
}

fn segment(path: &[u8]) -> usize {
    position(path, 0, |byte| matches!(byte, b'/' | b'?' | b'#' | b'&'))
}
