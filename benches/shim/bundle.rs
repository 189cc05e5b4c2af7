//! A bundle as containerd makes it for `ctr run`: config.json, an empty rootfs, a fifo for the log.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use nix::{
    fcntl::OFlag,
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::stat::Mode,
    unistd::mkfifo,
};
use serde_json::{Value, json};

use crate::{Result, workspace::Workspace};

/// A bundle, which is removed with its directories when dropped.
#[derive(Debug)]
pub(crate) struct Bundle {
    pub(crate) id: String,
    pub(crate) path: PathBuf,
    /// The upper and work directories of the overlay.
    scratch: PathBuf,
    lower: PathBuf,
    /// The reading end of the shim's log fifo, because a shim that opens it for writing waits for a
    /// reader.
    _log: File,
}

impl Bundle {
    /// Creates a bundle for a container that runs `args`, with at most one annotation.
    pub(crate) fn new(
        workspace: &Workspace,
        args: &[&str],
        annotation: Option<(&str, &str)>,
    ) -> Result<Self> {
        let id = workspace.fresh("c");
        let path = workspace.in_run(&id);
        let scratch = workspace.on_disk(&id);
        for directory in [path.join("rootfs"), scratch.join("upper"), scratch.join("work")] {
            fs::create_dir_all(directory)?;
        }
        fs::write(
            path.join("config.json"),
            config(&format!("/{}/{id}", workspace.namespace), args, annotation).to_string(),
        )?;
        let log = path.join("log");
        mkfifo(&log, Mode::from_bits_truncate(0o600))?;
        let log = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(log)?;
        Ok(Self { id, path, scratch, lower: workspace.rootfs(), _log: log })
    }

    /// The root filesystem as a snapshotter describes it: the options of an overlay.
    pub(crate) fn overlay(&self) -> [String; 3] {
        let option = |name: &str, path: &Path| format!("{name}={}", path.display());
        [
            option("workdir", &self.scratch.join("work")),
            option("upperdir", &self.scratch.join("upper")),
            option("lowerdir", &self.lower),
        ]
    }

    /// Mounts the root filesystem, for a runtime without a shim.
    pub(crate) fn mount(&self) -> Result<()> {
        let options = self.overlay().join(",");
        mount(
            Some("overlay"),
            &self.path.join("rootfs"),
            Some("overlay"),
            MsFlags::empty(),
            Some(options.as_str()),
        )?;
        Ok(())
    }

    /// Unmounts what [`Bundle::mount`] mounted.
    pub(crate) fn unmount(&self) -> Result<()> {
        umount2(&self.path.join("rootfs"), MntFlags::MNT_DETACH)?;
        Ok(())
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        for directory in [&self.path, &self.scratch] {
            if let Err(error) = fs::remove_dir_all(directory) {
                eprintln!("bench: {}: {error}", directory.display());
            }
        }
    }
}

/// The `config.json` that `ctr run` writes: five namespaces, seven mounts, the device list.
fn config(cgroup: &str, args: &[&str], annotation: Option<(&str, &str)>) -> Value {
    let capabilities =
        ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SETGID", "CAP_SETUID"];
    let mount = |destination: &str, kind: &str, options: &[&str]| {
        let source = kind;
        json!({ "destination": destination, "type": kind, "source": source, "options": options })
    };
    let device = |major: i64, minor: i64| {
        json!({
            "allow": true, "type": "c", "major": major, "minor": minor, "access": "rwm",
        })
    };
    let namespaces = ["pid", "ipc", "uts", "mount", "network"].map(|kind| json!({ "type": kind }));
    let annotations = annotation.map(|(key, value)| json!({ key: value })).unwrap_or(json!({}));
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "args": args, "env": ["PATH=/bin"], "cwd": "/", "user": { "uid": 0, "gid": 0 },
            "noNewPrivileges": true,
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
            },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
        },
        "root": { "path": "rootfs" },
        "annotations": annotations,
        "mounts": [
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &[
                "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5",
            ]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/run", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        ],
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": namespaces,
            "resources": { "devices": [
                { "allow": false, "access": "rwm" },
                device(1, 3), device(1, 5), device(1, 7), device(1, 8), device(1, 9),
                device(5, 0), device(5, 2),
            ] },
            "maskedPaths": [
                "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
            ],
            "readonlyPaths": [
                "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
            ],
        },
    })
}
