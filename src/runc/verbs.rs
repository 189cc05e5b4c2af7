//! The verbs of the runtime, with their arguments in the forms of go-runc.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Seek as _, Write as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::{
    Runc,
    call::{Call, Cancel},
    error::{Reason, RuntimeError},
    options::{CheckpointOptions, Options},
    path,
};
use crate::{
    model::{ObservedContainer, RuntimeCall},
    reaper::Reaper,
};

/// Directory of the runtime's state, unless an option names another one. containerd's own shims use
/// the same.
const DEFAULT_STATE_ROOT: &str = "/run/containerd/runc";

/// Time limit of a `kill`, so that a client gets an answer even if the runtime hangs.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// The arguments of the verb `create`.
#[derive(Debug)]
pub struct Create<'a> {
    /// The file into which the runtime writes the pid of init.
    pub pid_file: &'a Path,
    /// The unix socket to which the runtime sends the master of the container's terminal. `None`
    /// for a container without a terminal, which uses `stdio`.
    pub console_socket: Option<&'a Path>,
    /// The container's descriptors 0, 1 and 2; `None` is `/dev/null`. With a terminal they are not
    /// used, and the runtime's output is captured.
    pub stdio: [Option<OwnedFd>; 3],
    /// Whether to pass `--no-pivot`.
    pub no_pivot: bool,
    /// Whether to pass `--no-new-keyring`.
    pub no_new_keyring: bool,
    /// Reports the call to the observer; `None` if the container is not observed.
    pub observed: Option<&'a dyn RuntimeCall>,
}

/// The arguments of the verb `exec`.
pub struct Exec<'a> {
    /// The file with the OCI process document.
    pub process: &'a Path,
    /// The file into which the runtime writes the pid of the new process.
    pub pid_file: &'a Path,
    /// The unix socket for the terminal's master, as in [`Create::console_socket`].
    pub console_socket: Option<&'a Path>,
    /// The descriptors 0, 1 and 2 of the process, as in [`Create::stdio`].
    pub stdio: [Option<OwnedFd>; 3],
    /// Reports the call to the observer; `None` if the container is not observed.
    pub observed: Option<&'a dyn RuntimeCall>,
}

/// The arguments of the verb `checkpoint`, in addition to the [`CheckpointOptions`].
#[derive(Debug)]
pub struct Checkpoint<'a> {
    /// The directory into which the checkpoint's image is written.
    pub image: &'a Path,
    /// CRIU's working directory, which receives its log.
    pub work: &'a Path,
}

/// The arguments of the verb `restore`.
#[derive(Debug)]
pub struct Restore<'a> {
    /// The directory of the checkpoint's image.
    pub image: &'a Path,
    /// CRIU's working directory, which receives its log.
    pub work: &'a Path,
    /// The directory of the earlier image on which `image` is based, if `image` contains only the
    /// changes since then; `None` for a complete image.
    pub parent: Option<&'a Path>,
    /// The arguments that `restore` shares with `create`.
    pub create: Create<'a>,
}

impl Runc {
    /// The runtime that `options` name, for a container of `namespace` in `bundle`.
    ///
    /// `oom_score_adj` is the OOM score (-1000 to 1000) of the runtime, which a container without a
    /// score of its own inherits. With `None` the runtime inherits the shim's score.
    #[must_use]
    pub fn new(
        options: &Options,
        namespace: &str,
        bundle: &Path,
        oom_score_adj: Option<i32>,
        reaper: Reaper,
    ) -> Self {
        let root = if options.root.is_empty() { DEFAULT_STATE_ROOT } else { &options.root };
        Self {
            name: options.binary_name.clone(),
            root: Path::new(root).join(namespace),
            bundle: bundle.to_owned(),
            systemd_cgroup: options.systemd_cgroup,
            oom_score_adj,
            reaper,
            observer: OnceLock::new(),
        }
    }

    /// Reports each later call of the runtime to the observer of the container.
    pub fn report_calls(&self, to: Arc<dyn ObservedContainer>) {
        // A container has one observer for its whole life.
        let _ = self.observer.set(to);
    }

