//! No thread and no process can be made, because the pids cgroup of the shim is full; or a thread
//! hangs in a call.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use containerd_shim_protos::api::{CreateTaskRequest, Status};
use nix::sys::signal::Signal;

use super::disks::Delayed;
use crate::harness::{Bundle, Node, Process, Shim, deadline, exec_request};

/// The longest time for an answer that needs no disk and no new process.
const AT_ONCE: Duration = Duration::from_secs(1);

/// A pids cgroup with the shim in it. While it is [full](Self::fill), the shim can make neither a
/// thread nor a process.
struct PidsCgroup {
    path: PathBuf,
    /// The cgroup from which the shim came, and to which it returns.
    before: PathBuf,
}

impl PidsCgroup {
    /// Makes the cgroup, and allows no task more than the shim has.
    #[track_caller]
    fn full(shim: &Shim) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let before = pids_cgroup_of(shim.process);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = before.join(format!("lookout-full-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::write(path.join("cgroup.procs"), shim.process.pid.to_string()).unwrap();
        let cgroup = Self { path, before };
        cgroup.fill();
        cgroup
    }

    /// Allows no task more than there are, once those have ended that are made when they are
    /// needed.
    #[track_caller]
    fn fill(&self) {
        std::thread::sleep(Duration::from_secs(1));
        let current = fs::read_to_string(self.path.join("pids.current")).unwrap();
        fs::write(self.path.join("pids.max"), current).unwrap();
    }

    #[track_caller]
    fn lift(&self) {
        fs::write(self.path.join("pids.max"), "max").unwrap();
    }
}

impl Drop for PidsCgroup {
    fn drop(&mut self) {
        deadline::until("the removal of the cgroup", || {
            let members = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
            for member in members.lines() {
                let _ = fs::write(self.before.join("cgroup.procs"), member);
            }
            fs::remove_dir(&self.path).is_ok()
        });
    }
}

/// The directory of the cgroup of a process in the hierarchy with the pids controller.
fn pids_cgroup_of(process: Process) -> PathBuf {
    let memberships = fs::read_to_string(format!("/proc/{}/cgroup", process.pid)).unwrap();
    let member = |controller: &str| {
        memberships.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            fields.next()?.split(',').any(|name| name == controller).then(|| fields.next())?
        })
    };
    let (path, roots): (_, &[&str]) = match member("pids") {
        Some(path) => (path, &["/sys/fs/cgroup/pids"]),
        None => (member("").unwrap(), &["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]),
    };
    let below = path.trim_start_matches('/');
    let mut found = roots.iter().map(|root| Path::new(root).join(below));
    found.find(|path| path.join("cgroup.procs").exists()).expect("the pids controller is mounted")
}

/// A request to create the container with its output in a file.
fn logged_to(bundle: &Bundle, log: &Path) -> CreateTaskRequest {
    CreateTaskRequest { stdout: format!("file://{}", log.display()), ..bundle.create() }
}

#[track_caller]
fn answers_at_once<T>(what: &str, call: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let answer = call();
    assert!(begun.elapsed() < AT_ONCE, "{what}: {:?}", begun.elapsed());
    answer
}

/// Check that kill, exit, State, Pids and Stats work while no process and no thread can be made,
/// and that an exec and a delete that need the runtime fail at once, name what is lacking, and
/// succeed when they are repeated.
#[test]
fn a_container_ends_although_no_task_can_be_made() {
    let node = Node::new();
    let bundle = node.runc_bundle("web", "exec sleep 600");
    let daemon = node.daemon();
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    shim.exec("web", "probe").unwrap();
    let cgroup = PidsCgroup::full(&shim);
    let failure = answers_at_once("start of an exec", || shim.start("web", "probe").unwrap_err());
    assert!(failure.message.contains("Resource temporarily unavailable"), "{failure:?}");
    let listed = answers_at_once("Pids", || shim.pids("web").unwrap());
    assert_eq!(listed.processes.len(), 1);
    answers_at_once("Stats", || shim.stats("web").unwrap());
    let state = answers_at_once("State", || shim.state("web", "").unwrap());
    assert_eq!(state.status.enum_value(), Ok(Status::RUNNING));
    cgroup.lift();
    // What has failed for want of a process is right when it is repeated.
    let exec = Process::new(shim.start("web", "probe").unwrap().pid);
    cgroup.fill();
    answers_at_once("Kill", || shim.kill("web", "", 9).unwrap());
    let exit = answers_at_once("the exit", || shim.wait("web", "").unwrap());
    assert_eq!(exit.exit_status, 137);
    assert!(!exec.lives());
    daemon.wait_for("exit web web 137");
    assert_eq!(shim.kill("web", "", 9).unwrap_err().message, "process already finished: not found");
    let failure = answers_at_once("Delete", || shim.delete("web", "").unwrap_err());
    assert!(failure.message.contains("Resource temporarily unavailable"), "{failure:?}");
    cgroup.lift();
    assert_eq!(shim.delete("web", "").unwrap().exit_status, 137);
    daemon.wait_for("delete web 137");
}

/// Check that a signal to all processes needs no runtime either.
#[test]
fn all_processes_are_signalled_although_no_task_can_be_made() {
    let node = Node::new();
    let bundle = node.runc_bundle("web", "sleep 600 & sleep 600 & wait");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    deadline::until("three processes", || shim.pids("web").unwrap().processes.len() == 3);
    let cgroup = PidsCgroup::full(&shim);
    answers_at_once("Kill", || shim.kill_all("web", 9).unwrap());
    assert_eq!(shim.wait("web", "").unwrap().exit_status, 137);
    cgroup.lift();
    shim.delete("web", "").unwrap();
}

/// Check that a delete that the runtime refuses changes nothing: a container that was not started
/// can still be started, with its streams.
#[test]
fn a_delete_that_fails_leaves_the_container_as_it_was() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let stdout = crate::harness::Fifo::make(node.path().join("out"));
    node.runtime().payload("web", "echo hello");
    shim.create(&CreateTaskRequest { stdout: stdout.name(), ..bundle.create() }).unwrap();
    node.runtime().before("delete", "fail no");
    let failure = shim.delete("web", "").unwrap_err();
    assert!(failure.message.contains("no"), "{failure:?}");
    node.runtime().reset("delete");
    let output = stdout.collect();
    shim.start("web", "").unwrap();
    assert_eq!(shim.wait("web", "").unwrap().exit_status, 0);
    shim.delete("web", "").unwrap();
    assert_eq!(output.text(), "hello\n");
}

