//! The keys of the configuration, and who may set them.

use std::fmt;

/// A key of the configuration. Its name in a file is [`as_str`](Key::as_str), in the environment
/// `LOOKOUT_` and the name in capitals, in an annotation `io.lookout.` and the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Key {
    /// Whether containers are observed at all.
    Observe,
    /// The source of process records: `auto` or a fixed one.
    Source,
    /// The events that are published on containerd's bus.
    Bus,
    /// The size of one shim's ring in the kernel, in bytes.
    RingSize,
    /// The most bytes of a process's arguments that are captured.
    ArgvMax,
    /// Patterns of secrets in arguments.
    Redact,
    /// The size of a shim's event log, in bytes.
    JournalMax,
    /// The time without activity after which a container is idle.
    IdleAfter,
    /// The unix socket that serves the probe format.
    ProbeSocket,
    /// The address at which metrics are served.
    MetricsAddress,
    /// The interval at which the daemon checks whether registered processes are still alive.
    LivenessInterval,
    /// The interval at which the daemon records when it last saw a process.
    LastSeenInterval,
    /// The keys that options and annotations cannot change.
    Locked,
}

impl Key {
    /// All keys, in the order of every listing.
    pub const ALL: [Self; 13] = [
        Self::Observe,
        Self::Source,
        Self::Bus,
        Self::RingSize,
        Self::ArgvMax,
        Self::Redact,
        Self::JournalMax,
        Self::IdleAfter,
        Self::ProbeSocket,
        Self::MetricsAddress,
        Self::LivenessInterval,
        Self::LastSeenInterval,
        Self::Locked,
    ];

    /// The key's name in a file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Source => "source",
            Self::Bus => "bus",
            Self::RingSize => "ring_size",
            Self::ArgvMax => "argv_max",
            Self::Redact => "redact",
            Self::JournalMax => "journal_max",
            Self::IdleAfter => "idle_after",
            Self::ProbeSocket => "probe_socket",
            Self::MetricsAddress => "metrics_address",
            Self::LivenessInterval => "liveness_interval",
            Self::LastSeenInterval => "last_seen_interval",
            Self::Locked => "locked",
        }
    }

    /// The key with this name; `None` if there is no such key.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.as_str() == name)
    }

    /// The name of the key's environment variable.
    #[must_use]
    pub fn variable(self) -> String {
        format!("LOOKOUT_{}", self.as_str().to_ascii_uppercase())
    }

    /// The values that the key accepts, for an error message.
    #[must_use]
    pub fn expected(self) -> &'static str {
        match self {
            Self::Observe => "on or off",
            Self::Source => "auto, bpf, connector or poll",
            Self::Bus => "ports, processes or none",
            Self::RingSize => "a power of two from 4KiB to 4MiB",
            Self::ArgvMax => "a size from 256 to 16KiB",
            Self::Redact => "at most 64 patterns of at most 512 bytes",
            Self::JournalMax => "a size from 64KiB to 64MiB",
            Self::IdleAfter => "a duration from 1s to 24h, such as 90s",
            Self::ProbeSocket => "an absolute path of at most 107 bytes",
            Self::MetricsAddress => "an address with a port, such as 127.0.0.1:9464",
            Self::LivenessInterval | Self::LastSeenInterval => {
                "a duration from 100ms to 24h, such as 15s"
            }
            Self::Locked => "names of keys",
        }
    }

    /// Whether only the host's configuration can set the key. This is true for `locked`: otherwise
    /// a container could unlock keys for itself.
    #[must_use]
    pub fn is_host_only(self) -> bool {
        matches!(self, Self::Locked)
    }

    /// Whether an annotation can set the key. The author of a pod is not trusted: the shim, which
    /// is root on the node, must not open a socket at a path that an annotation chooses.
    #[must_use]
    pub fn allows_annotation(self) -> bool {
        match self {
            Self::Observe
            | Self::Source
            | Self::Bus
            | Self::RingSize
            | Self::ArgvMax
            | Self::Redact
            | Self::JournalMax
            | Self::IdleAfter => true,
            Self::ProbeSocket
            | Self::MetricsAddress
            | Self::LivenessInterval
            | Self::LastSeenInterval
            | Self::Locked => false,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