    /// Begins a call that makes no process of an exec, for the observer. Its drop is the end of the
    /// call. `None` if the container is not observed.
    #[must_use]
    pub fn begin_observed_call(&self) -> Option<Box<dyn RuntimeCall>> {
        self.observer.get().map(|container| container.runtime_call(None))
    }

    /// The absolute path of the runtime's binary at this moment.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::NotFound`] if there is no such binary.
    pub fn path(&self) -> Result<PathBuf, RuntimeError> {
        Ok(path::find(&self.name)?)
    }

    /// Whether the runtime still has state of container `id`: runc and crun keep one directory per
    /// container.
    #[must_use]
    pub fn has_state(&self, id: &str) -> bool {
        self.root.join(id).exists()
    }

    /// Removes the runtime's state of a container, for a runtime that cannot be run and a container
    /// of which no process is left. Without this, the id could not be used again.
    ///
    /// # Errors
    ///
    /// The error of removing the directory.
    pub fn forget_state(&self, id: &str) -> io::Result<()> {
        std::fs::remove_dir_all(self.root.join(id))
    }

    /// `create`: creates the container. Its init waits for `start`.
    ///
    /// # Errors
    ///
    /// [`RuntimeError`] if the runtime cannot be run, fails, or is cancelled.
    pub async fn create(
        &self,
        id: &str,
        with: Create<'_>,
        cancel: &Cancel,
    ) -> Result<(), RuntimeError> {
        let mut call =
            Call { cancel: Some(cancel), observed: with.observed, ..Call::new("create") };
        call.push("--bundle", &self.bundle);
        call.push_create(with);
        call.arguments.push(id.into());
        self.call(call).await
    }

    /// `start`: lets init run the container's program.
    ///
    /// # Errors
    ///
    /// [`RuntimeError`] if the runtime cannot be run or fails.
    pub async fn start(&self, id: &str, cancel: &Cancel) -> Result<(), RuntimeError> {
        let mut call = Call { cancel: Some(cancel), ..Call::new("start") };
        call.arguments.push(id.into());
        self.call(call).await
    }

    /// `exec --detach`: starts a process in the container. The process becomes a child of the shim.
    ///
    /// # Errors
    ///
    /// [`RuntimeError`] if the runtime cannot be run or fails.
    pub async fn exec(
        &self,
        id: &str,
        with: Exec<'_>,
        cancel: &Cancel,
    ) -> Result<(), RuntimeError> {
        let mut call = Call { cancel: Some(cancel), observed: with.observed, ..Call::new("exec") };
        call.push("--process", with.process);
        call.push_console(with.console_socket, with.stdio);
        call.arguments.push("--detach".into());
        call.push("--pid-file", with.pid_file);
        call.arguments.push(id.into());
        self.call(call).await
    }

    /// `kill`: sends a signal to init, or to every process of the container.
    ///
    /// # Errors
    ///
    /// [`RuntimeError`], with [`Reason::NotRunning`] if the container has ended.
    pub async fn kill(&self, id: &str, signal: u32, all: bool) -> Result<(), RuntimeError> {
        let mut call = Call { deadline: Some(KILL_DEADLINE), ..Call::new("kill") };
        if all {
            call.arguments.push("--all".into());
        }
        call.arguments.extend([id.into(), signal.to_string().into()]);
        self.call(call).await
    }

    /// `delete`: removes the runtime's state of the container. It is not an error if the runtime
    /// has no such container: a checkpoint that ends the container removes the state itself.
    ///
    /// # Errors
    ///
    /// [`RuntimeError`] if the runtime cannot be run or fails.
    pub async fn delete(
        &self,
        id: &str,
        force: bool,
        deadline: Option<Duration>,
    ) -> Result<(), RuntimeError> {
        let force: &[&str] = if force { &["--force"] } else { &[] };
        match self.call_with_flags("delete", force, id, deadline).await {
            Err(error) if error.reason() == Reason::NoSuchContainer => Ok(()),
            other => other,
        }
    }

    /// `pause`: freezes every process of the container.
    ///
    /// # Errors
    ///
    /// [`RuntimeError`] if the runtime cannot be run or fails.
    pub async fn pause(&self, id: &str) -> Result<(), RuntimeError> {
        self.call_with_flags("pause", &[], id, None).await
    }

