//! What each cell has: a containerd of its own, the container `web` and its shim, and a second
//! container that the client of a test makes in the same shim.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use containerd_shim_protos::api::CreateTaskRequest;
use serde_json::json;

use super::{Implementation, client::CALL, disk::Disk};
use crate::harness::{
    Process, Task, any,
    containerd::{Containerd, Event, Events, IMAGE, Version},
    deadline, exec_request, tools,
};

/// The container that every cell has.
pub(super) const WEB: &str = "web";

/// The container that some operations make, in the same shim.
pub(super) const SECOND: &str = "second";

/// The exec of some operations.
pub(super) const PROBE: &str = "probe";

/// The longest time of a client of containerd.
pub(super) const CLIENT: Duration = Duration::from_secs(2);

/// The longest time of a cell, by which its clean-up is limited.
const CELL: Duration = Duration::from_secs(10);

/// What each step of the clean-up has at least: on a busy machine a cell takes longer.
const STEP: Duration = Duration::from_secs(2);

pub(super) struct Scene {
    begun: Instant,
    /// Unmounted before the daemon's directory is removed.
    pub(super) disk: Option<Disk>,
    /// `None` while there is no subscription.
    pub(super) events: Option<Events>,
    pub(super) node: Containerd,
    pub(super) shim: Process,
    pub(super) init: Process,
    pub(super) address: String,
    pub(super) task: Task,
}

/// How `web` is made.
pub(super) struct Plan {
    pub(super) version: Version,
    pub(super) shim: Implementation,
    /// Whether bundles and logs are on a small disk, and whether that is ext4.
    pub(super) disk: Option<bool>,
    /// Whether its output goes to a file or, if not, to fifos.
    pub(super) logs: Option<bool>,
}

impl Scene {
    pub(super) fn set(plan: &Plan) -> Self {
        let begun = Instant::now();
        let node = Containerd::start(plan.version);
        fs::create_dir(node.path("logs")).expect("our directory is writable");
        let disk = plan.disk.map(|ext4| Disk::mount(&node, ext4));
        put_wrappers(&node, plan.shim);
        let events = node.events();
        let log = format!("file://{}", log_of(&node).display());
        let output: &[&str] = match plan.logs {
            Some(true) => &["--log-uri", &log],
            Some(false) => &[],
            None => &["--null-io"],
        };
        let runtime = match plan.shim {
            Implementation::Ours => "io.containerd.lookout.v2",
            Implementation::Go => "io.containerd.runc.v2",
        };
        // Each SIGUSR1 makes a line of output.
        let script = "trap 'echo line' USR1; while :; do sleep 1000 & wait $!; done";
        let run = ["run", "--detach", "--runtime", runtime];
        node.program(&[&run, output, &[IMAGE, WEB, "sh", "-c", script]].concat()).run().success();
        let init = Process::new(node.pid(WEB));
        let (address, version) = node.task_address(WEB);
        let task = Task::connect(&address, version).expect("the shim listens");
        let task = task.of_namespace(node.namespace()).with_deadline(CALL);
        let connected = task.connection(WEB).expect("a shim reports its pid");
        let shim = Process::new(connected.shim_pid);
        // The shell has its handler.
        deadline::until("the child of the shell", || !init.children().is_empty());
        Self { begun, disk, events: Some(events), node, shim, init, address, task }
    }

    /// What is left of the time of the cell, but no more than `most`.
    pub(super) fn rest(&self, most: Duration) -> Duration {
        most.min(CELL.saturating_sub(self.begun.elapsed()).max(STEP))
    }

    /// Another connection to the shim.
    pub(super) fn connection(&self) -> Task {
        let (_, version) = self.node.task_address(WEB);
        let task = Task::connect(&self.address, version).expect("the shim listens");
        task.of_namespace(self.node.namespace()).with_deadline(CALL)
    }

    /// The file that receives the output of `web`.
    pub(super) fn log(&self) -> PathBuf {
        log_of(&self.node)
    }

    /// Starts to receive events (again).
    pub(super) fn subscribe(&mut self) {
        self.events = Some(self.node.events_at_once());
    }

    /// The exit event of a process: of an init if `process` is its container's id.
    pub(super) fn exit_of(&self, container: &str, process: &str) -> Option<Event> {
        self.events.as_ref()?.find(|event| {
            event.is("/tasks/exit", container) && [process, ""].contains(&event.process())
        })
    }

    /// The bundle of the second container: on the same disk, but not where containerd, which does
    /// not know it, would remove it.
    pub(super) fn bundle_of_second(&self) -> PathBuf {
        self.node.path("logs").join(SECOND)
    }

