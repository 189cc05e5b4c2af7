//! Runs a stock containerd for one test. Its root, state and socket are in a directory of the test.
//! It has a mount namespace and a `/run/containerd` of its own, so that everything that is left
//! behind belongs to this test.
//!
//! ```text
//! test thread (private mount namespace)
//!   └ containerd VERSION   finds the shim under test by PATH
//!       └ containerd-shim-lookout-v2 … -address DIRECTORY/containerd.sock
//!           └ containers in the cgroups /NAMESPACE/ID
//! ```
//!
//! Every test has a containerd namespace of its own, which names its cgroups, so two tests never
//! share one.

mod cgroup;
mod events;
mod leftovers;
mod listener;
mod observed;
mod program;
mod shim;

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    mount::{MntFlags, MsFlags},
    sched::CloneFlags,
};
use tempfile::TempDir;

pub(crate) use cgroup::is_unified;
pub(crate) use events::{Event, Events};
pub(crate) use listener::Listener;
pub(crate) use observed::{ObservedEvent, Subscriber};
pub(crate) use program::{Output, Program, Running};
pub(crate) use shim::Holdings;

use super::{
    Process, deadline, schema,
    tools::{SHIM, tool},
};

/// The image that hack/setup makes: busybox.
pub(crate) const IMAGE: &str = "docker.io/library/lookout-test:latest";

/// The runtime type that resolves to the binary under test.
pub(crate) const RUNTIME: &str = "io.containerd.lookout.v2";

/// The longest time that a daemon may take until it serves.
const UP: Duration = Duration::from_secs(20);

/// A version of containerd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V1_6,
    V1_7,
    V2_1,
}

impl Version {
    /// All versions that the shim must support.
    pub(crate) const ALL: [Self; 3] = [Self::V1_6, Self::V1_7, Self::V2_1];

    /// Its directory below the tools.
    fn directory(self) -> &'static str {
        match self {
            Self::V1_6 => "containerd-1.6",
            Self::V1_7 => "containerd-1.7",
            Self::V2_1 => "containerd-2.1",
        }
    }
}

/// The OCI runtime of containers that do not name one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runtime {
    Runc1_1,
    Runc1_3,
    /// crun refuses hybrid cgroups, so with it the unified hierarchy is hidden from everything that
    /// the daemon starts.
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

/// A running daemon. When dropped, it removes everything that it started.
#[derive(Debug)]
pub(crate) struct Containerd {
    directory: TempDir,
    version: Version,
    runtime: Runtime,
    namespace: String,
    daemon: Option<Child>,
    execs: AtomicU32,
    /// Whether the daemon runs in a pid namespace of its own.
    inside: bool,
}

impl Containerd {
    /// Starts a daemon with the test image; its containers run under runc 1.1.
    pub(crate) fn start(version: Version) -> Self {
        Self::start_with(version, Runtime::Runc1_1)
    }

    /// Starts a daemon; its shims read these settings as the host's configuration.
    pub(crate) fn start_configured(version: Version, settings: &str) -> Self {
        let mut containerd = Self::start(version);
        fs::write(containerd.path("lookout.toml"), settings).expect("our directory is writable");
        containerd.kill_9();
        containerd.restart();
        containerd
    }