/// Check that a create that can make no process fails at once and frees its id, and that an exec
/// with a log file never stays between its states.
#[test]
fn nothing_stays_half_begun_when_no_task_can_be_made() {
    let node = Node::new();
    let [web, other] =
        ["web", "other"].map(|id| node.bundle(id).annotated("io.containerd.runc.v2.group", "pod"));
    let shim = node.shim(&web);
    let init = shim.run(&web);
    let log = node.path().join("exec.log");
    let mut exec = exec_request("web", "probe");
    exec.stdout = format!("file://{}", log.display());
    shim.exec_with(&exec).unwrap();
    let cgroup = PidsCgroup::full(&shim);
    let failed = answers_at_once("Start", || shim.start("web", "probe").unwrap_err());
    assert!(failed.message.contains("Resource temporarily unavailable"), "{failed:?}");
    let state = shim.state("web", "probe").unwrap();
    assert_eq!(state.status.enum_value(), Ok(Status::CREATED));
    let create = logged_to(&other, &node.path().join("other.log"));
    let failed = answers_at_once("Create", || shim.create(&create).unwrap_err());
    assert!(failed.message.contains("Resource temporarily unavailable"), "{failed:?}");
    init.kill();
    assert_eq!(answers_at_once("the exit", || shim.wait("web", "").unwrap()).exit_status, 137);
    cgroup.lift();
    shim.create(&create).expect("the id is free");
}

/// Check that a log file receives each line that is written while no thread can be made, also after
/// a pause.
#[test]
fn a_log_is_complete_although_no_thread_can_be_made() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let go = crate::harness::Fifo::make(node.path().join("go"));
    // A read that begins before the writer has closed its end finds the end of the fifo.
    node.runtime()
        .payload("web", &format!("while :; do read -r line <{} && echo $line; done", go.name()));
    let log = node.path().join("log");
    shim.create(&logged_to(&bundle, &log)).unwrap();
    shim.start("web", "").unwrap();
    let mut expected = String::new();
    let mut write = |line: &str| {
        expected.push_str(line);
        expected.push('\n');
        go.send(format!("{line}\n").as_bytes());
        deadline::until(line, || fs::read_to_string(&log).is_ok_and(|text| text == expected));
    };
    write("before");
    let cgroup = PidsCgroup::full(&shim);
    write("during");
    cgroup.lift();
    write("after");
}

