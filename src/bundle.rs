//! The files of a container's bundle that the shim reads or writes. They remain after the shim has
//! exited: the verb `delete`, which runs in another process, reads from them what it must clean up.
//!
//! | file | written by | content |
//! |---|---|---|
//! | `config.json` | containerd | the OCI specification |
//! | `options.json` | create | the runtime's options |
//! | `runtime` | create | only the runtime's name, for older versions of the shim |
//! | `init.pid` | the runtime | the pid of init, decimal |
//! | `exit.json` | the shim | the exit of init: `pid`, `exit_status`, `signal` and `exited_at` |
//! | `address` | start | the `unix://` address of the shim |
//!
//! All functions may block on the bundle's filesystem. None opens a file through a symbolic link,
//! and none waits for the other end of a FIFO: see [`regular_file`].

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use crate::{
    model::{Ended, Exit, Spec},
    runc::Options,
    sys::regular_file,
};

/// The largest size in bytes of a file in a bundle that is read. A larger file is an error.
const FILE_MAX: u64 = 16 << 20;

/// The largest size in bytes of a pid file.
const PID_FILE_MAX: u64 = 4096;

/// The last second of the year 9999, since 1970: the last that a protobuf `Timestamp` may have.
const LAST_SECOND: u64 = 253_402_300_799;

const NANOSECONDS_PER_SECOND: u32 = 1_000_000_000;

/// A container's bundle: the directory that containerd made for it.
#[derive(Debug, Clone)]
pub struct Bundle {
    path: PathBuf,
}

/// A file of the bundle could not be read, written or created.
#[derive(Debug, thiserror::Error)]
#[error("failed to {action} {}", path.display())]
pub struct BundleError {
    /// The failed operation as a verb, such as `read`.
    pub action: &'static str,
    /// The path of the file or directory in the bundle.
    pub path: PathBuf,
    /// The error of the system call, or of decoding the content.
    #[source]
    pub source: io::Error,
}

/// The content of the file `exit.json`.
#[derive(Serialize, Deserialize)]
struct ExitFile {
    pid: i32,
    /// The exit status in go-runc's form (128 + the signal for a signal), for other versions of the
    /// shim.
    exit_status: u32,
    /// The signal that ended the process; absent if it exited with a code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signal: Option<u8>,
    /// The time of the exit: the seconds since 1970, a point, and the nanoseconds.
    exited_at: String,
}

impl ExitFile {
    fn of(exit: &Exit) -> Self {
        let at = exit.timestamp.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let exited_at = format!("{}.{:09}", at.as_secs(), at.subsec_nanos());
        let signal = match exit.ended {
            Ended::Signal(signal) => Some(signal),
            Ended::Code(_) => None,
        };
        Self { pid: exit.pid, exit_status: exit.status(), signal, exited_at }
    }

    /// The exit that the file describes; `None` if a value is invalid.
    fn decoded(&self) -> Option<Exit> {
        let (seconds, nanoseconds) = self.exited_at.split_once('.')?;
        let (seconds, nanoseconds) = (seconds.parse().ok()?, nanoseconds.parse().ok()?);
        // The numbers come from a file, and `Duration::new` panics if the nanoseconds overflow the
        // seconds.
        if seconds > LAST_SECOND || nanoseconds >= NANOSECONDS_PER_SECOND {
            return None;
        }
        let timestamp = SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds))?;
        let ended = match self.signal {
            Some(signal) => Ended::Signal(signal),
            None => Ended::Code(u8::try_from(self.exit_status).ok()?),
        };
        Some(Exit { timestamp, pid: self.pid, ended })
    }
}

impl Bundle {
    /// The bundle at `path`. Does not access the file system.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The directory at which the root filesystem is mounted.
    #[must_use]
    pub fn rootfs(&self) -> PathBuf {
        self.path.join("rootfs")
    }

