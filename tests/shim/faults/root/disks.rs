//! Mounts, full disks, delayed system calls, real cgroups.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use containerd_shim_protos::api::{CreateTaskRequest, Mount};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::harness::{Node, Process, Shim, deadline};

/// Check that Pids never fails and is never empty while the container exists, even if its cgroup
/// does not. When containerd restarts, it kills the shim of a task if Pids fails, and deletes a
/// task if the list is empty (containerd#13784).
#[test]
fn pids_of_a_dead_container_lists_its_init() {
    let node = Node::new();
    let bundle = node.runc_bundle("web", "exec sleep 600");
    let shim = node.shim(&bundle);
    let pids = || -> Vec<u32> {
        shim.pids("web").unwrap().processes.into_iter().map(|process| process.pid).collect()
    };
    let init = shim.create(&bundle.create()).unwrap().pid;
    assert_eq!(pids(), [init]);
    shim.start("web", "").unwrap();
    assert_eq!(pids(), [init]);
    shim.pause("web").unwrap();
    assert_eq!(pids(), [init]);
    shim.resume("web").unwrap();
    shim.kill("web", "", 9).unwrap();
    shim.wait("web", "").unwrap();
    assert_eq!(pids(), [init]);
    // An administrator or systemd may do this.
    let runc = Command::new(&bundle.options.binary_name)
        .args([
            "--root",
            &node.runtime_root().join("test").to_string_lossy(),
            "delete",
            "--force",
            "web",
        ])
        .status();
    assert!(runc.unwrap().success());
    assert_eq!(pids(), [init]);
    assert!(shim.stats("web").is_err());
    shim.update("web", "{}").unwrap_err();
    shim.delete("web", "").unwrap();
}

/// Check that an overlay is mounted although its layers do not fit into the one page that mount(2)
/// accepts (rust-extensions dafb1b6).
#[test]
fn an_overlay_of_many_layers_is_mounted() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let snapshots = node.path().join("snapshots").join("long".repeat(20));
    let layers: Vec<PathBuf> =
        (0..60).map(|number| snapshots.join(format!("{number}/fs"))).collect();
    for (number, layer) in layers.iter().enumerate() {
        fs::create_dir_all(layer).unwrap();
        fs::write(layer.join(format!("from-{number}")), "").unwrap();
    }
    let names: Vec<_> = layers.iter().map(|layer| layer.to_string_lossy().into_owned()).collect();
    let option = format!("lowerdir={}", names.join(":"));
    assert!(option.len() > 4096);
    let overlay = Mount {
        type_: "overlay".into(),
        source: "overlay".into(),
        options: vec![option],
        ..Default::default()
    };
    shim.create(&CreateTaskRequest { rootfs: vec![overlay], ..bundle.create() }).unwrap();
    for number in [0, 30, 59] {
        assert!(bundle.path.join(format!("rootfs/from-{number}")).exists(), "{number}");
    }
    shim.start("web", "").unwrap();
    shim.remove("web");
    assert!(!bundle.path.join("rootfs/from-0").exists());
}

/// The shim of the container `web`, which has ended and has a root file system that the shim has
/// mounted.
#[track_caller]
fn stopped_on_tmpfs(node: &Node) -> Shim {
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let tmpfs = Mount { type_: "tmpfs".into(), source: "tmpfs".into(), ..Default::default() };
    shim.create(&CreateTaskRequest { rootfs: vec![tmpfs], ..bundle.create() }).unwrap();
    shim.start("web", "").unwrap();
    shim.kill("web", "", 9).unwrap();
    shim.wait("web", "").unwrap();
    shim
}

/// Check that a slow unmount delays only its own delete, and that a repeated delete joins it
/// (containerd#7496, containerd#9309).
#[test]
fn a_slow_unmount_holds_up_its_own_delete_alone() {
    let node = Node::new();
    let shim = stopped_on_tmpfs(&node);
    let slow = Delayed::umount(shim.process, 3);
    let impatient = shim.reconnect().with_deadline(Duration::from_secs(1));
    assert!(impatient.delete("web", "").unwrap_err().is_late());
    let again = shim.in_background(|task| task.delete("web", ""));
    let quick = shim.with_deadline(Duration::from_secs(1));
    assert_eq!(quick.state("web", "").unwrap().exit_status, 137);
    assert!(!again.is_finished());
    assert_eq!(again.join().unwrap().unwrap().exit_status, 137);
    drop(slow);
    assert!(quick.state("web", "").is_err());
    assert_eq!(node.runtime().calls("delete").len(), 1);
}

