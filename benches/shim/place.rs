//! Where everything is: the tools, the shims, the folders of this run.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{Error, Result};

/// The environment variable with this run's folder on a disk; `hack/bench` makes and removes it.
pub(crate) const DIRECTORY: &str = "LOOKOUT_BENCH_DIR";

/// State that containerd keeps in /run is kept there here, too: `hack/bench` mounts a tmpfs of
/// ours.
const STATE: &str = "/run/lookout-bench";

/// The containerd whose shim ours is compared with.
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

/// Whose shim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Ours,
    Go,
}

/// What the shims run containers with.
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

    /// The folder of the tool and of `versions`.
    pub(crate) fn tool(self) -> &'static str {
        match self {
            Self::Runc => "runc-1.1",
            Self::Crun => "crun-1.21",
        }
    }
}

/// The folders of one run.
#[derive(Debug)]
pub(crate) struct Place {
    tools: PathBuf,
    /// On a disk: the daemons' data, and what overlays write.
    directory: PathBuf,
    /// containerd's namespace, and the name of the cgroup above all of ours.
    pub(crate) namespace: String,
    next: AtomicU32,
}

impl Place {
    /// What `hack/bench` has prepared.
    ///
    /// The shims are copied: pages of a program are shared by all who run it, and the programs in
    /// target/ may be in use by others on this machine.
    pub(crate) fn from_environment() -> Result<Self> {
        let path = |name: &str| {
            env::var_os(name).map(PathBuf::from).ok_or(Error::from(format!("{name} is not set")))
        };
        let (tools, directory, shim) =
            (path("LOOKOUT_TOOLS")?, path(DIRECTORY)?, path("LOOKOUT_SHIM")?);
        let namespace = env::var("LOOKOUT_BENCH_NAMESPACE")?;
        let place = Self { tools, directory, namespace, next: AtomicU32::new(0) };
        for version in Version::ALL {
            let go = place
                .tools
                .join(format!("containerd-{}/bin/containerd-shim-runc-v2", version.name()));
            for (side, program) in [(Side::Go, &go), (Side::Ours, &shim)] {
                let copy = place.shim(side, version);
                fs::create_dir_all(copy.parent().ok_or("a program without a folder")?)?;
                if !copy.exists() {
                    fs::copy(program, &copy)
                        .map_err(|error| format!("{}: {error}", program.display()))?;
                }
            }
        }
        fs::create_dir_all(STATE)?;
        Ok(place)
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

    /// The tree that every container's root is an overlay of.
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.tools.join("rootfs")
    }

    /// The folder of the storm.
    pub(crate) fn storm(&self) -> PathBuf {
        self.tools.join("storm/bin")
    }

    /// The command line of lookout, beside the shim.
    pub(crate) fn lookout(&self) -> PathBuf {
        env::var_os("LOOKOUT_CLI").map_or_else(|| PathBuf::from("lookout"), PathBuf::from)
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.tools.join("image.tar")
    }

    /// One line a tool: its folder's name, its version.
    pub(crate) fn versions(&self) -> PathBuf {
        self.tools.join("versions")
    }

    pub(crate) fn on_disk(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    #[expect(clippy::unused_self, reason = "the place knows where its state is")]
    pub(crate) fn in_run(&self, name: &str) -> PathBuf {
        Path::new(STATE).join(name)
    }

    /// Where shims send their events.
    pub(crate) fn events_socket(&self) -> PathBuf {
        self.in_run("containerd.sock.ttrpc")
    }

    /// The daemon's socket that shims are told of. Nobody listens: shims do not call it.
    pub(crate) fn grpc_socket(&self) -> PathBuf {
        self.in_run("containerd.sock")
    }

    /// A name that nothing else in this run has.
    pub(crate) fn fresh(&self, what: &str) -> String {
        format!("{what}-{}", self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// `PATH` as a daemon would have it, so that an empty `BinaryName` finds the runc meant here.
    pub(crate) fn search_path(&self, first: &[PathBuf]) -> Result<std::ffi::OsString> {
        let machine = env::var_os("PATH").unwrap_or_default();
        let runc = self.tools.join(Runtime::Runc.tool()).join("bin");
        let folders = first.iter().cloned().chain([runc]).chain(env::split_paths(&machine));
        Ok(env::join_paths(folders)?)
    }
}