    /// Creates the directory for the root filesystem with mode 0711. An existing directory is not
    /// changed.
    ///
    /// # Errors
    ///
    /// [`BundleError`] if the directory cannot be created.
    pub fn make_rootfs(&self) -> Result<PathBuf, BundleError> {
        let rootfs = self.rootfs();
        match fs::DirBuilder::new().mode(0o711).create(&rootfs) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                Err(BundleError { action: "create", path: rootfs, source })
            }
            _ => Ok(rootfs),
        }
    }

    /// Reads the parts of `config.json` that the shim needs.
    ///
    /// # Errors
    ///
    /// [`BundleError`] if the file cannot be read or is not valid JSON.
    pub fn spec(&self) -> Result<Spec, BundleError> {
        self.read_json("config.json")
    }

    /// Removes what an earlier container left in this bundle about its init: otherwise the pid file
    /// of a runtime that writes none, and the exit of a shim that dies, would be those of that
    /// init.
    pub fn forget_init(&self) {
        for name in ["init.pid", "exit.json"] {
            // Usually there is no such file. A file that cannot be removed is overwritten later.
            let _ = fs::remove_file(self.path.join(name));
        }
    }

    /// Writes `options.json` and `runtime`.
    ///
    /// # Errors
    ///
    /// [`BundleError`] if one of them cannot be written.
    pub fn write_options(&self, options: &Options) -> Result<(), BundleError> {
        self.write_json("options.json", options)?;
        self.write("runtime", options.binary_name.as_bytes())
    }

    /// Reads `options.json`. If it is missing, returns the defaults with the runtime's name from
    /// the file `runtime`.
    ///
    /// # Errors
    ///
    /// [`BundleError`] if `options.json` exists and cannot be read or decoded.
    pub fn options(&self) -> Result<Options, BundleError> {
        match self.read_json("options.json") {
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => {
                let name = self.read("runtime").unwrap_or_default();
                Ok(Options {
                    binary_name: String::from_utf8_lossy(&name).trim().to_owned(),
                    ..Options::default()
                })
            }
            other => other,
        }
    }

    /// The path of the file into which the runtime writes the pid of init.
    #[must_use]
    pub fn init_pid_file(&self) -> PathBuf {
        self.path.join("init.pid")
    }

    /// The pid of init; `None` if the runtime has not written its file, or if the file is not a
    /// number.
    #[must_use]
    pub fn init_pid(&self) -> Option<i32> {
        read_pid(&self.init_pid_file()).ok()
    }

    /// Writes `exit.json` atomically.
    ///
    /// # Errors
    ///
    /// [`BundleError`] if the file cannot be written.
    pub fn write_exit(&self, exit: &Exit) -> Result<(), BundleError> {
        self.write_json("exit.json.new", &ExitFile::of(exit))?;
        let path = self.path.join("exit.json");
        fs::rename(self.path.join("exit.json.new"), &path).map_err(|source| BundleError {
            action: "write",
            path,
            source,
        })
    }

    /// The exit of init; `None` if the shim died before it could write `exit.json`, or if that file
    /// is invalid.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        self.read_json::<ExitFile>("exit.json").ok()?.decoded()
    }

    /// Writes the `unix://` address of the shim to `address`.
    ///
    /// # Errors
    ///
    /// [`BundleError`] if the file cannot be written.
    pub fn write_address(&self, address: &str) -> Result<(), BundleError> {
        self.write("address", address.as_bytes())
    }

    /// The `unix://` address of the shim; `None` if `start` has not written it.
    #[must_use]
    pub fn address(&self) -> Option<String> {
        String::from_utf8(self.read("address").ok()?).ok()
    }

    /// Reads and decodes a JSON file of the bundle.
    fn read_json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, BundleError> {
        let error = |source| BundleError { action: "read", path: self.path.join(name), source };
        serde_json::from_slice(&self.read(name).map_err(error)?)
            .map_err(|source| error(source.into()))
    }

    /// Reads a file of the bundle. More than [`FILE_MAX`] bytes are an error.
    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        regular_file::read(&self.path.join(name), FILE_MAX)
    }

    fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), BundleError> {
        let bytes = serde_json::to_vec(value).map_err(|error| BundleError {
            action: "write",
            path: self.path.join(name),
            source: error.into(),
        })?;
        self.write(name, &bytes)
    }

    /// Writes a file of the bundle with mode 0600.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), BundleError> {
        let path = self.path.join(name);
        regular_file::write(&path, bytes).map_err(|source| BundleError {
            action: "write",
            path,
            source,
        })
    }
}

