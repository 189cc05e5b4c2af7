//! The command line that containerd passes to a shim, in the syntax of Go's package `flag`: first
//! the flags, then the verb.

use go_flag::FlagError;
use tracing::level_filters::LevelFilter;

use crate::observe::shim::{LISTEN_CONNECTOR, LOAD_PROGRAMS};

/// The parsed command line. A flag that was not given is an empty string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    /// The verb, or a flag such as `-v` that acts as one.
    pub verb: Verb,
    /// `-namespace`: the container's namespace in containerd.
    pub namespace: String,
    /// `-id`: the id of the container.
    pub id: String,
    /// `-address`: the path of containerd's gRPC socket.
    pub address: String,
    /// `-publish-binary`: the path of containerd's own binary.
    pub publish_binary: String,
    /// `-bundle`: the bundle of `delete`, if it is not the working directory.
    pub bundle: String,
    /// `-debug`: log at level debug.
    pub debug: bool,
    /// `-log-level`: the level up to which to log. `start` passes it to the serving process.
    pub log_level: String,
}

/// What this process has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `-v`: print the shim's name, version and revision.
    Version,
    /// `-info`: print the runtime's version and features.
    Info,
    /// `start`: start a shim, or find the shim of the container's group, and print its address.
    Start,
    /// `delete`: clean up after a container that has no shim any more.
    Delete,
    /// No verb: serve the shim's services. `start` spawns this process.
    Serve,
    /// `load-programs`: load and pin the node's eBPF programs. A shim spawns this helper.
    LoadPrograms,
    /// `listen-connector`: be the node's one listener on the proc connector. A shim spawns this
    /// helper.
    ListenConnector,
}

/// The command line is invalid.
#[derive(Debug, thiserror::Error)]
pub enum ArgumentsError {
    /// A flag is unknown, or its value is missing or invalid.
    #[error("invalid command line: {0}")]
    Flag(FlagError),
    /// The verb is not one of those that containerd uses.
    #[error("unknown verb {verb:?}: expected start or delete")]
    Verb {
        /// The verb as it was given.
        verb: String,
    },
    /// The flag `-namespace` is missing. Only `-v`, `-info` and the helpers work without it.
    #[error("shim namespace cannot be empty")]
    NoNamespace,
    /// The flag `-id` is missing. Only `-v`, `-info` and the helpers work without it.
    #[error("shim id cannot be empty")]
    NoId,
    /// The namespace or the id is not a valid file name. Both become parts of paths, so they must
    /// be.
    #[error("invalid {what} {value:?}")]
    Invalid {
        /// What is invalid: `namespace` or `id`.
        what: &'static str,
        /// The value as it was given.
        value: String,
    },
}

impl Arguments {
    /// Parses the command line. `arguments` does not include the program's name.
    ///
    /// # Errors
    ///
    /// [`ArgumentsError`], which names the flag or the verb.
    pub fn parse(arguments: &[String]) -> Result<Self, ArgumentsError> {
        let (mut version, mut version_long, mut info) = (false, false, false);
        // containerd may pass these two flags. They are ignored, because the shim inherits its
        // socket and has no debug socket.
        let (mut socket, mut debug_socket) = (String::new(), String::new());
        let mut parsed = Self {
            verb: Verb::Serve,
            namespace: String::new(),
            id: String::new(),
            address: String::new(),
            publish_binary: String::new(),
            bundle: String::new(),
            debug: false,
            log_level: String::new(),
        };
        let rest: Vec<String> = go_flag::parse_args(arguments, |flags| {
            flags.add_flag("namespace", &mut parsed.namespace);
            flags.add_flag("id", &mut parsed.id);
            flags.add_flag("address", &mut parsed.address);
            flags.add_flag("publish-binary", &mut parsed.publish_binary);
            flags.add_flag("bundle", &mut parsed.bundle);
            flags.add_flag("debug", &mut parsed.debug);
            flags.add_flag("log-level", &mut parsed.log_level);
            flags.add_flag("socket", &mut socket);
            flags.add_flag("debug-socket", &mut debug_socket);
            flags.add_flag("v", &mut version);
            flags.add_flag("version", &mut version_long);
            flags.add_flag("info", &mut info);
        })
        .map_err(ArgumentsError::Flag)?;
        parsed.verb = match rest.first().map(String::as_str) {
            _ if version || version_long => Verb::Version,
            _ if info => Verb::Info,
            Some("start") => Verb::Start,
            Some("delete") => Verb::Delete,
            Some(LOAD_PROGRAMS) => Verb::LoadPrograms,
            Some(LISTEN_CONNECTOR) => Verb::ListenConnector,
            Some(verb) => return Err(ArgumentsError::Verb { verb: verb.to_owned() }),
            None => Verb::Serve,
        };
        parsed.with_valid_names()
    }

    /// The level up to which to log, according to the flags.
    #[must_use]
    pub fn log_level(&self) -> LevelFilter {
        // Only `start` passes the flag, so an invalid value is not worth an error. The parser of
        // `tracing` takes an empty text for `error`.
        let given = Some(&self.log_level).filter(|level| !level.is_empty());
        let level = given.and_then(|level| level.parse().ok());
        self.level_with_debug(level.unwrap_or(LevelFilter::INFO))
    }

    /// `level`, or debug if the flag `-debug` was given and debug logs more.
    pub(super) fn level_with_debug(&self, level: LevelFilter) -> LevelFilter {
        if self.debug { level.max(LevelFilter::DEBUG) } else { level }
    }

    /// Checks the namespace and the id, for the verbs that need them.
    fn with_valid_names(self) -> Result<Self, ArgumentsError> {
        if matches!(
            self.verb,
            Verb::Version | Verb::Info | Verb::LoadPrograms | Verb::ListenConnector
        ) {
            return Ok(self);
        }
        if self.namespace.is_empty() {
            return Err(ArgumentsError::NoNamespace);
        }
        if self.id.is_empty() {
            return Err(ArgumentsError::NoId);
        }
        for (what, value) in [("namespace", &self.namespace), ("id", &self.id)] {
            if value.contains('/') || value == "." || value == ".." || value.contains('\0') {
                return Err(ArgumentsError::Invalid { what, value: value.clone() });
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests;
