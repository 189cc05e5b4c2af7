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
    /// How much in arguments is taken for a secret.
    RedactMode,
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
    /// The keys that annotations may set although they change how a container is watched.
    Allow,
}

/// What an annotation of a container may do with a key.
///
/// The author of a pod is not trusted: he must not decide how his containers are watched, what the
/// shim costs the node, or at which path the shim, which is root, opens a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnnotationUse {
    /// Set it.
    Free,
    /// Set it, if the host's key `allow` names the key.
    IfAllowed,
    /// Add to the host's value: a few entries, and more if `allow` names the key.
    Adds,
    /// Nothing.
    Never,
}

impl Key {
    /// All keys, in the order of every listing.
    pub const ALL: [Self; 15] = [
        Self::Observe,
        Self::Source,
        Self::Bus,
        Self::RingSize,
        Self::ArgvMax,
        Self::Redact,
        Self::RedactMode,
        Self::JournalMax,
        Self::IdleAfter,
        Self::ProbeSocket,
        Self::MetricsAddress,
        Self::LivenessInterval,
        Self::LastSeenInterval,
        Self::Locked,
        Self::Allow,
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
            Self::RedactMode => "redact_mode",
            Self::JournalMax => "journal_max",
            Self::IdleAfter => "idle_after",
            Self::ProbeSocket => "probe_socket",
            Self::MetricsAddress => "metrics_address",
            Self::LivenessInterval => "liveness_interval",
            Self::LastSeenInterval => "last_seen_interval",
            Self::Locked => "locked",
            Self::Allow => "allow",
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
            Self::RedactMode => "standard or strict",
            Self::JournalMax => "a size from 64KiB to 64MiB",
            Self::IdleAfter => "a duration from 1s to 24h, such as 90s",
            Self::ProbeSocket => "an absolute path of at most 107 bytes",
            Self::MetricsAddress => "an address with a port, such as 127.0.0.1:9464",
            Self::LivenessInterval | Self::LastSeenInterval => {
                "a duration from 100ms to 24h, such as 15s"
            }
            Self::Locked => "names of keys",
            Self::Allow => {
                "names of keys that an annotation can set, each alone or after a containerd \
                 namespace and a slash"
            }
        }
    }

    /// Whether only the host's configuration can set the key. This is true for the keys that decide
    /// about others: otherwise a container could free keys for itself.
    #[must_use]
    pub fn is_host_only(self) -> bool {
        matches!(self, Self::Locked | Self::Allow)
    }

    /// What an annotation may do with the key.
    #[must_use]
    pub fn annotation(self) -> AnnotationUse {
        match self {
            Self::RedactMode | Self::IdleAfter => AnnotationUse::Free,
            Self::Redact => AnnotationUse::Adds,
            Self::Observe
            | Self::Source
            | Self::Bus
            | Self::RingSize
            | Self::ArgvMax
            | Self::JournalMax => AnnotationUse::IfAllowed,
            Self::ProbeSocket
            | Self::MetricsAddress
            | Self::LivenessInterval
            | Self::LastSeenInterval
            | Self::Locked
            | Self::Allow => AnnotationUse::Never,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
