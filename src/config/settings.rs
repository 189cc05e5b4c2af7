//! The values of all keys of the configuration, and their parsing from text.

use std::{path::PathBuf, time::Duration};

use super::{
    key::{AnnotationUse, Key},
    value,
};

/// The settings of one container or of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whether containers are observed at all.
    pub observe: bool,
    /// The source of process records.
    pub source: SourceChoice,
    /// The events that are published on containerd's bus.
    pub bus: BusEvents,
    /// Size of one shim's ring in bytes: a power of two, 4 KiB to 4 MiB.
    pub ring_size: u32,
    /// The most bytes of a process's arguments that are captured: 256 to 16 KiB.
    pub argv_max: u32,
    /// Regular expressions of secrets in arguments, in addition to the built-in expressions. At
    /// most 64, of at most 512 bytes each. This module does not compile them, so an invalid
    /// expression is found only when the redactor is made.
    pub redact: Vec<String>,
    /// How much in arguments is taken for a secret.
    pub redact_mode: RedactMode,
    /// Size of a shim's journal in bytes: 64 KiB to 64 MiB.
    pub journal_max: u64,
    /// The time without activity after which a container is idle: 1 s to 24 h.
    pub idle_after: Duration,
    /// The absolute path of the unix socket that serves the probe format; `None` if there is no
    /// such socket.
    pub probe_socket: Option<PathBuf>,
    /// The address at which metrics are served, `HOST:PORT`; `None` if there is no such address.
    pub metrics_address: Option<String>,
    /// The interval at which the daemon checks whether registered processes are still alive: 100 ms
    /// to 24 h.
    pub liveness_interval: Duration,
    /// The interval at which the daemon records when it last saw a process: 100 ms to 24 h.
    pub last_seen_interval: Duration,
    /// Size of the daemon's history on disk in bytes: 16 MiB to 1 TiB, or 0 for no history.
    pub history_size: u64,
    /// The age after which events are removed from the history: 1 min to 10 years, or 0 for no
    /// such limit.
    pub history_age: Duration,
    /// The keys that options and annotations cannot change, sorted.
    pub locked: Vec<Key>,
    /// The keys that annotations may set, sorted.
    pub allow: Vec<AllowedKey>,
}

/// A key that annotations may set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AllowedKey {
    /// The containerd namespace of the containers that may set the key; `None` for all containers.
    pub namespace: Option<String>,
    /// The key that annotations may set.
    pub key: Key,
}

/// The configured source of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum SourceChoice {
    /// The best source that the node supports.
    #[default]
    Auto,
    /// The eBPF programs, or no source if the node does not support them.
    Bpf,
    /// The kernel's proc connector (netlink).
    Connector,
    /// Polling `/proc` at an interval.
    Poll,
}

impl SourceChoice {
    /// The name of the source in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Bpf => "bpf",
            Self::Connector => "connector",
            Self::Poll => "poll",
        }
    }
}

/// The events of the observer that are published on containerd's bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum BusEvents {
    /// Events of ports, and gaps.
    #[default]
    Ports,
    /// Events of ports, gaps, and events of processes. The number of events in a time is limited.
    Processes,
    /// No events of the observer; task events are always published.
    None,
}

impl BusEvents {
    /// The name of the selection of events in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ports => "ports",
            Self::Processes => "processes",
            Self::None => "none",
        }
    }
}

/// How much in arguments is taken for a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[non_exhaustive]
pub enum RedactMode {
    /// Hides what has the name, the place or the form of a secret.
    #[default]
    Standard,
    /// Hides random text as well, and what looks like a secret after any option. Identifiers can
    /// look the same, so more than secrets is hidden.
    Strict,
}

impl RedactMode {
    /// The name of the mode in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Strict => "strict",
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            observe: true,
            source: SourceChoice::Auto,
            bus: BusEvents::Ports,
            ring_size: 128 << 10,
            argv_max: 4096,
            redact: Vec::new(),
            redact_mode: RedactMode::Standard,
            journal_max: 2 << 20,
            idle_after: Duration::from_secs(60),
            probe_socket: None,
            metrics_address: None,
            liveness_interval: Duration::from_secs(15),
            last_seen_interval: Duration::from_secs(60),
            history_size: 512 << 20,
            history_age: Duration::from_secs(30 * 24 * 3600),
            locked: Vec::new(),
            allow: Vec::new(),
        }
    }
}

