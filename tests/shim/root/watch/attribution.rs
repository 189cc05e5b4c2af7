//! Attribution by facts that a container cannot choose: whatever its processes do, each is reported
//! for its own container, with its true origin, exec id and exit.

/// Generates a test under runc and one under crun from each function.
macro_rules! under_each_runtime {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            use $crate::harness::containerd::{Runtime, Version};

            #[test]
            fn runc() {
                super::$name(Version::V1_7, Runtime::Runc1_1);
            }

            #[test]
            fn crun() {
                super::$name(Version::V2_1, Runtime::Crun1_21);
            }
        }
    )*};
}

mod births;
mod cgroups;
mod execs;
mod hooks;
mod namespaces;

use std::{collections::BTreeMap, fmt, fs};

use serde_json::{Value, json};

use super::account;
use crate::{
    harness::{
        containerd::{Containerd, ObservedEvent, RUNTIME, Subscriber},
        tools::tool,
    },
    root::copy_rootfs,
};

/// The path of the program of `tests/storm/births.c` on the host.
fn births_path() -> String {
    tool("storm/bin/births").to_string_lossy().into_owned()
}

/// The `--mount` argument that gives a container that program at a path.
fn births_at(path: &str) -> String {
    format!("type=bind,src={},dst={path},options=rbind:ro", births_path())
}

/// Runs a container that sleeps and has that program as `/births`.
fn sleeping(containerd: &Containerd, id: &str, flags: &[&str]) {
    let mount = births_at("/births");
    containerd.detached(id, &[&["--mount", &mount], flags].concat(), &["sleep", "1000"]);
}

/// The value of `--with-ns` that gives a container the host's pid namespace.
fn host_pids() -> String {
    format!("pid:/proc/{}/ns/pid", std::process::id())
}

/// The arguments of `ctr` that run a command as an exec with this id. The command has no spaces in
/// its arguments.
fn exec<'a>(exec_id: &'a str, id: &'a str, command: &'a str) -> Vec<&'a str> {
    [&["task", "exec", "--exec-id", exec_id, id], &*command.split(' ').collect::<Vec<_>>()].concat()
}

/// Runs a detached container from a configuration of the test's own. It has the namespaces of
/// `ctr run`, and in `rootfs` of the test's directory the image's tree with `/births`.
fn configured(containerd: &Containerd, id: &str, args: &[&str], edit: impl FnOnce(&mut Value)) {
    let namespaces = ["pid", "ipc", "uts", "mount", "network"].map(|kind| json!({ "type": kind }));
    let capabilities = ["CAP_SYS_ADMIN", "CAP_KILL"];
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "args": args,
            "env": ["PATH=/bin:/sbin:/usr/bin:/usr/sbin"],
            "cwd": "/",
            "user": { "uid": 0, "gid": 0 },
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
            },
        },
        "root": { "path": containerd.path("rootfs") },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" },
        ],
        "linux": {
            "namespaces": namespaces,
            "cgroupsPath": format!("/{}/{id}", containerd.namespace()),
            "resources": { "devices": [{ "allow": true, "access": "rwm" }] },
        },
    });
    copy_rootfs(&containerd.path("rootfs"));
    fs::copy(births_path(), containerd.path("rootfs/births")).expect("our directory is writable");
    edit(&mut config);
    let path = containerd.path("config.json").to_string_lossy().into_owned();
    fs::write(&path, config.to_string()).expect("our directory is writable");
    containerd.ctr(&["run", "--detach", "--runtime", RUNTIME, "--config", &path, id]).success();
}

/// Moves a process into the cgroup of a container, or into the root cgroup, in every hierarchy.
fn move_into(containerd: &Containerd, container: Option<&str>, pid: u64) {
    let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    let mut hierarchies: Vec<_> = hierarchies.map(|entry| entry.path()).collect();
    hierarchies.push("/sys/fs/cgroup".into());
    let mut moved = 0;
    for hierarchy in hierarchies {
        let cgroup = match container {
            Some(id) => hierarchy.join(containerd.namespace()).join(id),
            None => hierarchy,
        };
        let processes = cgroup.join("cgroup.procs");
        if processes.exists() {
            fs::write(processes, pid.to_string()).expect("root may move processes");
            moved += 1;
        }
    }
    assert!(moved > 0, "no cgroup of {container:?}");
}

