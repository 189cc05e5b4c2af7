//! Times of the command line: how they are printed, and how `--since` and `--until` are read.
//!
//! A person at a terminal gets local times, and everything else gets RFC 3339 in UTC: a program
//! that reads a pipe does not know the zone.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::{
    SignedDuration, Span, Timestamp, ZonedDateTime,
    civil::{DateTime, Time},
    tz::TimeZone,
};

use crate::model::rfc3339;

/// How times are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Clock {
    /// RFC 3339 in UTC, with nanoseconds.
    #[default]
    Complete,
    /// The time of day in the zone of the user, and the date on a line of its own when it changes.
    Local,
    /// As `Local`, in UTC.
    Utc,
}

impl Clock {
    /// The clock of a terminal.
    pub(super) fn of_terminal(is_utc: bool) -> Self {
        if is_utc { Self::Utc } else { Self::Local }
    }

    /// The title of a column of times.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Local => "TIME",
            // As wide as the time of day without milliseconds.
            Self::Utc => "TIME UTC",
            Self::Complete => "TIME (UTC)",
        }
    }

    /// Whether a time in a column is complete, so that it needs no date beside it.
    pub(super) fn is_complete(self) -> bool {
        self == Self::Complete
    }

    /// A time in nanoseconds since 1970, as it stands in a column: the time of day with
    /// milliseconds, or the complete time.
    pub(super) fn time(self, since_1970_ns: u64) -> String {
        match self.zoned(since_1970_ns) {
            Some(time) => time.strftime("%H:%M:%S%.3f").to_string(),
            None => rfc3339(since_1970_ns),
        }
    }

    /// A time with its date, to the second.
    pub(super) fn date_and_time(self, since_1970_ns: u64) -> String {
        match self.zoned(since_1970_ns) {
            Some(time) => time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            None => rfc3339(since_1970_ns),
        }
    }

    /// The date of a time, if it is not a part of [`time`](Self::time).
    pub(super) fn date(self, since_1970_ns: u64) -> Option<jiff::civil::Date> {
        self.zoned(since_1970_ns).map(|time| time.date())
    }

    /// The current date.
    pub(super) fn today(self) -> Option<jiff::civil::Date> {
        self.date(now_ns())
    }

    fn zoned(self, since_1970_ns: u64) -> Option<ZonedDateTime> {
        let zone = match self {
            Self::Complete => return None,
            Self::Local => TimeZone::system(),
            Self::Utc => TimeZone::UTC,
        };
        let time = Timestamp::from_nanosecond(since_1970_ns.into()).ok()?;
        Some(time.to_zoned_datetime(zone))
    }
}

/// `CLOCK_REALTIME` in nanoseconds since 1970.
pub(super) fn now_ns() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX)
}

/// Parses a time of `--since` or `--until`: a duration before now (`5m`, `1h30m`, `2d`), `now`,
/// `today`, `yesterday`, a time of day (`14:00`), a date, or a date and a time. Without an offset
/// it is a time of the user's zone. Returns nanoseconds since 1970.
///
/// A time of day that is still to come today is taken as yesterday's.
pub(super) fn parse_time(text: &str) -> Result<u64, String> {
    parse_time_at(text, &ZonedDateTime::now())
}

fn parse_time_at(text: &str, now: &ZonedDateTime) -> Result<u64, String> {
    let invalid = || {
        "a time is a duration before now (5m, 1h30m, 2d), a time of day (14:00), a date \
         (2026-11-25), both (2026-11-25T14:00, with Z or an offset if it is not local), now, today \
         or yesterday"
            .to_owned()
    };
    let midnight = |at: &ZonedDateTime| at.start_of_day().ok();
    let time = match text {
        "now" => Some(now.clone()),
        "today" => midnight(now),
        "yesterday" => now.yesterday().ok().as_ref().and_then(midnight),
        _ => parse_span(text)
            .and_then(|span| now.checked_sub(span).ok())
            .or_else(|| {
                Some(text.parse::<Timestamp>().ok()?.to_zoned_datetime(now.time_zone().clone()))
            })
            .or_else(|| {
                text.parse::<DateTime>().ok()?.to_zoned_datetime(now.time_zone().clone()).ok()
            })
            .or_else(|| time_of_day(text, now)),
    };
    let since_1970 = time.ok_or_else(invalid)?.timestamp().as_nanosecond();
    u64::try_from(since_1970).map_err(|_| "the time is before 1970".to_owned())
}

/// A duration such as `5m`, `1h30m` or `90 s`. Only texts with a unit, so that `14` is an error.
fn parse_span(text: &str) -> Option<Span> {
    let is_duration = text.starts_with(|first: char| first.is_ascii_digit())
        && text.ends_with(|last: char| last.is_ascii_alphabetic())
        && !text.contains(['T', 'Z', '-', ':']);
    text.parse::<Span>().ok().filter(|_| is_duration)
}