/// The most bytes of the path of a unix socket, without its terminating NUL (unix(7)).
const SOCKET_PATH_MAX: usize = 107;
/// The most patterns of the key `redact`. The number is bounded because each pattern is matched
/// against each argument.
pub(super) const PATTERNS_MAX: usize = 64;
/// The most patterns that an annotation may add if the key `allow` does not name `redact`.
pub(super) const ANNOTATION_PATTERNS_MAX: usize = 16;
/// The most bytes that a pattern may have.
const PATTERN_BYTES_MAX: usize = 512;
/// The longest duration that a key accepts.
const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);
/// The least and the most bytes of `history_size`. The write-ahead log takes at least 4 MiB of them.
const HISTORY_BYTES: (u64, u64) = (16 << 20, 1 << 40);
/// The least and the greatest `history_age`.
const HISTORY_AGES: (Duration, Duration) =
    (Duration::from_secs(60), Duration::from_secs(10 * 365 * 24 * 3600));

/// The error of a value that its key does not accept: see [`Key::expected_value`]. The settings are
/// unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InvalidValue;

impl Settings {
    /// Parses `text` as the value of `key` and sets it.
    pub(super) fn set(&mut self, key: Key, text: &str) -> Result<(), InvalidValue> {
        let text = text.trim();
        match key {
            Key::Observe => self.observe = value::parse_switch(text).ok_or(InvalidValue)?,
            Key::Source => {
                self.source = match text {
                    "auto" => SourceChoice::Auto,
                    "bpf" => SourceChoice::Bpf,
                    "connector" => SourceChoice::Connector,
                    "poll" => SourceChoice::Poll,
                    _ => return Err(InvalidValue),
                }
            }
            Key::Bus => {
                self.bus = match text {
                    "ports" => BusEvents::Ports,
                    "processes" => BusEvents::Processes,
                    "none" => BusEvents::None,
                    _ => return Err(InvalidValue),
                }
            }
            Key::RingSize => {
                let size = parse_size_within(text, 4 << 10, 4 << 20)?;
                self.ring_size = u32::try_from(size)
                    .ok()
                    .filter(|size| size.is_power_of_two())
                    .ok_or(InvalidValue)?;
            }
            Key::ArgvMax => {
                self.argv_max = u32::try_from(parse_size_within(text, 256, 16 << 10)?)
                    .map_err(|_| InvalidValue)?;
            }
            Key::Redact => self.redact = parse_patterns(text)?,
            Key::RedactMode => {
                self.redact_mode = match text {
                    "standard" => RedactMode::Standard,
                    "strict" => RedactMode::Strict,
                    _ => return Err(InvalidValue),
                }
            }
            Key::JournalMax => self.journal_max = parse_size_within(text, 64 << 10, 64 << 20)?,
            Key::IdleAfter => self.idle_after = parse_duration_from(text, Duration::from_secs(1))?,
            Key::ProbeSocket => self.probe_socket = parse_socket_path(text)?,
            Key::MetricsAddress => self.metrics_address = parse_address(text)?,
            Key::LivenessInterval => {
                self.liveness_interval = parse_duration_from(text, Duration::from_millis(100))?
            }
            Key::LastSeenInterval => {
                self.last_seen_interval = parse_duration_from(text, Duration::from_millis(100))?
            }
            Key::HistorySize => {
                self.history_size = match value::parse_size(text) {
                    Some(0) => 0,
                    _ => parse_size_within(text, HISTORY_BYTES.0, HISTORY_BYTES.1)?,
                }
            }
            Key::HistoryAge => {
                self.history_age = value::parse_duration(text)
                    .filter(|age| age.is_zero() || (HISTORY_AGES.0..=HISTORY_AGES.1).contains(age))
                    .ok_or(InvalidValue)?
            }
            Key::Locked => self.locked = parse_keys(text)?,
            Key::Allow => self.allow = parse_allowed(text)?,
        }
        Ok(())
    }

    /// Adds a container's `redact` patterns to those of the host, which a container cannot remove.
    /// More than `most` patterns are refused.
    pub(super) fn add_patterns(&mut self, text: &str, most: usize) -> Result<(), InvalidValue> {
        let more = parse_patterns(text)?;
        if more.len() > most || self.redact.len() + more.len() > PATTERNS_MAX {
            return Err(InvalidValue);
        }
        self.redact.extend(more);
        Ok(())
    }

    /// Whether annotations of the containers in a containerd namespace may set a key.
    pub(super) fn allows(&self, key: Key, namespace: &str) -> bool {
        let is_here = |allowed: &&AllowedKey| {
            allowed.namespace.as_deref().is_none_or(|allowed| allowed == namespace)
        };
        self.allow.iter().filter(is_here).any(|allowed| allowed.key == key)
    }

