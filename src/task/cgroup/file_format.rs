//! Parses the formats of cgroup files. Pure: does no I/O.
//!
//! A line with an unknown format is skipped, because later kernels may add such lines.

/// The kernel's key for a field, and a function that returns the field of a message.
pub(super) type Field<M> = (&'static str, fn(&mut M) -> &mut u64);

/// Sets the fields of `message` that a flat keyed file contains (`key value` on each line).
pub(super) fn fill<M>(message: &mut M, fields: &[Field<M>], content: &[u8]) {
    for (key, value) in pairs(content) {
        if let Some((_, field)) = fields.iter().find(|(name, _)| *name == key) {
            *field(message) = value;
        }
    }
}

/// The keys and values of a flat keyed file.
pub(super) fn pairs(content: &[u8]) -> impl Iterator<Item = (&str, u64)> {
    lines(content).filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let pair = (words.next()?, count(words.next()?)?);
        // A third word means another format, such as `io.stat`.
        words.next().is_none().then_some(pair)
    })
}

/// The value of one key of a flat keyed file; `None` if the key is missing.
pub(super) fn value(content: &[u8], key: &str) -> Option<u64> {
    pairs(content).find(|(name, _)| *name == key).map(|(_, value)| value)
}

/// The value of a file with a single number; `None` if it is not a number. `unlimited` is the value
/// for `max`: containerd's clients expect 0 on version 1 and `u64::MAX` on version 2 (`readUint`,
/// `getStatFileContentUint64` of containerd/cgroups v3).
pub(super) fn number(content: &[u8], unlimited: u64) -> Option<u64> {
    match str::from_utf8(content).ok()?.trim() {
        "max" => Some(unlimited),
        word => count(word),
    }
}

/// The lines of a file that are valid UTF-8.
pub(super) fn lines(content: &[u8]) -> impl Iterator<Item = &str> {
    content.split(|&byte| byte == b'\n').filter_map(|line| str::from_utf8(line).ok())
}

/// Parses a count. A sum of per-CPU counters can be negative for a moment; a negative count is
/// parsed as 0.
fn count(word: &str) -> Option<u64> {
    match word.parse() {
        Ok(count) => Some(count),
        Err(_) => word.parse::<i64>().ok().map(|_negative| 0),
    }
}

#[cfg(test)]
mod tests;