fn time_of_day(text: &str, now: &ZonedDateTime) -> Option<ZonedDateTime> {
    // `Time` also accepts `14`, which could be anything.
    let time: Time = text.contains(':').then(|| text.parse().ok()).flatten()?;
    let today = now.date().to_datetime(time).to_zoned_datetime(now.time_zone().clone()).ok()?;
    if today <= *now { Some(today) } else { today.yesterday().ok() }
}

/// A duration in at most two units, such as `3m12s`, `350 ms` or `2d4h`. Rounded down.
pub(super) fn short_duration(ns: u64) -> String {
    let seconds = ns / 1_000_000_000;
    let pair = |large: u64, large_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large}{large_unit}"),
        small => format!("{large}{large_unit}{small}{small_unit}"),
    };
    match seconds {
        0 if ns < 1_000_000 => format!("{}us", ns / 1000),
        0 => format!("{}ms", ns / 1_000_000),
        1..10 => format!("{}.{}s", seconds, ns / 100_000_000 % 10),
        10..60 => format!("{seconds}s"),
        60..3600 => pair(seconds / 60, "m", seconds % 60, "s"),
        3600..86_400 => pair(seconds / 3600, "h", seconds / 60 % 60, "m"),
        86_400..864_000 => pair(seconds / 86_400, "d", seconds / 3600 % 24, "h"),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// How long ago a time was, as [`short_duration`]; a time in the future counts as now.
pub(super) fn age(since_1970_ns: u64) -> String {
    short_duration(now_ns().saturating_sub(since_1970_ns))
}

/// Parses a duration such as that of `--timeout`: `30s`, `1m30s`, or a number of seconds.
pub(super) fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    let duration = match text.parse::<u32>() {
        Ok(seconds) => Some(SignedDuration::from_secs(seconds.into())),
        Err(_) => text.parse::<SignedDuration>().ok(),
    };
    duration
        .and_then(|duration| duration.try_into().ok())
        .ok_or_else(|| "a duration is a number with a unit, such as 30s or 5m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check each form of a time against a fixed clock in a zone with an offset.
    #[test]
    fn every_form_of_a_time_is_read() {
        let now: ZonedDateTime = "2026-11-26T14:30:00+02:00[+02:00]".parse().unwrap();
        let read = |text: &str| {
            let ns = parse_time_at(text, &now).map_err(|_| ());
            ns.map(|ns| rfc3339(ns).replace(".000000000Z", ""))
        };
        for (text, utc) in [
            ("5m", "2026-11-26T12:25:00"),
            ("1h30m", "2026-11-26T11:00:00"),
            ("2d", "2026-11-24T12:30:00"),
            ("90 s", "2026-11-26T12:28:30"),
            ("now", "2026-11-26T12:30:00"),
            ("today", "2026-11-25T22:00:00"),
            ("yesterday", "2026-11-24T22:00:00"),
            ("14:00", "2026-11-26T12:00:00"),
            ("14:29:59", "2026-11-26T12:29:59"),
            // Still to come today.
            ("15:00", "2026-11-25T13:00:00"),
            ("2026-11-25", "2026-11-24T22:00:00"),
            ("2026-11-25T14:00", "2026-11-25T12:00:00"),
            ("2026-11-25 14:00:01", "2026-11-25T12:00:01"),
            ("2026-11-25T14:00:00Z", "2026-11-25T14:00:00"),
            ("2026-11-25T14:00:00-05:00", "2026-11-25T19:00:00"),
        ] {
            assert_eq!(read(text), Ok(utc.to_owned()), "{text}");
        }
        for text in ["", "5", "14", "m", "-5m", "soon", "25:00", "2026-13-01", "5m ago later"] {
            assert_eq!(read(text), Err(()), "{text}");
        }
    }

    /// Check that a duration never takes more than six characters below a thousand days.
    #[test]
    fn a_duration_is_short() {
        let text = |micros: u64| short_duration(micros * 1000);
        assert_eq!(
            [0, 900, 350_000, 3_250_000, 42_000_000, 192_000_000].map(text),
            ["0us", "900us", "350ms", "3.2s", "42s", "3m12s"]
        );
        assert_eq!(
            [3600, 7500, 187_200, 96_000_000].map(|seconds| text(seconds * 1_000_000)),
            ["1h", "2h5m", "2d4h", "1111d"]
        );
    }

    /// Check the durations of `--timeout`.
    #[test]
    fn a_timeout_is_a_number_of_seconds_or_has_a_unit() {
        let seconds = |text: &str| parse_duration(text).ok().map(|one| one.as_secs());
        assert_eq!(["30", "1m30s", "2 h"].map(seconds), [Some(30), Some(90), Some(7200)]);
        assert_eq!(["-5s", "", "soon"].map(seconds), [None; 3]);
    }
}
