//! A small disk for everything that the shim of a cell and its runtime write: the bundles, the
//! runtime's state and the log files. It can be full, or without inodes, or it can hang.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
};

use crate::harness::containerd::Containerd;

/// How long a write on a disk that hangs is waited for, as proof.
const HANGS: Duration = Duration::from_millis(200);

/// The disk, mounted below the directory of a containerd. Everything is unmounted when dropped.
pub(super) struct Disk {
    root: PathBuf,
    /// Innermost last.
    mounts: Vec<PathBuf>,
}

/// A disk that does not answer writes until this is dropped, also if the test is killed: a process
/// that waits for a frozen file system cannot be killed.
pub(super) struct Frozen(Child);

impl Disk {
    /// Mounts the disk at the directories of the bundles, of the runtime's state and of the logs.
    /// Only `ext4` can be frozen, and only tmpfs can be filled at once.
    pub(super) fn mount(node: &Containerd, ext4: bool) -> Self {
        let root = node.path("disk");
        fs::create_dir(&root).expect("our directory is writable");
        let mut disk = Self { root, mounts: Vec::new() };
        if ext4 {
            disk.mount_ext4(&node.path("image"));
        } else {
            let options = Some("size=2m,nr_inodes=300");
            mount(Some("tmpfs"), &disk.root, Some("tmpfs"), MsFlags::empty(), options)
                .expect("the namespace is ours");
        }
        disk.mounts.push(disk.root.clone());
        for (name, at) in directories(node) {
            let from = disk.root.join(name);
            fs::create_dir(&from).expect("the disk is empty");
            fs::create_dir_all(&at).expect("our directory is writable");
            let nothing = None::<&str>;
            mount(Some(&from), &at, nothing, MsFlags::MS_BIND, nothing).expect("it exists");
            disk.mounts.push(at);
        }
        disk
    }

    fn mount_ext4(&self, image: &Path) {
        let file = fs::File::create(image).expect("our directory is writable");
        file.set_len(8 << 20).expect("a sparse file");
        let run = |program: &str, arguments: &[&str], path: &Path| {
            let mut command = Command::new(program);
            let status = command.args(arguments).arg(image).arg(path).status();
            assert!(status.expect("it is installed").success(), "{program} failed");
        };
        run("mke2fs", &["-q", "-t", "ext4", "-O", "^has_journal"], Path::new("8M"));
        run("mount", &["-o", "loop"], &self.root);
    }

    /// Whether a path is a mount of this disk, which is no leftover of a container.
    pub(super) fn has_mount(&self, path: &Path) -> bool {
        self.mounts.iter().any(|mount| mount == path)
    }

    /// Uses all space, or all inodes. [`empty`](Self::empty) frees them.
    pub(super) fn fill(&self, inodes: bool) {
        let filler = self.root.join("filler");
        fs::create_dir_all(&filler).expect("the disk has space");
        for number in 0.. {
            let path = filler.join(number.to_string());
            let file = fs::File::create(path);
            let written = match inodes {
                true => file.map(drop),
                false => file.and_then(|mut file| file.write_all(&[0; 1 << 16])),
            };
            match written {
                Ok(()) => {}
                Err(error) if is_full(&error) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub(super) fn empty(&self) {
        let _ = fs::remove_dir_all(self.root.join("filler"));
        let _ = fs::remove_file(self.root.join("probe"));
    }

    /// Makes a file, or writes to one. Returns how that failed for want of space.
    pub(super) fn refuses(&self, inodes: bool) -> Option<String> {
        let path = self.root.join(if inodes { "probe" } else { "filler/0" });
        let file = fs::File::options().append(true).create(true).open(path);
        let tried = file.and_then(|mut file| file.write_all(&[0; 8192]));
        let what = if inodes { "open" } else { "write" };
        tried.err().filter(is_full).map(|_| format!("{what}: ENOSPC"))
    }

    /// Freezes the disk: everything that would change it waits.
    pub(super) fn freeze(&self) -> Frozen {
        let root = self.root.display();
        let script = format!("read -r _; exec fsfreeze --unfreeze {root}");
        let guard = Command::new("sh").args(["-c", &script]).stdin(Stdio::piped()).spawn();
        let guard = Frozen(guard.expect("sh is installed"));
        let frozen = Command::new("fsfreeze").arg("--freeze").arg(&self.root).status();
        assert!(frozen.expect("util-linux is installed").success(), "cannot freeze {root}");
        guard
    }

    /// Tries to make a file on the frozen disk. Returns how long that has waited in vain.
    pub(super) fn hangs(&self) -> Option<String> {
        let (sender, ended) = mpsc::channel();
        let path = self.root.join("probe");
        // The thread ends when the disk is thawed.
        thread::spawn(move || sender.send(fs::write(path, "probe")));
        match ended.recv_timeout(HANGS) {
            Err(mpsc::RecvTimeoutError::Timeout) => Some(format!("open: none in {HANGS:?}")),
            _ => None,
        }
    }
}

fn is_full(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ENOSPC as i32)
}

/// What is on the disk: its directory there, and where it is mounted.
fn directories(node: &Containerd) -> [(&'static str, PathBuf); 3] {
    let bundles = node.bundle("");
    let runtime = Path::new("/run/containerd/runc").join(node.namespace());
    [("bundles", bundles), ("runtime", runtime), ("logs", node.path("logs"))]
}

impl Drop for Disk {
    fn drop(&mut self) {
        for mount in self.mounts.iter().rev() {
            let _ = umount2(mount, MntFlags::MNT_DETACH);
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