/// What was reported of one process.
struct Life {
    /// The first event: a fork, a start or an exec.
    first: ObservedEvent,
    /// The types of its events, in order.
    kinds: Vec<String>,
    /// The arguments of its last image.
    args: Vec<String>,
    status: Option<u64>,
}

impl Life {
    fn pid(&self) -> Option<u64> {
        self.first.number("/process/pid")
    }

    fn parent_pid(&self) -> Option<u64> {
        self.first.number("/process/parent_pid")
    }

    fn origin(&self) -> &str {
        self.first.text("/origin")
    }

    fn exec_id(&self) -> &str {
        self.first.text("/containerd/exec_id")
    }

    /// Panics unless the process had exactly these events after `process.`, and this origin and
    /// exec id in its first.
    #[track_caller]
    fn assert_is(&self, kinds: &[&str], origin: &str, exec_id: &str) {
        assert_eq!(self.kinds, kinds, "{self:?}");
        assert_eq!((self.origin(), self.exec_id()), (origin, exec_id), "{self:?}");
    }
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |path| self.first.number(path).unwrap_or_default();
        write!(
            f,
            "{} of {}: {} {:?} from {} ({}), {:?}, {:?} with {:?}",
            number("/process/pid"),
            number("/process/parent_pid"),
            self.origin(),
            self.exec_id(),
            self.first.text("/source"),
            self.first.text("/grade"),
            self.args,
            self.kinds,
            self.status,
        )
    }
}

/// The reported processes of a container, in the order of their first events.
fn lives(events: &[ObservedEvent], id: &str) -> Vec<Life> {
    let mut lives: Vec<Life> = Vec::new();
    let mut known = BTreeMap::new();
    for event in events.iter().filter(|event| event.container() == id) {
        let Some(kind) = event.kind().strip_prefix("process.") else { continue };
        let entity = event.text("/process/entity_id").to_owned();
        let index = *known.entry(entity).or_insert_with(|| {
            let (kinds, args) = (Vec::new(), Vec::new());
            lives.push(Life { first: event.clone(), kinds, args, status: None });
            lives.len() - 1
        });
        let life = &mut lives[index];
        life.kinds.push(kind.to_owned());
        match kind {
            "exit" => life.status = event.number("/status"),
            "fork" | "start" | "exec" => {
                life.args = event.args().into_iter().map(str::to_owned).collect();
            }
            _ => {}
        }
        // Whatever a process does, it stays what it was.
        assert_eq!(event.at("/origin"), life.first.at("/origin"), "{event:?}\n{life:?}");
        let exec_ids = (event.at("/containerd/exec_id"), life.first.at("/containerd/exec_id"));
        assert_eq!(exec_ids.0, exec_ids.1, "{event:?}\n{life:?}");
    }
    lives
}

/// Kills and removes a container. Returns its processes: all of them, as its account balances.
fn end(containerd: &Containerd, subscriber: &Subscriber, id: &str) -> Vec<Life> {
    containerd.ctr(&["task", "kill", "--signal", "SIGKILL", id]);
    containerd.remove(id);
    let close = subscriber.wait_close(id);
    let (seen, delivered, lost) = account(&close);
    assert_eq!((seen, lost), (Some(delivered), Some(0)), "{close:?}");
    let events = subscriber.all();
    let gap = events.iter().find(|event| event.kind() == "observer.gap");
    assert!(gap.is_none(), "{gap:?}");
    lives(&events, id)
}

/// The only process that ended with this status.
#[track_caller]
fn ended_with(lives: &[Life], status: u64) -> &Life {
    let mut found = lives.iter().filter(|life| life.status == Some(status));
    match (found.next(), found.next()) {
        (Some(life), None) => life,
        (None, _) => panic!("no process ended with {status} in {lives:#?}"),
        (_, Some(_)) => panic!("more than one process ended with {status} in {lives:#?}"),
    }
}

/// The processes with these arguments in their last image, which have no spaces.
fn running<'a>(lives: &'a [Life], command: &str) -> Vec<&'a Life> {
    lives.iter().filter(|life| life.args.iter().eq(command.split(' '))).collect()
}