    /// `resume`: thaws every process of the container.
    ///
    /// # Errors
    ///
    /// [`RuntimeError`] if the runtime cannot be run or fails.
    pub async fn resume(&self, id: &str) -> Result<(), RuntimeError> {
        self.call_with_flags("resume", &[], id, None).await
    }

    /// `update`: sets new resource limits for the container. `resources` is the OCI resources
    /// document in JSON.
    ///
    /// # Errors
    ///
    /// [`RuntimeError`] if the runtime cannot be run or fails.
    pub async fn update(&self, id: &str, resources: &[u8]) -> Result<(), RuntimeError> {
        // The runtime reads a file and not a pipe, because the shim would have to write to a pipe
        // while the runtime runs. The file has no name, so no other call can replace its content.
        let file = memory_file(resources).map_err(|source| RuntimeError::File {
            action: "write",
            path: "memfd:resources".into(),
            source,
        })?;
        let mut call = Call::new("update");
        call.stdio = [Some(file.into()), None, None];
        call.arguments.extend(["--resources".into(), "-".into(), id.into()]);
        self.call(call).await
    }

    /// `checkpoint`: writes the image of a running container.
    ///
    /// # Errors
    ///
    /// [`RuntimeError`]; CRIU's own messages are in `dump.log` in the working directory.
    pub async fn checkpoint(
        &self,
        id: &str,
        to: Checkpoint<'_>,
        options: &CheckpointOptions,
    ) -> Result<(), RuntimeError> {
        let mut call = Call::new("checkpoint");
        call.push("--image-path", to.image);
        call.push("--work-path", to.work);
        call.arguments.extend(options.arguments());
        call.arguments.push(id.into());
        self.call(call).await
    }

    /// `restore --detach`: creates and starts the container from an image.
    ///
    /// # Errors
    ///
    /// [`RuntimeError`] if the runtime cannot be run or fails.
    pub async fn restore(
        &self,
        id: &str,
        from: Restore<'_>,
        cancel: &Cancel,
    ) -> Result<(), RuntimeError> {
        let observed = from.create.observed;
        let mut call = Call { cancel: Some(cancel), observed, ..Call::new("restore") };
        call.push("--image-path", from.image);
        call.push("--work-path", from.work);
        if let Some(parent) = from.parent {
            call.push("--parent-path", parent);
        }
        call.arguments.push("--detach".into());
        call.push_create(from.create);
        // The runtime must not become a subreaper, because the shim already is one.
        call.arguments.push("--no-subreaper".into());
        call.push("--bundle", &self.bundle);
        call.arguments.push(id.into());
        self.call(call).await
    }

    /// Runs a verb with flags and the container's id as its only arguments.
    async fn call_with_flags(
        &self,
        verb: &'static str,
        flags: &[&str],
        id: &str,
        deadline: Option<Duration>,
    ) -> Result<(), RuntimeError> {
        let mut call = Call { deadline, ..Call::new(verb) };
        call.arguments.extend(flags.iter().map(OsString::from));
        call.arguments.push(id.into());
        self.call(call).await
    }
}

impl Call<'_> {
    /// Adds a flag and its value.
    fn push(&mut self, flag: &str, value: impl AsRef<OsStr>) {
        self.arguments.extend([flag.into(), value.as_ref().to_owned()]);
    }

    fn push_create(&mut self, with: Create<'_>) {
        self.push("--pid-file", with.pid_file);
        self.push_console(with.console_socket, with.stdio);
        if with.no_pivot {
            self.arguments.push("--no-pivot".into());
        }
        if with.no_new_keyring {
            self.arguments.push("--no-new-keyring".into());
        }
    }

    /// Adds the console socket; without one, the container gets `stdio` directly.
    fn push_console(&mut self, socket: Option<&Path>, stdio: [Option<OwnedFd>; 3]) {
        match socket {
            Some(socket) => self.push("--console-socket", socket),
            None => {
                self.stdio = stdio;
                self.stdio_is_containers = true;
            }
        }
    }
}

/// A file in memory with this content, to be read from its beginning.
fn memory_file(content: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create(c"resources", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file)
}
