//! The input and the answer of `start`, in the four generations of containerd's protocol.
//!
//! | containerd | stdin of `start` | answer |
//! |---|---|---|
//! | 1.6 | the runtime's options, or nothing | the address |
//! | 1.7 | the same, `MAX_SHIM_VERSION` in the environment | JSON, version 2 |
//! | 2.0–2.2 | the same | JSON, version 3 |
//! | 2.3 and later | `BootstrapParams` | `BootstrapResult`, version 3 |
//!
//! Version 3 lets containerd's CRI plugin skip `start` and `delete` for all but the first container
//! of a pod.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use containerd_shim_protos::{
    bootstrap_api::{BootstrapParams, BootstrapResult},
    protobuf::{Message as _, well_known_types::any::Any},
};
use serde::Serialize;
use tracing::level_filters::LevelFilter;

use super::{args::Arguments, daemon};
use crate::runc::{Options, OptionsError};

/// Directory of shims' sockets, unless containerd names another directory. It is short, because the
/// path of a socket must fit in 107 bytes.
const SOCKET_DIR: &str = "/run/containerd/s";

/// The input of `start`, from stdin, the command line and the environment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) generation: Generation,
    /// Directory of the shim's socket.
    pub(super) socket_dir: PathBuf,
    /// The path of containerd's gRPC socket.
    pub(super) address: String,
    /// The path of containerd's ttrpc socket, which receives events.
    pub(super) ttrpc_address: String,
    pub(super) options: Options,
    /// The level up to which the shim logs.
    pub(super) log_level: LevelFilter,
}

/// The generation of containerd's protocol, which decides the form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Generation {
    /// The address as plain text.
    Plain,
    /// JSON with this protocol version.
    Json(u32),
    /// The encoded protobuf message `BootstrapResult`.
    Protobuf,
}

#[derive(Serialize)]
struct JsonAnswer<'a> {
    version: u32,
    address: &'a str,
    protocol: &'a str,
}

impl Request {
    /// Decodes what containerd wrote to stdin, and completes it from the command line and the
    /// environment.
    ///
    /// # Errors
    ///
    /// [`OptionsError`] if the runtime options in `stdin` cannot be decoded.
    pub(super) fn read(stdin: &[u8], arguments: &Arguments) -> Result<Self, OptionsError> {
        let ttrpc_address =
            env::var("TTRPC_ADDRESS").unwrap_or_else(|_| format!("{}.ttrpc", arguments.address));
        match bootstrap_params(stdin, arguments) {
            Some(params) => Self::from_params(&params, arguments, ttrpc_address),
            None => Ok(Self {
                generation: generation(arguments),
                socket_dir: SOCKET_DIR.into(),
                address: arguments.address.clone(),
                ttrpc_address,
                options: options(stdin)?,
                log_level: arguments.log_level(),
            }),
        }
    }

    fn from_params(
        params: &BootstrapParams,
        arguments: &Arguments,
        ttrpc_address: String,
    ) -> Result<Self, OptionsError> {
        let or =
            |given: &str, other: String| if given.is_empty() { other } else { given.to_owned() };
        let mut options = Options::default();
        for extension in &params.extensions {
            match Options::decode(extension.value.as_ref()) {
                Ok(found) => options = found,
                // Extensions of other types are not addressed to this shim.
                Err(OptionsError::UnknownType { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self {
            generation: Generation::Protobuf,
            socket_dir: or(params.socket_dir(), SOCKET_DIR.into()).into(),
            address: or(&params.containerd_grpc_address, arguments.address.clone()),
            ttrpc_address: or(&params.containerd_ttrpc_address, ttrpc_address),
            options,
            log_level: arguments.level_with_debug(log_level(params.log_level.value())),
        })
    }
}

/// The level that a `LogLevel` of `BootstrapParams` stands for. The enum may have values between
/// the named ones: a log record is written if the value of its own level, such as 0 for info, is
/// not below the given one.
fn log_level(value: i32) -> LevelFilter {
    match value {
        ..=-8 => LevelFilter::TRACE,
        -7..=-4 => LevelFilter::DEBUG,
        -3..=0 => LevelFilter::INFO,
        1..=4 => LevelFilter::WARN,
        5..=8 => LevelFilter::ERROR,
        // Fatal and panic: this shim logs nothing at these levels.
        _ => LevelFilter::OFF,
    }
}

impl Generation {
    /// The answer to print when the shim serves at `address`.
    pub(super) fn answer(self, address: &str) -> Vec<u8> {
        match self {
            Self::Plain => address.as_bytes().to_vec(),
            // Encoding cannot fail, in this arm and in the next: `JsonAnswer` consists of strings
            // and a number, and `BootstrapResult` has no required fields.
            Self::Json(version) => {
                serde_json::to_vec(&JsonAnswer { version, address, protocol: "ttrpc" })
                    .unwrap_or_default()
            }
            Self::Protobuf => BootstrapResult {
                version: 3,
                address: address.to_owned(),
                protocol: "ttrpc".to_owned(),
                ..Default::default()
            }
            .write_to_bytes()
            .unwrap_or_default(),
        }
    }
}

/// The `BootstrapParams` on stdin; `None` if stdin contains another message or nothing. Runtime
/// options may decode as this message by chance, but they never contain the container's id and
/// namespace.
fn bootstrap_params(stdin: &[u8], arguments: &Arguments) -> Option<BootstrapParams> {
    let params = BootstrapParams::parse_from_bytes(stdin).ok()?;
    (params.instance_id == arguments.id && params.namespace == arguments.namespace)
        .then_some(params)
}

fn options(stdin: &[u8]) -> Result<Options, OptionsError> {
    if stdin.is_empty() {
        return Ok(Options::default());
    }
    let decode = |source| OptionsError::Decode { type_url: "google.protobuf.Any".into(), source };
    let any = Any::parse_from_bytes(stdin).map_err(decode)?;
    match Options::decode(Some(&any)) {
        // Options of an unknown type are not an error here, because `start` does not need them.
        // `Create` receives the same options and refuses them, so the client sees the error.
        Err(OptionsError::UnknownType { .. }) => Ok(Options::default()),
        other => other,
    }
}

/// The generation of a containerd that does not send `BootstrapParams`.
fn generation(arguments: &Arguments) -> Generation {
    if env::var_os("MAX_SHIM_VERSION").is_none() {
        return Generation::Plain;
    }
    // The parent process is usually containerd, and the publish binary is containerd's own. Both
    // are tried, because either file may be unreadable.
    let parent =
        Path::new("/proc").join(std::os::unix::process::parent_id().to_string()).join("exe");
    let candidates = [
        fs::read_link(&parent).map(|_| parent).ok(),
        Some(PathBuf::from(&arguments.publish_binary)),
    ];
    let version_2 = candidates.into_iter().flatten().any(|binary| daemon::is_version_2(&binary));
    Generation::Json(if version_2 { 3 } else { 2 })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check each level of containerd, and levels between them.
    #[test]
    fn a_level_between_two_logs_what_is_not_below_it() {
        let levels = [-9, -8, -5, -4, -1, 0, 1, 4, 5, 8, 9, 10, 12].map(log_level);
        let names = levels.map(|level| level.to_string());
        assert_eq!(
            names.join(" "),
            "trace trace debug debug info info warn warn error error off off off"
        );
    }
}
