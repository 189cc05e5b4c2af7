//! A stock containerd of our own: its root, state and socket in a folder of the test, and the mount
//! namespace and `/run/containerd` of the test, so that what is left behind is certainly its own.
//!
//! ```text
//! test thread (private mount namespace)
//!   └ containerd VERSION   finds the shim under test by PATH
//!       └ containerd-shim-lookout-v2 … -address FOLDER/containerd.sock
//!           └ containers in the cgroups /NAMESPACE/ID
//! ```
//!
//! Every test has a containerd namespace of its own, which names its cgroups; two tests never meet.

mod cgroup;
mod events;
mod leftovers;
mod listener;
mod program;
mod shim;
mod told;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use nix::{
    mount::{MntFlags, MsFlags},
    sched::CloneFlags,
};
use tempfile::TempDir;

pub(crate) use cgroup::is_unified;
pub(crate) use events::{Event, Events};
pub(crate) use listener::Listener;
pub(crate) use program::{Output, Program, Running};
pub(crate) use shim::Holdings;
pub(crate) use told::{Told, Watching};

use super::{
    Process, Task, deadline,
    tools::{SHIM, tool},
};

/// The image that hack/setup makes: busybox.
pub(crate) const IMAGE: &str = "docker.io/library/lookout-test:latest";

/// The runtime type that resolves to the binary under test.
pub(crate) const RUNTIME: &str = "io.containerd.lookout.v2";

/// How long a daemon may take to serve.
const UP: Duration = Duration::from_secs(20);

/// Which containerd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V1_6,
    V1_7,
    V2_1,
}

impl Version {
    /// All that the shim must serve.
    pub(crate) const ALL: [Self; 3] = [Self::V1_6, Self::V1_7, Self::V2_1];

    /// Its folder of the tools.
    fn folder(self) -> &'static str {
        match self {
            Self::V1_6 => "containerd-1.6",
            Self::V1_7 => "containerd-1.7",
            Self::V2_1 => "containerd-2.1",
        }
    }
}

/// Which OCI runtime a container gets that names none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runtime {
    Runc1_1,
    Runc1_3,
    /// Refuses hybrid cgroups, so with it the unified hierarchy is hidden from everything the
    /// daemon starts.
    Crun1_21,
}

impl Runtime {
    fn binary(self) -> PathBuf {
        tool(match self {
            Self::Runc1_1 => "runc-1.1/bin/runc",
            Self::Runc1_3 => "runc-1.3/bin/runc",
            Self::Crun1_21 => "crun-1.21/bin/crun",
        })
    }
}

/// A running daemon. Dropped, it takes everything that it started along.
#[derive(Debug)]
pub(crate) struct Containerd {
    folder: TempDir,
    version: Version,
    runtime: Runtime,
    namespace: String,
    daemon: Option<Child>,
    execs: AtomicU32,
    /// Whether the daemon is in a pid namespace of its own.
    inside: bool,
}

impl Containerd {
    /// A daemon with the image, whose containers run under runc 1.1.
    pub(crate) fn start(version: Version) -> Self {
        Self::start_with(version, Runtime::Runc1_1)
    }

    /// A daemon whose shims find these settings in the host's configuration.
    pub(crate) fn start_configured(version: Version, settings: &str) -> Self {
        let mut containerd = Self::start(version);
        fs::write(containerd.path("lookout.toml"), settings).expect("our folder is writable");
        containerd.kill_9();
        containerd.restart();
        containerd
    }

