//! The fuzz target of redaction.

use std::sync::LazyLock;

use super::{REDACTED, Redactor};
use crate::{config::RedactMode, model::Args};

/// A value that must never be shown.
const SECRET: &str = "Xq7Tz2Lk9Wv4Rn8B";

/// The redactors: the standard one, the strict one, and one with an operator's patterns.
static REDACTORS: LazyLock<[Redactor; 3]> = LazyLock::new(|| {
    let patterns = ["pin=([0-9]+)", r"-a\x00([^\x00]+)"].map(str::to_owned);
    [
        (RedactMode::Standard, &patterns[..0]),
        (RedactMode::Strict, &[]),
        (RedactMode::Standard, &patterns),
    ]
    .map(|(mode, patterns)| Redactor::new(mode, patterns).expect("they are valid"))
});

/// Redacts arguments, with and without a secret after them.
pub(crate) fn arguments(bytes: &[u8]) {
    // As many bytes as are captured of a process.
    let bytes = &bytes[..bytes.len().min(4096)];
    for redactor in &*REDACTORS {
        let args = Args::from_nul_separated(bytes);
        let secrets = redactor.secrets(bytes);
        let redacted = redactor.redact(args.clone());
        check(bytes, &secrets, &redacted);
        assert_eq!((redacted.total_bytes, redacted.count), (args.total_bytes, args.count));
    }
    with_a_secret(bytes);
}

/// Checks what is replaced: sorted, apart, within one argument; the rest stays as it is.
fn check(bytes: &[u8], secrets: &[std::ops::Range<usize>], redacted: &Args) {
    let mut end = 0;
    let mut hidden = 0;
    for (number, secret) in secrets.iter().enumerate() {
        assert!(secret.start < secret.end && (number == 0 || secret.start > end));
        assert!(!bytes[secret.clone()].contains(&0), "more than one argument is replaced");
        end = secret.end;
        hidden += secret.len();
    }
    assert!(end <= bytes.len());
    assert_eq!(redacted.bytes.len(), bytes.len() - hidden + secrets.len() * REDACTED.len());
    assert_eq!(redacted.redacted, !secrets.is_empty());
}

/// A command of its own after other arguments: its secret is found whatever they are.
fn with_a_secret(before: &[u8]) {
    let mut bytes = before.to_vec();
    bytes.extend_from_slice(format!("\0--x\0https://user:{SECRET}@host/\0").as_bytes());
    let redacted = REDACTORS[0].redact(Args::from_nul_separated(&bytes));
    let is_shown = redacted.bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes());
    // The arguments before may have it themselves, where it is nothing.
    let was_there = before.windows(SECRET.len()).any(|part| part == SECRET.as_bytes());
    assert!(!is_shown || was_there, "{redacted:?}");
}
