//! The files of a container's bundle that the shim reads or writes. They outlive the shim: the
//! delete verb, another process, finds out from them what there is to clean up.
//!
//! | file | written by | content |
//! |---|---|---|
//! | `config.json` | containerd | the OCI specification |
//! | `options.json`, `runtime` | create | the runtime's options; the name alone, for older readers |
//! | `init.pid` | the runtime | the pid of init, decimal |
//! | `exit.json` | the shim | how init ended: `{"pid":…,"exit_status":…,"exited_at":"seconds.nanoseconds"}` |
//! | `address` | start | the `unix://` address of the shim |
//!
//! Everything here blocks on the bundle's filesystem. Nothing follows a symbolic link.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use crate::{
    model::{Exit, Spec},
    runc::Options,
};

/// What is read of any one file; a larger one is refused.
const FILE_MAX: u64 = 16 << 20;

/// A container's bundle.
#[derive(Debug, Clone)]
pub struct Bundle {
    path: PathBuf,
}

/// A file of the bundle that could not be used.
#[derive(Debug, thiserror::Error)]
#[error("failed to {action} {}", path.display())]
pub struct BundleError {
    /// What was tried, as a verb.
    pub action: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What the system answered, or what is wrong with the content.
    #[source]
    pub source: io::Error,
}

/// `exit.json`.
#[derive(Serialize, Deserialize)]
struct ExitFile {
    pid: i32,
    exit_status: u32,
    /// Seconds since the epoch and nanoseconds, with a point between them.
    exited_at: String,
}

impl Bundle {
    /// The bundle at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where the root filesystem is mounted.
    #[must_use]
    pub fn rootfs(&self) -> PathBuf {
        self.path.join("rootfs")
    }

    /// Makes the folder for the root filesystem, 0711; one that exists is left as it is.
    ///
    /// # Errors
    ///
    /// [`BundleError`].
    pub fn make_rootfs(&self) -> Result<PathBuf, BundleError> {
        let rootfs = self.rootfs();
        match fs::DirBuilder::new().mode(0o711).create(&rootfs) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                Err(BundleError { action: "create", path: rootfs, source })
            }
            _ => Ok(rootfs),
        }
    }

    /// Reads `config.json`.
    ///
    /// # Errors
    ///
    /// [`BundleError`], also for what is no JSON.
    pub fn spec(&self) -> Result<Spec, BundleError> {
        self.json("config.json")
    }

    /// Writes `options.json` and `runtime`.
    ///
    /// # Errors
    ///
    /// [`BundleError`].
    pub fn write_options(&self, options: &Options) -> Result<(), BundleError> {
        self.write_json("options.json", options)?;
        self.write("runtime", options.binary_name.as_bytes())
    }

    /// Reads `options.json`; without one, the defaults with the name from `runtime`.
    ///
    /// # Errors
    ///
    /// [`BundleError`] for a file that is there and cannot be read.
    pub fn options(&self) -> Result<Options, BundleError> {
        match self.json("options.json") {
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

    /// Where the runtime writes the pid of init.
    #[must_use]
    pub fn init_pid_file(&self) -> PathBuf {
        self.path.join("init.pid")
    }

    /// The pid of init, if the runtime got as far as to write it.
    #[must_use]
    pub fn init_pid(&self) -> Option<i32> {
        let text = self.read("init.pid").ok()?;
        std::str::from_utf8(&text).ok()?.trim().parse().ok()
    }

    /// Writes `exit.json`, whole or not at all.
    ///
    /// # Errors
    ///
    /// [`BundleError`].
    pub fn write_exit(&self, exit: &Exit) -> Result<(), BundleError> {
        let at = exit.timestamp.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let exited_at = format!("{}.{:09}", at.as_secs(), at.subsec_nanos());
        let file = ExitFile { pid: exit.pid, exit_status: exit.status, exited_at };
        self.write_json("exit.json.new", &file)?;
        let path = self.path.join("exit.json");
        fs::rename(self.path.join("exit.json.new"), &path).map_err(|source| BundleError {
            action: "write",
            path,
            source,
        })
    }

    /// How init ended, where the shim lived to see it.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        let file: ExitFile = self.json("exit.json").ok()?;
        let (seconds, nanoseconds) = file.exited_at.split_once('.')?;
        let since_epoch = Duration::new(seconds.parse().ok()?, nanoseconds.parse().ok()?);
        let timestamp = SystemTime::UNIX_EPOCH.checked_add(since_epoch)?;
        Some(Exit { timestamp, pid: file.pid, status: file.exit_status })
    }

    /// Writes `address`.
    ///
    /// # Errors
    ///
    /// [`BundleError`].
    pub fn write_address(&self, address: &str) -> Result<(), BundleError> {
        self.write("address", address.as_bytes())
    }

    /// The address of the shim, if start got as far as to write it.
    #[must_use]
    pub fn address(&self) -> Option<String> {
        String::from_utf8(self.read("address").ok()?).ok()
    }

    fn json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, BundleError> {
        let error = |source| BundleError { action: "read", path: self.path.join(name), source };
        serde_json::from_slice(&self.read(name).map_err(error)?)
            .map_err(|source| error(source.into()))
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let open = OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(self.path.join(name))?;
        let mut bytes = Vec::new();
        File::take(open, FILE_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > FILE_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(bytes)
    }

    fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), BundleError> {
        let bytes = serde_json::to_vec(value).map_err(|error| BundleError {
            action: "write",
            path: self.path.join(name),
            source: error.into(),
        })?;
        self.write(name, &bytes)
    }

    /// Writes a file that only its owner reads.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), BundleError> {
        let path = self.path.join(name);
        let mut open = OpenOptions::new();
        open.write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW);
        open.open(&path).and_then(|mut file| file.write_all(bytes)).map_err(|source| BundleError {
            action: "write",
            path,
            source,
        })
    }
}