    /// Starts a daemon with the test image; its containers run under `runtime`.
    pub(crate) fn start_with(version: Version, runtime: Runtime) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        isolate(runtime);
        // A short path, because the paths of the sockets in it must fit into 107 bytes.
        let directory = tempfile::Builder::new()
            .prefix("e2e.")
            .tempdir_in("/tmp")
            .expect("a directory in /tmp");
        for name in ["tmp", "bin", "runtime"] {
            fs::create_dir(directory.path().join(name)).expect("a directory in an empty one");
        }
        // A shim of a client that names no runtime looks for `runc`.
        symlink(runtime.binary(), directory.path().join("runtime/runc"))
            .expect("our directory is writable");
        let namespace =
            format!("t{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut containerd = Self {
            directory,
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

    /// Kills the daemon with SIGKILL. Shims and containers keep running.
    pub(crate) fn kill_9(&mut self) {
        let mut daemon = self.daemon.take().expect("the daemon runs");
        daemon.kill().expect("our own child");
        daemon.wait().expect("our own child");
    }

    /// Starts the daemon (again), with the same root and state, and waits until it serves.
    pub(crate) fn restart(&mut self) {
        self.restart_by(&[]);
    }

    /// Starts the daemon (again). Returns whether it serves within this time.
    pub(crate) fn serves_again_within(&mut self, within: Duration) -> bool {
        if self.daemon.is_none() {
            self.daemon = Some(self.spawn(&[]));
        }
        let begun = Instant::now();
        let answers = || {
            let version = self.program(&["version"]).within(Duration::from_secs(1)).run_or_kill();
            version.is_some_and(|output| output.code == 0)
        };
        while !answers() {
            if begun.elapsed() > within {
                return false;
            }
            thread::sleep(Duration::from_millis(10));
        }
        true
    }

    /// As [`restart`](Self::restart), but the given system calls fail with EPERM: see
    /// `tests/storm/refuse.c`.
    pub(crate) fn restart_under(&mut self, refused: &[&str]) {
        let refuse = tool("storm/bin/refuse").display().to_string();
        self.restart_by(&[&[refuse.as_str()], refused, &["--"]].concat());
    }

    /// Restarts the daemon with a variable in its environment, which its shims inherit.
    #[cfg(feature = "planted-faults")]
    pub(crate) fn restart_with(&mut self, name: &str, value: &str) {
        self.kill_9();
        self.restart_by(&["env", &format!("{name}={value}")]);
    }

    /// Restarts the daemon with a bpffs that only its shims use, so that everything pinned there
    /// belongs to this test.
    pub(crate) fn use_own_bpffs(&mut self) {
        let directory = self.path("bpffs");
        fs::create_dir(&directory).expect("our directory is writable");
        let nothing = None::<&str>;
        nix::mount::mount(Some("bpf"), &directory, Some("bpf"), MsFlags::empty(), nothing)
            .expect("the namespace is ours");
        self.kill_9();
        self.restart();
    }

    /// Unmounts that bpffs while the daemon and its shims keep running.
    pub(crate) fn remove_own_bpffs(&self) {
        nix::mount::umount2(&self.path("bpffs"), MntFlags::MNT_DETACH).expect("it is mounted");
    }

    /// As [`restart`](Self::restart), in a pid namespace of its own, as on a node that is a
    /// container.
    pub(crate) fn restart_in_a_pid_namespace(&mut self) {
        self.inside = true;
        self.restart_by(&["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    }

    /// As [`restart`](Self::restart), but through a program that receives the daemon's command line
    /// as its arguments.
    fn restart_by(&mut self, program: &[&str]) {
        assert!(self.daemon.is_none(), "one at a time");
        self.daemon = Some(self.spawn(program));
        deadline::within(UP, "containerd to serve", || self.ctr(&["version"]).code == 0);
    }

    fn spawn(&self, program: &[&str]) -> Child {
        let config = self.path("config.toml");
        fs::write(&config, self.config()).expect("our directory is writable");
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("our directory is writable");
        // A test that is killed cannot clean up, so at least the daemon must die with it.
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
        let directory = self.directory.path().display();
        format!(
            r#"version = 2
root = "{directory}/root"
state = "{directory}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"]
[grpc]
  address = "{directory}/containerd.sock"
"#
        )
    }

    /// The daemon's `PATH`: the test's own `bin`, then the shim under test, the runtime, CRIU, and
    /// the `PATH` of the machine.
    pub(crate) fn search_path(&self) -> String {
        let (test, runtime, criu) = (self.path("bin"), self.path("runtime"), tool("criu-4/bin"));
        let ours = [Some(&*test), Path::new(SHIM).parent(), Some(&runtime), Some(&criu)]
            .into_iter()
            .flatten();
        let ours = ours.map(|directory| directory.display().to_string() + ":").collect::<String>();
        ours + &std::env::var("PATH").unwrap_or_default()
    }

    /// The daemon's log, which includes the logs of its shims.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.path("containerd.log")
    }

    // ── the client ──

    /// Runs `ctr ARGUMENTS` to its end. Panics if that takes longer than half a minute.
    pub(crate) fn ctr(&self, arguments: &[&str]) -> Output {
        self.program(arguments).run()
    }

    /// `ctr ARGUMENTS`, not yet started.
    pub(crate) fn program(&self, arguments: &[&str]) -> Program {
        let mut command = Command::new(self.ctr_path());
        command
            .arg("--address")
            .arg(self.socket())
            .args(["--namespace", &self.namespace])
            .args(arguments);
        Program::new(command)
    }

    /// `lookout ARGUMENTS` for the shims of this daemon, not yet started.
    pub(crate) fn lookout(&self, arguments: &[&str]) -> Program {
        self.lookout_under(&[], arguments)
    }

    /// `WRAPPER lookout ARGUMENTS`, not yet started.
    pub(crate) fn lookout_under(&self, wrapper: &[&str], arguments: &[&str]) -> Program {
        let program = env!("CARGO_BIN_EXE_lookout");
        let mut command = match self.inside {
            false => {
                let words = [wrapper, &[program]].concat();
                let mut command = Command::new(words[0]);
                command.args(&words[1..]);
                command
            }
            true => {
                // The daemon is the only child of unshare, and the first process in its namespace.
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

    /// `ctr run FLAGS IMAGE ID COMMAND` under our runtime, not yet started.
    pub(crate) fn run(&self, id: &str, flags: &[&str], command: &[&str]) -> Program {
        self.program(&[&["run", "--runtime", RUNTIME], flags, &[IMAGE, id], command].concat())
    }

    /// Runs a detached container.
    pub(crate) fn detached(&self, id: &str, flags: &[&str], command: &[&str]) {
        self.run(id, &[&["--detach"], flags].concat(), command).run().success();
    }

    /// `ctr task exec FLAGS ID COMMAND` with a new exec id, not yet started.
    pub(crate) fn exec(&self, id: &str, flags: &[&str], command: &[&str]) -> Program {
        let exec_id = format!("exec-{}", self.execs.fetch_add(1, Ordering::Relaxed));
        self.program(&[&["task", "exec", "--exec-id", &exec_id], flags, &[id], command].concat())
    }

    /// The status that `ctr task ls` prints for a container, such as `RUNNING` or `STOPPED`; `None`
    /// if it has no task.
    pub(crate) fn status(&self, id: &str) -> Option<String> {
        let tasks = self.ctr(&["task", "ls"]).success().stdout_text();
        let columns = tasks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        columns
            .into_iter()
            .find(|columns| columns.first() == Some(&id))
            .map(|columns| columns[2].to_owned())
    }

    /// Waits until `ctr task ls` prints this status for the container.
    pub(crate) fn wait_for_status(&self, id: &str, status: &str) {
        deadline::until(&format!("{id} to be {status}"), || {
            self.status(id).is_some_and(|now| now == status)
        });
    }

    /// The pid of the container's init, as `ctr task ls` prints it.
    pub(crate) fn pid(&self, id: &str) -> i32 {
        let tasks = self.ctr(&["task", "ls"]).success().stdout_text();
        let line = tasks.lines().find(|line| line.split_whitespace().next() == Some(id));
        let line = line.unwrap_or_else(|| panic!("no task {id} in:\n{tasks}"));
        line.split_whitespace()
            .nth(1)
            .and_then(|pid| pid.parse().ok())
            .expect("a pid in the second column")
    }

    /// Kills a container, and removes its task and the container.
    pub(crate) fn remove(&self, id: &str) {
        self.ctr(&["task", "rm", "--force", id]).success();
        self.ctr(&["container", "rm", id]).success();
    }

    /// Starts `ctr events`. When this returns, the client has received an event, so it misses none
    /// from now on.
    pub(crate) fn events(&self) -> Events {
        let events = Events::of_bus(self.program(&["events"]));
        // Only a received event proves that the subscription exists.
        deadline::until("the events client to receive an event", || {
            let label = format!("received={}", self.execs.fetch_add(1, Ordering::Relaxed));
            self.ctr(&["namespace", "label", &self.namespace, &label]).success();
            events.find(|event| event.topic.starts_with("/namespaces/")).is_some()
        });
        events
    }

    /// Starts `ctr events` without waiting for its subscription: for events that even a late
    /// subscriber must receive.
    pub(crate) fn events_at_once(&self) -> Events {
        Events::of_bus(self.program(&["events"]))
    }

    // ── its state ──

    /// The daemon's version.
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// The containerd namespace of this test.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// A path in the directory of this test.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The bundle of a container.
    pub(crate) fn bundle(&self, id: &str) -> PathBuf {
        self.path("state/io.containerd.runtime.v2.task").join(&self.namespace).join(id)
    }

    /// Writes an executable script into the directory of this test.
    pub(crate) fn script(&self, name: &str, text: &str) -> String {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.path(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("our directory is writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own file");
        path.to_string_lossy().into_owned()
    }

    /// The path of the OCI runtime of containers that do not name one.
    pub(crate) fn runtime_binary(&self) -> String {
        self.runtime.binary().to_string_lossy().into_owned()
    }

    /// The daemon's pid; `None` while it does not run.
    pub(crate) fn daemon_pid(&self) -> Option<i32> {
        self.daemon.as_ref().and_then(|daemon| i32::try_from(daemon.id()).ok())
    }

    fn socket(&self) -> String {
        self.path("containerd.sock").to_string_lossy().into_owned()
    }

    fn tool(&self, name: &str) -> PathBuf {
        tool(self.version.directory()).join("bin").join(name)
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
        if !thread::panicking() {
            // The stream of the daemon that a test may have started.
            schema::assert_stream_fits(&self.path("lookout/registry"));
        }
    }
}

/// Gives this thread, and everything that it starts, a mount namespace and a `/run/containerd` of
/// its own.
fn isolate(runtime: Runtime) {
    let nothing = None::<&str>;
    nix::sched::unshare(CloneFlags::CLONE_NEWNS).expect("these tests need root");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    nix::mount::mount(nothing, "/", nothing, private, nothing).expect("the namespace is ours");
    fs::create_dir_all("/run/containerd").expect("these tests need root");
    nix::mount::mount(Some("tmpfs"), "/run/containerd", Some("tmpfs"), MsFlags::empty(), nothing)
        .expect("the namespace is ours");
    if runtime == Runtime::Crun1_21 {
        let unified = "/sys/fs/cgroup/unified";
        // EINVAL means that there is no such mount, or that an earlier daemon of this thread
        // removed it.
        let _ = nix::mount::umount2(unified, MntFlags::MNT_DETACH);
        // crun makes directories where that hierarchy should be, and leaves them.
        if Path::new(unified).exists() {
            nix::mount::mount(Some("tmpfs"), unified, Some("tmpfs"), MsFlags::empty(), nothing)
                .expect("the namespace is ours");
        }
    }
}