/// Check that log files on a disk that hangs delay neither the exit, Pids and Stats of another
/// container of the pod, nor its log.
#[test]
fn a_log_on_a_disk_that_hangs_delays_no_other_container() {
    let node = Node::new();
    let pod = "io.containerd.runc.v2.group";
    let quick = node.runc_bundle("quick", "echo quick; exec sleep 600").annotated(pod, "pod");
    let slow: Vec<_> =
        (0..6).map(|n| node.bundle(&format!("slow{n}")).annotated(pod, "pod")).collect();
    let shim = node.shim(&quick);
    let log_of = |bundle: &Bundle| node.path().join(format!("{}.log", bundle.id));
    let logs: Vec<_> = slow.iter().map(log_of).collect();
    for (bundle, log) in slow.iter().zip(&logs) {
        node.runtime().payload(&bundle.id, "while :; do echo line; sleep 0.1; done");
        shim.create(&logged_to(bundle, log)).unwrap();
        shim.start(&bundle.id, "").unwrap();
        deadline::until("a line", || fs::metadata(log).is_ok_and(|log| log.len() > 0));
    }
    let _hung = Delayed::writes(shim.process, &logs);
    // Each of them hangs in a write now.
    std::thread::sleep(AT_ONCE);
    let begun = Instant::now();
    let log = log_of(&quick);
    shim.create(&logged_to(&quick, &log)).unwrap();
    shim.start("quick", "").unwrap();
    deadline::until("its line", || fs::read_to_string(&log).is_ok_and(|text| text == "quick\n"));
    assert_eq!(shim.pids("quick").unwrap().processes.len(), 1);
    shim.stats("quick").unwrap();
    shim.kill("quick", "", 9).unwrap();
    assert_eq!(shim.wait("quick", "").unwrap().exit_status, 137);
    // strace stops each system call of the shim, so this takes longer than without it.
    assert!(begun.elapsed() < Delayed::WRITE, "{:?}", begun.elapsed());
    let unchanged = logs.iter().map(|log| fs::metadata(log).unwrap().len());
    assert!(unchanged.sum::<u64>() < 40 * 6, "the writes did not hang");
}

/// Check that init's exit is reported although an exec lives on that could not be killed, and that
/// the exec's own exit is reported later.
#[test]
fn an_exec_that_lives_on_does_not_withhold_the_exit_of_init() {
    let node = Node::new();
    let bundle = node.bundle("web").without_pid_namespace();
    let daemon = node.daemon();
    let shim = node.shim(&bundle);
    let init = shim.run(&bundle);
    let exec = shim.run_exec("web", "probe");
    node.runtime().before("kill", "fail no");
    let begun = Instant::now();
    init.kill();
    assert_eq!(shim.wait("web", "").unwrap().exit_status, 137);
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    let state = shim.state("web", "probe").unwrap();
    assert_eq!(state.status.enum_value(), Ok(Status::RUNNING));
    exec.signal(Signal::SIGTERM);
    assert_eq!(shim.wait("web", "probe").unwrap().exit_status, 143);
    daemon.wait_for("exit web probe 143");
}

/// Check that init's exit is reported when the runtime hangs in its kill of what init left behind.
#[test]
fn a_runtime_that_hangs_does_not_withhold_the_exit_of_init() {
    let node = Node::new();
    let bundle = node.bundle("web").without_pid_namespace();
    let shim = node.shim(&bundle);
    let init = shim.run(&bundle);
    let _hold = node.runtime().hold("kill");
    let begun = Instant::now();
    init.kill();
    assert_eq!(shim.wait("web", "").unwrap().exit_status, 137);
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
}

/// Check that a client that kills a container gets it killed although the runtime hangs.
#[test]
fn a_kill_succeeds_although_the_runtime_hangs() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    let _hold = node.runtime().hold("kill");
    shim.kill("web", "", 9).unwrap();
    assert_eq!(shim.wait("web", "").unwrap().exit_status, 137);
}

/// Check that when the exit of an init in a pid namespace that it shares is reported, the processes
/// that it left behind are dead (`TestContainerKillInitPidHost` of containerd).
#[test]
fn what_init_left_behind_is_dead_when_its_exit_is_reported() {
    let node = Node::new();
    let bundle = node
        .runc_bundle("web", "for i in 1 2 3 4 5 6 7 8; do sleep 600 & done; wait")
        .without_pid_namespace();
    let shim = node.shim(&bundle);
    for _ in 0..10 {
        shim.run(&bundle);
        let members = || -> Vec<Process> {
            let listed = shim.pids("web").unwrap().processes;
            listed.into_iter().map(|process| Process::new(process.pid)).collect()
        };
        deadline::until("nine processes", || members().len() == 9);
        let members = members();
        shim.kill("web", "", 9).unwrap();
        shim.wait("web", "").unwrap();
        let left: Vec<_> = members.into_iter().filter(|process| process.lives()).collect();
        assert!(left.is_empty(), "{left:?}");
        shim.delete("web", "").unwrap();
    }
}