    /// The value of a key in the form of the configuration, with units; empty if it is not set.
    #[must_use]
    pub fn show(&self, key: Key) -> String {
        match key {
            Key::Observe => if self.observe { "on" } else { "off" }.to_owned(),
            Key::Source => self.source.as_str().to_owned(),
            Key::Bus => self.bus.as_str().to_owned(),
            Key::RingSize => value::format_size(self.ring_size.into()),
            Key::ArgvMax => value::format_size(self.argv_max.into()),
            Key::Redact => self.redact.join("\n"),
            Key::RedactMode => self.redact_mode.as_str().to_owned(),
            Key::JournalMax => value::format_size(self.journal_max),
            Key::IdleAfter => value::format_duration(self.idle_after),
            Key::ProbeSocket => self
                .probe_socket
                .as_ref()
                .map_or_else(String::new, |path| path.display().to_string()),
            Key::MetricsAddress => self.metrics_address.clone().unwrap_or_default(),
            Key::LivenessInterval => value::format_duration(self.liveness_interval),
            Key::LastSeenInterval => value::format_duration(self.last_seen_interval),
            Key::HistorySize => value::format_size(self.history_size),
            Key::HistoryAge => value::format_duration(self.history_age),
            Key::Locked => self.locked.iter().map(|key| key.as_str()).collect::<Vec<_>>().join(","),
            Key::Allow => self.allow.iter().map(AllowedKey::show).collect::<Vec<_>>().join(","),
        }
    }
}

/// Parses a size in bytes that must be from `least` to `most`.
fn parse_size_within(text: &str, least: u64, most: u64) -> Result<u64, InvalidValue> {
    value::parse_size(text).filter(|size| (least..=most).contains(size)).ok_or(InvalidValue)
}

/// Parses a duration that must be from `least` to [`DURATION_MAX`].
fn parse_duration_from(text: &str, least: Duration) -> Result<Duration, InvalidValue> {
    value::parse_duration(text)
        .filter(|duration| (least..=DURATION_MAX).contains(duration))
        .ok_or(InvalidValue)
}

/// Parses the value of `redact`, and checks the number and the length of the patterns.
fn parse_patterns(text: &str) -> Result<Vec<String>, InvalidValue> {
    let patterns = value::parse_list(text);
    let fit = patterns.len() <= PATTERNS_MAX
        && patterns.iter().all(|pattern| pattern.len() <= PATTERN_BYTES_MAX);
    fit.then_some(patterns).ok_or(InvalidValue)
}

/// Parses an absolute path of a unix socket; empty text means that there is no socket.
fn parse_socket_path(text: &str) -> Result<Option<PathBuf>, InvalidValue> {
    match text {
        "" => Ok(None),
        _ if text.starts_with('/') && text.len() <= SOCKET_PATH_MAX && !text.contains('\0') => {
            Ok(Some(text.into()))
        }
        _ => Err(InvalidValue),
    }
}

/// Parses an address with a port, `HOST:PORT`; empty text means that there is no address.
fn parse_address(text: &str) -> Result<Option<String>, InvalidValue> {
    if text.is_empty() {
        return Ok(None);
    }
    let (host, port) = text.rsplit_once(':').ok_or(InvalidValue)?;
    port.parse::<u16>().map_err(|_| InvalidValue)?;
    let is_clean = host.chars().all(|character| character.is_ascii_graphic());
    is_clean.then(|| Some(text.to_owned())).ok_or(InvalidValue)
}

/// Splits the names of keys: a list, or one line with commas or spaces between the names.
fn split_names(text: &str) -> Vec<String> {
    let entries = value::parse_list(text);
    let names = entries.iter().flat_map(|entry| entry.split([',', ' ']));
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Parses the value of `locked`; sorted, without duplicates.
fn parse_keys(text: &str) -> Result<Vec<Key>, InvalidValue> {
    let mut keys = split_names(text)
        .iter()
        .map(|name| Key::from_name(name).ok_or(InvalidValue))
        .collect::<Result<Vec<_>, _>>()?;
    keys.sort_unstable();
    keys.dedup();
    Ok(keys)
}

/// Parses the value of `allow`; sorted, without duplicates.
fn parse_allowed(text: &str) -> Result<Vec<AllowedKey>, InvalidValue> {
    let mut allowed = split_names(text)
        .iter()
        .map(|name| AllowedKey::from_name(name).ok_or(InvalidValue))
        .collect::<Result<Vec<_>, _>>()?;
    allowed.sort_unstable();
    allowed.dedup();
    Ok(allowed)
}

impl AllowedKey {
    fn from_name(name: &str) -> Option<Self> {
        let (namespace, key) = match name.split_once('/') {
            Some((namespace, key)) => (Some(namespace), key),
            None => (None, name),
        };
        let key = Key::from_name(key).filter(|key| {
            matches!(key.annotation_use(), AnnotationUse::IfAllowed | AnnotationUse::Adds)
        })?;
        let is_empty = namespace.is_some_and(str::is_empty);
        (!is_empty).then(|| Self { namespace: namespace.map(str::to_owned), key })
    }

    fn show(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{namespace}/{}", self.key),
            None => self.key.to_string(),
        }
    }
}
