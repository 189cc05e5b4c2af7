//! Cases of each rule, and random lives of processes.

mod account;
mod attribution;
mod calls;
mod cost;
mod done;
mod life;
mod memory;
mod random;
mod resync;

use std::sync::Arc;

use super::{Effect, Emission, Tracker};
use crate::{
    model::{Args, Body, Ended, FileId, Grade, Image, Lineage, ProcessId, ProcessKey, Stage},
    observe::record::{Record, ScanStep, TargetId, What},
};

const SHIM: i32 = 100;
const INIT: i32 = 200;
const HERE: TargetId = TargetId(7);
const PIPE: FileId = FileId { device: 1, inode: 77 };

/// A tracker with one container and a clock that ticks with each record.
struct Script {
    tracker: Tracker,
    now: u64,
    /// Taken from the tracker and not consumed: see [`Script::effects`].
    effects: Vec<Effect>,
}

impl Script {
    fn new() -> Self {
        let mut tracker = Tracker::new(SHIM);
        tracker.begin(HERE, Some(INIT));
        Self { tracker, now: 1000, effects: Vec::new() }
    }

    /// A script in which init has been reported already.
    fn running() -> Self {
        let mut script = Self::new();
        script.exec(INIT, SHIM, "/bin/sh", Some(false));
        assert_eq!(script.lines(), ["process.start 200 /bin/sh init"]);
        script
    }

    fn what(&mut self, pid: i32, what: What) {
        self.now += 1;
        self.at(self.now, pid, what);
    }

    fn at(&mut self, at_ns: u64, pid: i32, what: What) {
        let record = Record::Process {
            target: HERE,
            at_ns,
            grade: Grade::Exact,
            key: key(pid),
            provenance: None,
            what,
        };
        self.tracker.record(record);
    }

    fn scan(&mut self, step: ScanStep) {
        self.now += 1;
        self.tracker.record(Record::Scan { target: HERE, at_ns: self.now, step });
    }

    fn fork(&mut self, parent: i32, child: i32) {
        self.what(child, What::Fork(lineage(parent, 0)));
    }

    fn exec(&mut self, pid: i32, parent: i32, path: &str, in_host_mounts: Option<bool>) {
        self.what(pid, exec(lineage(parent, 0), path, in_host_mounts));
    }

    fn exit(&mut self, pid: i32, wait_status: u32) {
        self.what(pid, exit(Some(wait_status)));
    }

    fn lost(&mut self) {
        self.now += 1;
        let lost = Record::Lost {
            target: Some(HERE),
            at_ns: self.now,
            count: Some(3),
            stage: Stage::Kernel,
        };
        self.tracker.record(lost);
    }

    fn end(&mut self, seen_lost: Option<(u64, u64)>) {
        self.now += 1;
        self.tracker.end(HERE, seen_lost, self.now);
    }

    /// The effects that no assertion has consumed.
    fn effects(&mut self) -> &mut Vec<Effect> {
        self.effects.extend(self.tracker.take_effects());
        &mut self.effects
    }

    /// Answers each query about a reaped process with yes.
    fn reap(&mut self) {
        for effect in self.effects().clone() {
            if let Effect::QueryReaped { target, key } = effect {
                self.now += 1;
                self.tracker.confirm_reaped(target, key, self.now);
            }
        }
    }

    /// The effects since the last call, a line each.
    fn lines(&mut self) -> Vec<String> {
        self.effects().drain(..).map(|effect| line(&effect)).collect()
    }
}

fn line(effect: &Effect) -> String {
    match effect {
        Effect::QueryReaped { key, .. } => format!("reaped? {}", key.pid),
        Effect::QueryHolders { key, among, .. } => {
            let mut among: Vec<i32> = among.iter().map(|key| key.pid).collect();
            among.sort_unstable();
            format!("holders? {} {among:?}", key.pid)
        }
        Effect::Scan { .. } => "scan".to_owned(),
        Effect::Emit(Emission { grade, body, .. }) => {
            let name = body.type_name();
            let snapshot = if *grade == Grade::Snapshot { " snapshot" } else { "" };
            match body {
                Body::Exit { process, ended, oom_killed, .. } => {
                    let ended =
                        ended.map_or_else(|| "?".to_owned(), |ended| ended.status().to_string());
                    let oom = if *oom_killed { " oom" } else { "" };
                    format!("{name} {} {ended}{oom}{snapshot}", process.key.pid)
                }
                Body::Fork(process) | Body::Exec(process) | Body::Start(process) => {
                    let path = String::from_utf8_lossy(
                        process.image.executable.as_deref().unwrap_or(b"-"),
                    )
                    .into_owned();
                    let of =
                        process.exec_id.as_deref().map(|id| format!(" {id}")).unwrap_or_default();
                    format!(
                        "{name} {} {path} {}{of}{snapshot}",
                        process.key.pid,
                        process.origin.as_str()
                    )
                }
                Body::Held { process, holders, holders_count } => {
                    let holders: Vec<i32> = holders.iter().map(|parent| parent.key.pid).collect();
                    assert!(holders.len() == *holders_count as usize || holders.len() == 32);
                    format!("{name} {} {holders:?}", process.key.pid)
                }
                Body::Gap(gap) => format!("{name} {:?} {}", gap.lost, gap.stage.as_str()),
                Body::ContainerClose(counts) => {
                    format!(
                        "{name} {:?} {} {:?} {}",
                        counts.seen, counts.delivered, counts.lost, counts.runtime
                    )
                }
                other => format!("{name} {}", other.process().expect("of a process").key.pid),
            }
        }
    }
}

fn key(pid: i32) -> ProcessKey {
    ProcessKey::new(pid, 5000 + u64::try_from(pid).expect("positive"))
}

fn lineage(parent: i32, grandparent: i32) -> Lineage {
    Lineage {
        vpid: None,
        parent: (parent > 0).then(|| key(parent)),
        grandparent_pid: Some(grandparent).filter(|pid| *pid > 0),
    }
}

fn image(path: &str) -> Arc<Image> {
    let mut args = path.as_bytes().to_vec();
    args.push(0);
    let comm = path.rsplit('/').next().unwrap_or_default();
    Arc::new(Image {
        executable: Some(path.as_bytes().into()),
        args: Some(Args::from_nul_separated(&args)),
        comm: Some(comm.as_bytes().into()),
        ..Image::default()
    })
}

fn exec(lineage: Lineage, path: &str, in_host_mounts: Option<bool>) -> What {
    What::Exec { lineage, image: image(path), cgroup: None, in_host_mounts }
}

fn exit(wait_status: Option<u32>) -> What {
    What::Exit { wait_status, oom_killed: false, outputs: [None; 2] }
}

/// The first process of an exec.
fn of_exec(exec_id: &str) -> ProcessId {
    ProcessId::from_exec_id(exec_id)
}

fn exit_holding(wait_status: u32) -> What {
    What::Exit { wait_status: Some(wait_status), oom_killed: false, outputs: [Some(PIPE), None] }
}

fn alive(lineage: Lineage, path: &str) -> What {
    What::Alive { lineage, image: image(path), cgroup: None }
}