/// The pid in a file that the runtime has written.
///
/// # Errors
///
/// The error of reading the file. `InvalidData`, with the beginning of the file, if it is not a
/// pid.
pub fn read_pid(path: &Path) -> io::Result<i32> {
    parse_pid(&regular_file::read(path, PID_FILE_MAX)?)
}

fn parse_pid(bytes: &[u8]) -> io::Result<i32> {
    let text = String::from_utf8_lossy(bytes);
    let not_a_pid =
        || io::Error::new(io::ErrorKind::InvalidData, format!("{text:.40?} is not a pid"));
    text.trim().parse().map_err(|_| not_a_pid())
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing {
    use std::hint::black_box;

    use super::{ExitFile, LAST_SECOND, Options, Spec, SystemTime, parse_pid};

    /// Reads a file of the bundle. The first byte chooses the file.
    pub(crate) fn files(bytes: &[u8]) {
        let Some((file, text)) = bytes.split_first() else { return };
        match file {
            b'c' => {
                let Ok(spec) = serde_json::from_slice::<Spec>(text) else { return };
                assert!(spec.cgroups_path().len() <= text.len());
                black_box((spec.owns_pid_namespace(), spec.group()));
            }
            b'o' => {
                let Ok(read) = serde_json::from_slice::<Options>(text) else { return };
                let again = serde_json::to_vec(&read).expect("it consists of text and numbers");
                assert_eq!(serde_json::from_slice::<Options>(&again).expect("written by us"), read);
            }
            b'e' => exit(text),
            b'p' => {
                let _ = black_box(parse_pid(text));
            }
            _ => {}
        }
    }

    fn exit(text: &[u8]) {
        let file = serde_json::from_slice::<ExitFile>(text);
        let Some(exit) = file.ok().and_then(|file| file.decoded()) else { return };
        let since = exit.timestamp.duration_since(SystemTime::UNIX_EPOCH).expect("not before 1970");
        assert!(since.as_secs() <= LAST_SECOND);
        assert_eq!(ExitFile::of(&exit).decoded(), Some(exit));
        black_box(exit.status());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that exit code 137 and SIGKILL, which have the same status, are still distinct when
    /// they are read from the file.
    #[test]
    fn code_and_signal_are_kept_apart_in_exit_json() {
        let directory = tempfile::tempdir().unwrap();
        let bundle = Bundle::new(directory.path());
        for ended in [Ended::Code(0), Ended::Code(137), Ended::Signal(9), Ended::Signal(34)] {
            let timestamp = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 999_999_999);
            let exit = Exit { timestamp, pid: 42, ended };
            bundle.write_exit(&exit).unwrap();
            assert_eq!(bundle.exit(), Some(exit));
        }
    }

    /// Check that the file of another version of the shim is read, and that no number in it causes
    /// a panic.
    #[test]
    fn exit_json_of_other_versions_is_read_and_nonsense_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let bundle = Bundle::new(directory.path());
        let read = |status: &str, at: &str| {
            let text = format!(r#"{{"pid":7,"exit_status":{status},"exited_at":"{at}"}}"#);
            fs::write(directory.path().join("exit.json"), text).unwrap();
            bundle.exit().map(|exit| exit.status())
        };
        assert_eq!(read("137", "1.000000001"), Some(137));
        assert_eq!(read("256", "1.0"), None);
        assert_eq!(read("0", "18446744073709551615.4294967295"), None);
        assert_eq!(read("0", "1"), None);
        assert_eq!(read("0", "253402300799.999999999"), Some(0));
        assert_eq!(read("0", "253402300800.0"), None);
        assert_eq!(read("0", "1.1000000000"), None);
    }
}