/// Check that a delete gives up on an unmount that hangs, with an error that says so, and that the
/// next delete goes on with that unmount.
#[test]
fn a_hanging_unmount_is_named_and_left_to_the_next_delete() {
    let node = Node::new();
    let shim = stopped_on_tmpfs(&node);
    let slow = Delayed::umount(shim.process, 9);
    let failure = shim.with_deadline(Duration::from_secs(10)).delete("web", "").unwrap_err();
    assert_eq!(failure.message, "failed to unmount the root filesystem: it did not end within 7 s");
    assert_eq!(shim.state("web", "").unwrap().exit_status, 137);
    assert_eq!(shim.delete("web", "").unwrap().exit_status, 137);
    drop(slow);
    assert_eq!(node.runtime().calls("delete").len(), 1);
}

/// Check that a file system in a file is mounted through a loop device, which is free again after
/// the delete, and that `ro` makes the device read-only too.
#[test]
fn a_loop_mount_uses_a_device_that_is_freed() {
    for options in [&["loop"][..], &["loop", "ro"]] {
        let node = Node::new();
        let bundle = node.bundle("web");
        let shim = node.shim(&bundle);
        let image = node.path().join("image");
        fs::File::create(&image).unwrap().set_len(4 << 20).unwrap();
        assert!(Command::new("mke2fs").arg("-q").arg(&image).status().unwrap().success());
        let devices = || {
            let output = Command::new("losetup").arg("-j").arg(&image).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let mount = Mount {
            type_: "ext2".into(),
            source: image.to_string_lossy().into_owned(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            ..Default::default()
        };
        shim.create(&CreateTaskRequest { rootfs: vec![mount.clone()], ..bundle.create() }).unwrap();
        assert!(bundle.path.join("rootfs/lost+found").exists());
        assert_eq!(devices().lines().count(), 1);
        let written = fs::write(bundle.path.join("rootfs/file"), "");
        assert_eq!(written.is_err(), options.contains(&"ro"));
        shim.delete("web", "").unwrap();
        assert!(!bundle.path.join("rootfs/lost+found").exists());
        deadline::until("the device to be free", || devices().is_empty());
        // A mount that fails frees the device, too.
        let wrong = Mount { type_: "xfs".into(), ..mount };
        shim.create(&CreateTaskRequest { rootfs: vec![wrong], ..bundle.create() }).unwrap_err();
        deadline::until("the device to be free", || devices().is_empty());
    }
}

/// Check that a FUSE mount is made by its helper with the arguments of mount(8), that the error of
/// a helper reaches the client, and that a missing one is named.
#[test]
fn a_fuse_mount_is_made_by_its_helper() {
    use std::os::unix::fs::PermissionsExt as _;
    let node = Node::new();
    let bundle = node.bundle("web");
    let bin = node.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let helper = bin.join("mount.fuse3");
    // The child stands for the process that serves the file system.
    let script = "#!/bin/sh\necho \"$*\" >\"${0%/*}/arguments\"\n\
                  mount -t tmpfs fuse \"$2\" || exit 1\n\
                  echo served >\"$2/file\"\nsleep 600 &\n";
    fs::write(&helper, script).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let shim = node.start_verb(&bundle).env("PATH", &path).shim();
    let fuse = |kind: &str| Mount {
        type_: kind.into(),
        source: "overlay".into(),
        options: vec!["lowerdir=/a:/b".into(), "ro".into()],
        ..Default::default()
    };
    let create = |kind: &str| {
        shim.create(&CreateTaskRequest { rootfs: vec![fuse(kind)], ..bundle.create() })
    };
    create("fuse3.fuse-overlayfs").unwrap();
    assert_eq!(fs::read_to_string(bundle.path.join("rootfs/file")).unwrap(), "served\n");
    assert_eq!(
        fs::read_to_string(bin.join("arguments")).unwrap(),
        format!(
            "overlay {}/rootfs -o lowerdir=/a:/b -o ro -t fuse-overlayfs\n",
            bundle.path.display()
        )
    );
    shim.delete("web", "").unwrap();
    assert!(!bundle.path.join("rootfs/file").exists());
    fs::write(&helper, "#!/bin/sh\nprintf 'no \\033[2Jserver\\n' >&2; exit 3\n").unwrap();
    let failure = create("fuse3.fuse-overlayfs").unwrap_err();
    let reason = r"the mount helper exited with 3: no \x1b[2Jserver";
    assert!(failure.message.ends_with(reason), "{failure:?}");
    let failure = create("fuse.sshfs").unwrap_err();
    assert_eq!(failure.message, "failed to mount fuse.sshfs: mount.fuse is not in PATH");
}

/// Check that with a full disk an exec fails with that cause, and that the container runs on.
#[test]
fn a_full_disk_is_reported_as_the_cause() {
    let node = Node::new();
    let disk = Disk::mount(&node.path().join("b"));
    let bundle = node.bundle("web");
    let daemon = node.daemon();
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    shim.exec("web", "probe").unwrap();
    daemon.wait_for("exec-added web probe");
    // The outbox is emptied after the last acknowledgement, which would free space.
    let outbox = bundle.path.join("events.journal");
    deadline::until("an empty outbox", || fs::metadata(&outbox).unwrap().len() == 0);
    disk.fill();
    let failure = shim.start("web", "probe").unwrap_err();
    assert!(failure.message.contains("No space left on device"), "{failure:?}");
    // Events that cannot be written to disk are still delivered (promise P1).
    shim.remove("web");
    daemon.wait_for("delete web 137");
}

/// Check that output that a full disk cannot take is kept, and written once there is space, also if
/// the container writes nothing more.
#[test]
fn a_log_on_a_full_disk_is_complete_once_there_is_space() {
    let node = Node::new();
    let path = node.path().join("disk");
    fs::create_dir(&path).unwrap();
    let disk = Disk::mount(&path);
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let lines: String = (0..20_000).map(|number| format!("{number}\n")).collect();
    node.runtime().payload(
        "web",
        "read go <go; i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done; exec sleep 600",
    );
    let go = crate::harness::Fifo::make(bundle.path.join("go"));
    let log = path.join("log");
    let logged = format!("file://{}", log.display());
    shim.create(&CreateTaskRequest { stdout: logged, ..bundle.create() }).unwrap();
    shim.start("web", "").unwrap();
    disk.fill();
    let written = || fs::metadata(&log).unwrap().len();
    let before = written();
    go.send(b"go\n");
    let busy = || shim.process.descriptors().values().any(|target| target.ends_with("/log"));
    deadline::until("the file to be open", busy);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(written(), before, "the disk is not full");
    fs::remove_file(path.join("filler")).unwrap();
    deadline::until("all lines", || fs::read_to_string(&log).unwrap() == lines);
}

/// strace on a process that delays some of its system calls.
pub(super) struct Delayed(Child);

impl Delayed {
    /// The delay of each write.
    pub(super) const WRITE: Duration = Duration::from_secs(20);

    /// Delays each unmount.
    #[track_caller]
    fn umount(process: Process, seconds: u32) -> Self {
        let delay = format!("inject=umount2:delay_enter={seconds}s");
        Self::attach(process, &["-e", "trace=umount2", "-e", &delay].map(str::to_owned))
    }

    /// Delays each write to one of `files` by [`WRITE`](Self::WRITE).
    #[track_caller]
    pub(super) fn writes(process: Process, files: &[PathBuf]) -> Self {
        let delay = format!("inject=write:delay_enter={}", Self::WRITE.as_micros());
        let mut arguments = ["-e", "trace=write", "-e", &delay].map(str::to_owned).to_vec();
        for file in files {
            arguments.extend(["-P".into(), file.to_string_lossy().into_owned()]);
        }
        Self::attach(process, &arguments)
    }

    #[track_caller]
    fn attach(process: Process, arguments: &[String]) -> Self {
        let strace = Command::new("strace")
            .args(["-f", "-qq"])
            .args(arguments)
            .args(["-o", "/dev/null", "-p", &process.pid.to_string()])
            .stderr(Stdio::null())
            .spawn()
            .expect("strace is missing: run hack/setup --bench");
        let status = format!("/proc/{}/status", process.pid);
        let is_traced = || !fs::read_to_string(&status).unwrap().contains("TracerPid:\t0");
        deadline::until("strace", is_traced);
        Self(strace)
    }
}

impl Drop for Delayed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A tmpfs of a quarter of a megabyte.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path) -> Self {
        mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some("size=256k")).unwrap();
        Self(at.to_owned())
    }

    fn fill(&self) {
        fs::write(self.0.join("filler"), vec![0; 1 << 20]).unwrap_err();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}