    /// The request to create the second container, with its bundle.
    pub(super) fn second(&self) -> CreateTaskRequest {
        let bundle = self.bundle_of_second();
        fs::create_dir(&bundle).expect("made once");
        let namespaces = ["pid", "ipc", "uts", "mount"].map(|kind| json!({ "type": kind }));
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {
                "args": ["/bin/sleep", "1000"],
                "env": ["PATH=/bin"],
                "cwd": "/",
                "user": { "uid": 0, "gid": 0 },
            },
            "root": { "path": tools::tool("rootfs"), "readonly": true },
            "mounts": [{ "destination": "/proc", "type": "proc", "source": "proc" }],
            "linux": {
                "namespaces": namespaces,
                "cgroupsPath": format!("/{}/{SECOND}", self.node.namespace()),
            },
        });
        fs::write(bundle.join("config.json"), config.to_string()).expect("the disk has space");
        let bundle = bundle.to_string_lossy().into_owned();
        CreateTaskRequest { id: SECOND.into(), bundle, ..Default::default() }
    }

    /// The request to add the exec.
    pub(super) fn exec(&self) -> containerd_shim_protos::api::ExecProcessRequest {
        let spec = json!({
            "args": ["/bin/sleep", "1000"],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "user": { "uid": 0, "gid": 0 },
        });
        let kind = "types.containerd.io/opencontainers/runtime-spec/1/Process";
        let mut request = exec_request(WEB, PROBE);
        request.spec = Some(any(kind, spec.to_string())).into();
        request
    }

    /// Waits until `holds` or the time has passed; returns how long that took if it does.
    pub(super) fn wait(&self, within: Duration, holds: impl Fn(&Self) -> bool) -> Option<Duration> {
        let begun = Instant::now();
        loop {
            if holds(self) {
                return Some(begun.elapsed());
            }
            if begun.elapsed() > within {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn log_of(node: &Containerd) -> PathBuf {
    node.path("logs").join("web.log")
}

/// Puts scripts in front of the shim and the runtime, which is how a cell makes them lack something
/// from their beginning:
///
/// * `verb`: a script that the shim's `delete` reads before it begins;
/// * `hang`: while it exists, the runtime does nothing;
/// * the runtime is killed first when memory is short, as on a node where containerd's unit
///   protects the shims.
fn put_wrappers(node: &Containerd, shim: Implementation) {
    let (name, binary) = match shim {
        Implementation::Ours => ("containerd-shim-lookout-v2", PathBuf::from(tools::SHIM)),
        Implementation::Go => {
            let directory = format!("containerd-{}", super::version_name(node.version()));
            ("containerd-shim-runc-v2", tools::tool(&directory).join("bin/containerd-shim-runc-v2"))
        }
    };
    let verb = node.path("verb");
    let script = format!(
        "for word; do :; done\n[ \"$word\" = delete ] && [ -e {verb} ] && . {verb}\n\
         exec {binary} \"$@\"",
        verb = verb.display(),
        binary = binary.display(),
    );
    node.script(&format!("bin/{name}"), &script);
    let script = format!(
        "echo 1000 2>/dev/null >/proc/self/oom_score_adj\n\
         while [ -e {hang} ]; do sleep 0.02; done\nexec {runtime} \"$@\"",
        hang = node.path("hang").display(),
        runtime = node.runtime_binary(),
    );
    node.script("bin/runc", &script);
}

/// Takes every `runc` of the search path away, and puts them back when dropped.
pub(super) struct NoRuntime {
    renamed: Vec<PathBuf>,
    covered: Vec<PathBuf>,
}

impl NoRuntime {
    pub(super) fn take(node: &Containerd) -> Self {
        use nix::mount::{MsFlags, mount};
        let nothing = node.path("nothing");
        fs::write(&nothing, "").expect("our directory is writable");
        let mut taken = Self { renamed: Vec::new(), covered: Vec::new() };
        let path = node.search_path();
        for candidate in path.split(':').map(|folder| PathBuf::from(folder).join("runc")) {
            if candidate.starts_with(node.path("")) && candidate.exists() {
                fs::rename(&candidate, candidate.with_extension("away")).expect("our own file");
                taken.renamed.push(candidate);
            } else if let Ok(real) = candidate.canonicalize()
                && !taken.covered.contains(&real)
            {
                let none = None::<&str>;
                mount(Some(&nothing), &real, none, MsFlags::MS_BIND, none)
                    .expect("the namespace is ours");
                taken.covered.push(real);
            }
        }
        taken
    }
}

impl Drop for NoRuntime {
    fn drop(&mut self) {
        for path in &self.renamed {
            let _ = fs::rename(path.with_extension("away"), path);
        }
        for path in &self.covered {
            let _ = nix::mount::umount2(path, nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

impl Scene {
    /// The status of `web`, as `ctr task ls` prints it; `None` if there is no such task or no
    /// answer.
    pub(super) fn status(&self) -> Option<String> {
        let list = self.node.program(&["task", "ls"]);
        let listed = list.within(self.rest(CLIENT)).run_or_kill()?;
        let text = listed.stdout_text();
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(WEB))?;
        line.split_whitespace().nth(2).map(str::to_owned)
    }

    /// What is left of the containers of this cell.
    pub(super) fn leftovers(&self) -> Vec<String> {
        let is_disk = |what: &str| {
            let path = what.strip_prefix("mount ").map(std::path::Path::new);
            path.is_some_and(|path| self.disk.as_ref().is_some_and(|disk| disk.has_mount(path)))
        };
        self.node.leftovers().into_iter().filter(|what| !is_disk(what)).collect()
    }
}
