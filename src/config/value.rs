//! Parses the values of keys from text: switches, sizes, durations and lists.

use std::time::Duration;

/// Parses a switch: `on`, `true`, `yes`, `1` or `off`, `false`, `no`, `0`, in any case.
pub(super) fn parse_switch(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Some(true),
        "off" | "false" | "no" | "0" => Some(false),
        _ => None,
    }
}

/// Parses a size, in bytes: digits, then nothing, `B`, `KiB`, `MiB` or `GiB`. `K`, `M` and `G` mean
/// the same as `KiB`, `MiB` and `GiB`.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text)?;
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

/// Parses a duration: digits, then `ms`, `s`, `m` or `h`. A number without a unit is invalid.
/// Returns `None` for invalid text.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

/// Parses a list: a JSON array of strings, or one entry per line. Empty entries are left out.
pub(super) fn parse_list(text: &str) -> Vec<String> {
    let entries = if text.trim_start().starts_with('[') {
        // A pattern such as `[0-9]+` also begins with a bracket, but is not a JSON array of
        // strings.
        serde_json::from_str(text).unwrap_or_else(|_| vec![text.to_owned()])
    } else {
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    entries
        .into_iter()
        .map(|entry| entry.trim().to_owned())
        .filter(|entry| !entry.is_empty())
        .collect()
}

/// Formats a size so that [`parse_size`] parses it to the same value.
pub(super) fn format_size(bytes: u64) -> String {
    match bytes {
        0 => "0".to_owned(),
        _ if bytes.is_multiple_of(1 << 20) => format!("{}MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{}KiB", bytes >> 10),
        _ => bytes.to_string(),
    }
}

/// Formats a duration so that [`parse_duration`] parses it to the same value.
pub(super) fn format_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        _ if !millis.is_multiple_of(1000) => format!("{millis}ms"),
        _ if millis == 0 || !millis.is_multiple_of(60_000) => format!("{}s", millis / 1000),
        _ if !millis.is_multiple_of(3_600_000) => format!("{}m", millis / 60_000),
        _ => format!("{}h", millis / 3_600_000),
    }
}

/// Splits text such as `15ms` into its number and its unit; `None` if it does not begin with a
/// number.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim_start()))
}