    /// A daemon with the image, whose containers run under `runtime`.
    pub(crate) fn start_with(version: Version, runtime: Runtime) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        isolate(runtime);
        // Short: the sockets in it must fit into 107 bytes.
        let folder =
            tempfile::Builder::new().prefix("e2e.").tempdir_in("/tmp").expect("a folder in /tmp");
        for name in ["tmp", "bin"] {
            fs::create_dir(folder.path().join(name)).expect("a folder in an empty one");
        }
        let namespace =
            format!("t{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut containerd = Self {
            folder,
            version,
            runtime,
            namespace,
            daemon: None,
            execs: AtomicU32::new(0),
            inside: false,
        };
        containerd.restart();
        let archive = tool("image.tar");
        containerd.ctr(&["image", "import", &archive.to_string_lossy()]).success();
        containerd
    }

    // ── the daemon ──

    /// Kills the daemon as `kill -9` does. Shims and containers live on.
    pub(crate) fn kill_9(&mut self) {
        let mut daemon = self.daemon.take().expect("the daemon runs");
        daemon.kill().expect("our own child");
        daemon.wait().expect("our own child");
    }

    /// Starts the daemon (again), with the same root and state, and waits until it serves.
    pub(crate) fn restart(&mut self) {
        self.restart_by(&[]);
    }

    /// As [`restart`](Self::restart), on a kernel that refuses these: see `tests/storm/refuse.c`.
    pub(crate) fn restart_under(&mut self, refused: &[&str]) {
        let refuse = tool("storm/bin/refuse").display().to_string();
        self.restart_by(&[&[refuse.as_str()], refused, &["--"]].concat());
    }

    /// Restarts the daemon with a bpffs for its shims alone, so that what is pinned is this test's.
    pub(crate) fn use_own_bpffs(&mut self) {
        let folder = self.path("bpffs");
        fs::create_dir(&folder).expect("our folder is writable");
        let nothing = None::<&str>;
        nix::mount::mount(Some("bpf"), &folder, Some("bpf"), MsFlags::empty(), nothing)
            .expect("the namespace is ours");
        self.kill_9();
        self.restart();
    }

    /// Unmounts it. The daemon and its shims go on.
    pub(crate) fn remove_own_bpffs(&self) {
        nix::mount::umount2(&self.path("bpffs"), MntFlags::MNT_DETACH).expect("it is mounted");
    }

    /// As [`restart`](Self::restart), in a pid namespace of its own, as on a node that is a
    /// container.
    pub(crate) fn restart_in_a_pid_namespace(&mut self) {
        self.inside = true;
        self.restart_by(&["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    }

    /// As [`restart`](Self::restart), by a program that is given the daemon's command line.
    fn restart_by(&mut self, program: &[&str]) {
        assert!(self.daemon.is_none(), "one at a time");
        self.daemon = Some(self.spawn(program));
        deadline::within(UP, "containerd to serve", || self.ctr(&["version"]).code == 0);
    }

    fn spawn(&self, program: &[&str]) -> Child {
        let config = self.path("config.toml");
        fs::write(&config, self.config()).expect("our folder is writable");
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("our folder is writable");
        // A test that is killed cannot clean up; the daemon at least goes with it.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        command.args(program).arg(self.tool("containerd")).arg("--config").arg(config);
        command
            .env("PATH", self.search_path())
            .env("TMPDIR", self.path("tmp"))
            .env_remove("XDG_RUNTIME_DIR");
        command.env("LOOKOUT_RUNTIME_DIR", self.path("lookout"));
        let settings = self.path("lookout.toml");
        if settings.exists() {
            command.env("LOOKOUT_CONFIG", settings);
        }
        if self.path("bpffs").exists() {
            command.env("LOOKOUT_BPFFS", self.path("bpffs"));
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        command.spawn().expect("setpriv of util-linux")
    }

    fn config(&self) -> String {
        let folder = self.folder.path().display();
        format!(
            r#"version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"]
[grpc]
  address = "{folder}/containerd.sock"
"#
        )
    }

    /// What a test puts into its `bin` first, then the shim under test, the runtime, CRIU, and the
    /// rest of the machine.
    fn search_path(&self) -> String {
        let (test, runtime, criu) = (self.path("bin"), self.runtime.binary(), tool("criu-4/bin"));
        let ours = [Some(&*test), Path::new(SHIM).parent(), runtime.parent(), Some(&criu)]
            .into_iter()
            .flatten();
        let ours = ours.map(|folder| folder.display().to_string() + ":").collect::<String>();
        ours + &std::env::var("PATH").unwrap_or_default()
    }

    /// What the daemon has logged, its shims' words among it.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.path("containerd.log")
    }

    // ── the client ──

    /// `ctr ARGUMENTS`, run to its end. Panics if that takes longer than half a minute.
    pub(crate) fn ctr(&self, arguments: &[&str]) -> Output {
        self.program(arguments).run()
    }

    /// `ctr ARGUMENTS`, not yet run.
    pub(crate) fn program(&self, arguments: &[&str]) -> Program {
        let mut command = Command::new(self.ctr_path());
        command
            .arg("--address")
            .arg(self.socket())
            .args(["--namespace", &self.namespace])
            .args(arguments);
        Program::new(command)
    }

    /// `lookout ARGUMENTS`, asking the shims of this daemon; not yet run.
    pub(crate) fn lookout(&self, arguments: &[&str]) -> Program {
        let program = env!("CARGO_BIN_EXE_lookout");
        let mut command = match self.inside {
            false => Command::new(program),
            true => {
                // unshare waits for the daemon, which is the first process in there.
                let unshare = Process::new(
                    self.daemon.as_ref().map_or(0, |daemon| daemon.id().cast_signed()),
                );
                let inner = unshare.children().first().map_or(0, |inner| inner.pid);
                let mut command = Command::new("nsenter");
                command.args(["--target", &inner.to_string(), "--pid", "--mount", program]);
                command
            }
        };
        if self.path("bpffs").exists() {
            command.env("LOOKOUT_BPFFS", self.path("bpffs"));
        }
        command
            .args(arguments)
            .env("LOOKOUT_RUNTIME_DIR", self.path("lookout"))
            .env("NO_COLOR", "1");
        Program::new(command)
    }

    /// `ctr run FLAGS IMAGE ID COMMAND` under our runtime, not yet run.
    pub(crate) fn run(&self, id: &str, flags: &[&str], command: &[&str]) -> Program {
        self.program(&[&["run", "--runtime", RUNTIME], flags, &[IMAGE, id], command].concat())
    }

    /// A container that runs by itself.
    pub(crate) fn detached(&self, id: &str, flags: &[&str], command: &[&str]) {
        self.run(id, &[&["--detach"], flags].concat(), command).run().success();
    }

    /// `ctr task exec FLAGS ID COMMAND` under an exec id of its own, not yet run.
    pub(crate) fn exec(&self, id: &str, flags: &[&str], command: &[&str]) -> Program {
        let exec_id = format!("exec-{}", self.execs.fetch_add(1, Ordering::Relaxed));
        self.program(&[&["task", "exec", "--exec-id", &exec_id], flags, &[id], command].concat())
    }

    /// What `ctr task ls` says of a container, or nothing: `RUNNING`, `STOPPED`…
    pub(crate) fn status(&self, id: &str) -> Option<String> {
        let tasks = self.ctr(&["task", "ls"]).success().stdout_text();
        let columns = tasks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        columns
            .into_iter()
            .find(|columns| columns.first() == Some(&id))
            .map(|columns| columns[2].to_owned())
    }

    /// Waits until `ctr task ls` says so.
    pub(crate) fn wait_for_status(&self, id: &str, status: &str) {
        deadline::until(&format!("{id} to be {status}"), || {
            self.status(id).is_some_and(|now| now == status)
        });
    }

    /// Init's pid, as the client tells it.
    pub(crate) fn pid(&self, id: &str) -> i32 {
        let tasks = self.ctr(&["task", "ls"]).success().stdout_text();
        let line = tasks.lines().find(|line| line.split_whitespace().next() == Some(id));
        let line = line.unwrap_or_else(|| panic!("no task {id} in:\n{tasks}"));
        line.split_whitespace()
            .nth(1)
            .and_then(|pid| pid.parse().ok())
            .expect("a pid in the second column")
    }

    /// Kills a container, and removes its task and itself.
    pub(crate) fn remove(&self, id: &str) {
        self.ctr(&["task", "rm", "--force", id]).success();
        self.ctr(&["container", "rm", id]).success();
    }

    /// A client that listens from now on: it has seen the daemon's bus when this returns.
    pub(crate) fn events(&self) -> Events {
        let events = Events::of_bus(self.program(&["events"]));
        // Whether a subscription has begun, only an event shows.
        deadline::until("the events client to hear", || {
            let label = format!("heard={}", self.execs.fetch_add(1, Ordering::Relaxed));
            self.ctr(&["namespace", "label", &self.namespace, &label]).success();
            events.find(|event| event.topic.starts_with("/namespaces/")).is_some()
        });
        events
    }

    /// A client that listens, maybe not yet: for what must reach whoever comes late.
    pub(crate) fn events_at_once(&self) -> Events {
        Events::of_bus(self.program(&["events"]))
    }

    // ── what there is ──

    /// The daemon's version.
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// The containerd namespace of this test.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// A path in the folder of this test.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The bundle of a container.
    pub(crate) fn bundle(&self, id: &str) -> PathBuf {
        self.path("state/io.containerd.runtime.v2.task").join(&self.namespace).join(id)
    }

    /// Writes an executable script into the folder of this test.
    pub(crate) fn script(&self, name: &str, text: &str) -> String {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.path(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("our folder is writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own file");
        path.to_string_lossy().into_owned()
    }

    /// The binary that a container gets that names none.
    pub(crate) fn runtime_binary(&self) -> String {
        self.runtime.binary().to_string_lossy().into_owned()
    }

    /// What a daemon's socket files of shims are now.
    pub(crate) fn sockets(&self) -> Vec<PathBuf> {
        leftovers::entries(Path::new("/run/containerd/s"))
    }

    /// The shims of this daemon that live, by the id that they were started for.
    pub(crate) fn shims(&self) -> BTreeMap<String, Process> {
        shim::all(&self.socket())
    }

    /// The shim that was started for `id`.
    pub(crate) fn shim(&self, id: &str) -> Process {
        self.shims().remove(id).unwrap_or_else(|| panic!("no shim for {id}: {:?}", self.shims()))
    }

    /// The Task service of the shim of `id`, as containerd itself reaches it.
    pub(crate) fn task_service(&self, id: &str) -> Task {
        let address =
            fs::read_to_string(self.bundle(id).join("address")).expect("the shim writes it");
        Task::connect(&address, 2).expect("the shim listens")
    }

    /// The daemon's own pid.
    pub(crate) fn daemon_pid(&self) -> Option<i32> {
        self.daemon.as_ref().and_then(|daemon| i32::try_from(daemon.id()).ok())
    }

    fn socket(&self) -> String {
        self.path("containerd.sock").to_string_lossy().into_owned()
    }

    fn tool(&self, name: &str) -> PathBuf {
        tool(self.version.folder()).join("bin").join(name)
    }

    fn ctr_path(&self) -> PathBuf {
        self.tool("ctr")
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.log();
            let tail = log
                .lines()
                .rev()
                .filter(|line| !line.contains("loading plugin"))
                .take(30)
                .collect::<Vec<_>>();
            eprintln!("── the end of {:?}'s log ──", self.version);
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
        if self.daemon.is_some() {
            self.kill_9();
        }
        leftovers::sweep(self);
    }
}

/// Gives this thread, and all that it starts, its own mounts and its own `/run/containerd`.
fn isolate(runtime: Runtime) {
    let nothing = None::<&str>;
    nix::sched::unshare(CloneFlags::CLONE_NEWNS).expect("these tests need root");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    nix::mount::mount(nothing, "/", nothing, private, nothing).expect("the namespace is ours");
    fs::create_dir_all("/run/containerd").expect("these tests need root");
    nix::mount::mount(Some("tmpfs"), "/run/containerd", Some("tmpfs"), MsFlags::empty(), nothing)
        .expect("the namespace is ours");
    if runtime == Runtime::Crun1_21 {
        // EINVAL: there is no such mount, or a daemon before this one has had it removed.
        let _ = nix::mount::umount2("/sys/fs/cgroup/unified", MntFlags::MNT_DETACH);
    }
}
