//! The paths of a run: tools, shims and directories.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{Error, Result};

/// The environment variable with this run's directory on a disk. `hack/bench` creates and removes
/// it.
pub(crate) const DIRECTORY: &str = "LOOKOUT_BENCH_DIR";

/// Directory for state that containerd keeps in /run. `hack/bench` mounts its own tmpfs there.
const STATE: &str = "/run/lookout-bench";

/// The version of containerd that both shims are measured with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V1_6,
    V1_7,
    V2_1,
}

impl Version {
    pub(crate) const ALL: [Self; 3] = [Self::V1_6, Self::V1_7, Self::V2_1];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V1_6 => "1.6",
            Self::V1_7 => "1.7",
            Self::V2_1 => "2.1",
        }
    }
}

/// One of the two compared shims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Ours,
    Go,
}

/// The OCI runtime of the containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runtime {
    Runc,
    Crun,
}

impl Runtime {
    pub(crate) const ALL: [Self; 2] = [Self::Runc, Self::Crun];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Runc => "runc",
            Self::Crun => "crun",
        }
    }

    /// The directory of the tool below the tools, which is also its name in `versions`.
    pub(crate) fn tool(self) -> &'static str {
        match self {
            Self::Runc => "runc-1.1",
            Self::Crun => "crun-1.21",
        }
    }
}

/// The directories of one run.
#[derive(Debug)]
pub(crate) struct Workspace {
    tools: PathBuf,
    /// Directory on a disk, for the daemons' data and what overlays write.
    directory: PathBuf,
    /// containerd's namespace, which also names the cgroup above all containers of this run.
    pub(crate) namespace: String,
    next: AtomicU32,
}

impl Workspace {
    /// Reads the paths that `hack/bench` prepared from the environment.
    ///
    /// The shims are copied, because all processes of a program share its pages, and other
    /// processes on this machine may run the programs in target/.
    pub(crate) fn from_environment() -> Result<Self> {
        let path = |name: &str| {
            env::var_os(name).map(PathBuf::from).ok_or(Error::from(format!("{name} is not set")))
        };
        let (tools, directory, shim) =
            (path("LOOKOUT_TOOLS")?, path(DIRECTORY)?, path("LOOKOUT_SHIM")?);
        let namespace = env::var("LOOKOUT_BENCH_NAMESPACE")?;
        let workspace = Self { tools, directory, namespace, next: AtomicU32::new(0) };
        for version in Version::ALL {
            let go = workspace
                .tools
                .join(format!("containerd-{}/bin/containerd-shim-runc-v2", version.name()));
            for (side, program) in [(Side::Go, &go), (Side::Ours, &shim)] {
                let copy = workspace.shim(side, version);
                fs::create_dir_all(copy.parent().ok_or("a program without a directory")?)?;
                if !copy.exists() {
                    fs::copy(program, &copy)
                        .map_err(|error| format!("{}: {error}", program.display()))?;
                }
            }
        }
        fs::create_dir_all(STATE)?;
        Ok(workspace)
    }

    /// The program of a shim.
    pub(crate) fn shim(&self, side: Side, version: Version) -> PathBuf {
        match side {
            Side::Ours => self.directory.join("shims/ours/containerd-shim-lookout-v2"),
            Side::Go => {
                self.directory.join(format!("shims/{}/containerd-shim-runc-v2", version.name()))
            }
        }
    }

    pub(crate) fn containerd_bin(&self, version: Version) -> PathBuf {
        self.tools.join(format!("containerd-{}/bin", version.name()))
    }

    pub(crate) fn runtime(&self, runtime: Runtime) -> PathBuf {
        self.tools.join(runtime.tool()).join("bin").join(runtime.name())
    }

    /// The tree that is the lower layer of every container's overlay.
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.tools.join("rootfs")
    }

    /// The directory of the storm's programs.
    pub(crate) fn storm(&self) -> PathBuf {
        self.tools.join("storm/bin")
    }

    /// The `lookout` command of the same build as the shim.
    pub(crate) fn lookout(&self) -> PathBuf {
        env::var_os("LOOKOUT_CLI").map_or_else(|| PathBuf::from("lookout"), PathBuf::from)
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.tools.join("image.tar")
    }

    /// The file with one line for each tool: its directory's name and its version.
    pub(crate) fn versions(&self) -> PathBuf {
        self.tools.join("versions")
    }

    pub(crate) fn on_disk(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    #[expect(clippy::unused_self, reason = "the workspace knows where its state is")]
    pub(crate) fn in_run(&self, name: &str) -> PathBuf {
        Path::new(STATE).join(name)
    }

    /// The socket to which shims send their events.
    pub(crate) fn events_socket(&self) -> PathBuf {
        self.in_run("containerd.sock.ttrpc")
    }

    /// The path of containerd's gRPC socket that shims receive. Nothing listens there: shims do not
    /// call it.
    pub(crate) fn grpc_socket(&self) -> PathBuf {
        self.in_run("containerd.sock")
    }

    /// A name that is unique in this run.
    pub(crate) fn fresh(&self, what: &str) -> String {
        format!("{what}-{}", self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// `PATH` as a daemon has it, with the runc to be measured first, so that an empty `BinaryName`
    /// finds it.
    pub(crate) fn search_path(&self, first: &[PathBuf]) -> Result<std::ffi::OsString> {
        let machine = env::var_os("PATH").unwrap_or_default();
        let runc = self.tools.join(Runtime::Runc.tool()).join("bin");
        let directories = first.iter().cloned().chain([runc]).chain(env::split_paths(&machine));
        Ok(env::join_paths(directories)?)
    }
}
