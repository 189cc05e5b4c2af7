//! The command line that containerd gives to a shim: Go's `flag` syntax, the verb last.

use go_flag::FlagError;

use crate::observe::shim::{LISTEN_CONNECTOR, LOAD_PROGRAMS};

/// What was asked for on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    /// What to do.
    pub verb: Verb,
    /// `-namespace`: containerd's namespace.
    pub namespace: String,
    /// `-id`: the container.
    pub id: String,
    /// `-address`: containerd's gRPC socket.
    pub address: String,
    /// `-publish-binary`: containerd's own binary.
    pub publish_binary: String,
    /// `-bundle`: the bundle of `delete`, where it is not the working directory.
    pub bundle: String,
    /// `-debug`: log more.
    pub debug: bool,
}

/// What the process is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `-v`: print the version.
    Version,
    /// `-info`: print what the runtime can do.
    Info,
    /// `start`: bring a shim up and print how to reach it.
    Start,
    /// `delete`: clean up after a container whose shim is gone.
    Delete,
    /// No verb: serve.
    Serve,
    /// `load-programs`, of a shim for its node: load and pin the eBPF programs.
    LoadPrograms,
    /// `listen-connector`, of a shim for its node: be the one listener on the proc connector.
    ListenConnector,
}

/// A command line that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum ArgumentsError {
    /// A flag that is none, or without its value.
    #[error("bad arguments: {0}")]
    Flag(FlagError),
    /// A verb that is none.
    #[error("unknown verb {verb:?}: expected start or delete")]
    Verb {
        /// As it was given.
        verb: String,
    },
    /// Everything but `-v` and `-info` happens in a namespace.
    #[error("shim namespace cannot be empty")]
    NoNamespace,
    /// `start` and `delete` are about a container.
    #[error("shim id cannot be empty")]
    NoId,
    /// Namespace and id become parts of paths.
    #[error("invalid {what} {value:?}")]
    Invalid {
        /// Which.
        what: &'static str,
        /// As it was given.
        value: String,
    },
}

impl Arguments {
    /// Reads the command line, without the program's name.
    ///
    /// # Errors
    ///
    /// [`ArgumentsError`], naming the flag or the verb.
    pub fn parse(arguments: &[String]) -> Result<Self, ArgumentsError> {
        let (mut version, mut version_long, mut info) = (false, false, false);
        // Taken and ignored: the socket is inherited, and there is no debug socket.
        let (mut socket, mut debug_socket) = (String::new(), String::new());
        let mut parsed = Self {
            verb: Verb::Serve,
            namespace: String::new(),
            id: String::new(),
            address: String::new(),
            publish_binary: String::new(),
            bundle: String::new(),
            debug: false,
        };
        let rest: Vec<String> = go_flag::parse_args(arguments, |flags| {
            flags.add_flag("namespace", &mut parsed.namespace);
            flags.add_flag("id", &mut parsed.id);
            flags.add_flag("address", &mut parsed.address);
            flags.add_flag("publish-binary", &mut parsed.publish_binary);
            flags.add_flag("bundle", &mut parsed.bundle);
            flags.add_flag("debug", &mut parsed.debug);
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
        parsed.check()
    }

    fn check(self) -> Result<Self, ArgumentsError> {
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
