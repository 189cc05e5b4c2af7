//! The keys of the configuration, and who may set them.

use std::fmt;

/// What an annotation of a container may do with a key.
///
/// The author of a pod is not trusted, and must not decide how the containers are watched, what the
/// shim costs the node, or at which path the shim, which is root, opens a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnnotationUse {
    /// An annotation sets the key.
    Free,
    /// An annotation sets the key to a stricter value than the host's.
    Stricter,
    /// An annotation sets the key if the host's `allow` names it.
    IfAllowed,
    /// An annotation adds to the host's value: a few entries, and more if `allow` names the key.
    Adds,
    /// An annotation has no effect on the key.
    Never,
}

/// Defines [`Key`] from a table. A row has what the key decides (the text in
/// docs/reference/config.md), its name, what an annotation may do with it, and the values that it
/// accepts.
macro_rules! keys {
    ($(
        $(#[doc = $doc:literal])+
        $key:ident = $name:literal, $annotation:ident, $expected:literal;
    )+) => {
        /// A key of the configuration. Its name in a file is [`as_str`](Key::as_str), in the
        /// environment `LOOKOUT_` and the name in capitals, in an annotation `io.lookout.` and the
        /// name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Key {
            $($(#[doc = $doc])+ $key,)+
        }

        impl Key {
            /// All keys of the configuration, in the order of every listing.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$key),+];

            /// The key's name in a file.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$key => $name,)+ }
            }

            /// What an annotation may do with the key.
            #[must_use]
            pub fn annotation_use(self) -> AnnotationUse {
                match self { $(Self::$key => AnnotationUse::$annotation,)+ }
            }

            /// Which values the key accepts, for an error message.
            #[must_use]
            pub fn expected_value(self) -> &'static str {
                match self { $(Self::$key => $expected,)+ }
            }

            /// What the key decides, for docs/reference/config.md.
            #[cfg(test)]
            pub(crate) fn doc(self) -> &'static str {
                match self { $(Self::$key => concat!($($doc),+),)+ }
            }
        }
    };
}

keys! {
    /// Whether containers are observed. With `off` there is no thread, ring or file.
    Observe = "observe", IfAllowed, "on or off";
    /// The [source](../concepts.md#sources) of process records: `auto` is the best one that the
    /// node supports.
    Source = "source", IfAllowed, "auto, bpf, connector or poll";
    /// The events that are published on [containerd's bus](../streams.md#containerds-bus).
    Bus = "bus", IfAllowed, "ports, processes or none";
    /// The size of one shim's ring in the kernel, in bytes.
    RingSize = "ring_size", IfAllowed, "a power of two from 4KiB to 4MiB";
    /// The most bytes of a process's arguments that are captured. Beyond 4 KiB the value of the
    /// shim's first container applies.
    ArgvMax = "argv_max", IfAllowed, "a size from 256 to 16KiB";
    /// Patterns of [secrets](../redaction.md) in arguments, in addition to the built-in ones.
    Redact = "redact", Adds, "at most 64 patterns of at most 512 bytes";
    /// How much in arguments is taken for a [secret](../redaction.md).
    RedactMode = "redact_mode", Stricter, "standard or strict";
    /// The size of a shim's journal, the newest events that it keeps in memory, in bytes.
    JournalMax = "journal_max", IfAllowed, "a size from 64KiB to 64MiB";
    /// The time without activity after which a container is idle.
    IdleAfter = "idle_after", Free, "a duration from 1s to 24h, such as 90s";
    /// The unix socket at which the [daemon](../daemon.md) serves the probe format. The daemon
    /// reads only the host's value.
    ProbeSocket = "probe_socket", Never, "an absolute path of at most 107 bytes";
    /// The address at which the [daemon](../daemon.md) serves [metrics](metrics.md). The daemon
    /// reads only the host's value.
    MetricsAddress = "metrics_address", Never, "an address with a port, such as 127.0.0.1:9464";
    /// The interval at which the [daemon](../daemon.md) checks whether registered processes are
    /// still alive.
    LivenessInterval = "liveness_interval", Never, "a duration from 100ms to 24h, such as 15s";
    /// The interval at which the [daemon](../daemon.md) records when it last saw a process.
    LastSeenInterval = "last_seen_interval", Never, "a duration from 100ms to 24h, such as 15s";
    /// The size on disk of the [daemon's](../daemon.md) [history](../history.md) of events, in
    /// bytes; 0 turns it off. The oldest events are removed first.
    HistorySize = "history_size", Never, "0, or a size from 16MiB to 1024GiB";
    /// The age after which the [daemon](../daemon.md) removes events from its
    /// [history](../history.md); 0s: only `history_size` removes events.
    HistoryAge = "history_age", Never, "0s, or a duration from 1m to 87600h, such as 720h";
    /// The keys that options and annotations cannot change.
    Locked = "locked", Never, "names of keys";
    /// The keys that annotations may set although they change how a container is watched: of all
    /// containers, or of those in a containerd namespace.
    Allow = "allow", Never,
        "names of keys that an annotation can set, each alone or after a containerd namespace and a \
         slash";
}

impl Key {
    /// The key with this name; `None` if there is no such key.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.as_str() == name)
    }

    /// The name of the key's environment variable.
    #[must_use]
    pub fn environment_variable(self) -> String {
        format!("LOOKOUT_{}", self.as_str().to_ascii_uppercase())
    }

    /// Whether only the host's configuration can set the key. This is true for the keys that decide
    /// which other keys a container may set: otherwise a container could free keys for itself.
    #[must_use]
    pub fn is_host_only(self) -> bool {
        matches!(self, Self::Locked | Self::Allow)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
