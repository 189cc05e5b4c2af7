//! What a container can cost the node and the other containers.

use std::{
    fs,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{kill_and_remove, sources::lock_connector};
use crate::harness::{
    Node, Process,
    containerd::{Containerd, Program, Version},
    tools::tool,
};

/// The pid of a shim's observer thread.
fn observer_of(shim: u64) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{shim}/task")).expect("the shim runs");
    let mut names = tasks.flatten().map(|task| task.file_name());
    let name = |task: &std::ffi::OsString| {
        fs::read_to_string(format!("/proc/{shim}/task/{}/comm", task.display())).unwrap_or_default()
    };
    let found = names.find(|task| name(task).trim() == "observe").expect("an observer");
    found.to_str().expect("a number").parse().expect("a number")
}

/// The CPU time of a thread in clock ticks, and whether its scheduling class is a real-time one.
fn use_of(shim: u64, thread: u64) -> (u64, bool) {
    let stat = fs::read_to_string(format!("/proc/{shim}/task/{thread}/stat")).expect("it runs");
    // After the name, which ends with the last bracket: state is field 3, utime 14, stime 15,
    // policy 41 (proc_pid_stat(5)).
    let fields: Vec<&str> = stat[stat.rfind(')').expect("a name") + 2..].split(' ').collect();
    let field = |number: usize| fields[number - 3].parse::<u64>().expect("a number");
    (field(14) + field(15), field(41) != 0)
}

/// Check that the observer uses little of a CPU at raised priority, whatever a container makes it
/// search: 100 exits, each of a process with 700 descendants that have 100 descriptors each.
#[test]
fn a_container_with_many_descriptors_does_not_take_the_processor() {
    let containerd = Containerd::start(Version::V1_7);
    let subscriber = containerd.subscribe();
    let hoard = tool("storm/bin/hoard").display().to_string();
    let mount = format!("type=bind,src={hoard},dst=/hoard,options=rbind:ro");
    containerd.detached("c", &["--mount", &mount], &["/hoard", "100", "700", "100"]);
    let shim = subscriber.wait_run(&["/hoard", "100", "700", "100"]);
    let shim = shim.number("/process/parent_pid").expect("the shim is init's parent");
    let observer = observer_of(shim);
    let exits = || subscriber.count(|event| event.kind() == "process.exit");
    let (began, mut samples) = (Instant::now(), vec![]);
    while exits() < 100 || samples.len() < 200 {
        assert!(began.elapsed() < Duration::from_secs(60), "{} exits", exits());
        samples.push((Instant::now(), use_of(shim, observer)));
        thread::sleep(Duration::from_millis(20));
    }
    // The ticks between two samples count if the priority was raised at either.
    let raised = |pair: &[(Instant, (u64, bool))]| match (pair[0].1, pair[1].1) {
        ((_, false), (_, false)) => 0,
        ((before, _), (after, _)) => after - before,
    };
    let most = (0..samples.len())
        .map(|first| {
            let until = samples[first].0 + Duration::from_secs(1);
            let second = samples[first..].iter().take_while(|(at, _)| *at <= until).count();
            samples[first..first + second].windows(2).map(raised).sum::<u64>()
        })
        .max();
    // A hundred ticks are a second.
    assert!(most.is_some_and(|most| most <= 20), "{most:?} ticks of a second at raised priority");
    // The output of each is held by its descendants, and the search has found them.
    let done = subscriber.count(|event| event.kind() == "process.done");
    assert_eq!(done, 0, "a process is done although its descendants hold its output");
    let close = kill_and_remove(&containerd, &subscriber, "c");
    assert_eq!(close.number("/lost"), Some(0), "{close:?}");
    drop(subscriber);
    containerd.assert_nothing_left();
}

/// Check that the listener of the proc connector does not use a CPU while it can accept no
/// connection, and accepts again when it can.
#[test]
fn a_listener_without_descriptors_waits() {
    let containerd = Containerd::start_configured(Version::V1_7, "source = \"connector\"\n");
    let _alone = lock_connector(&containerd);
    let subscriber = containerd.subscribe();
    containerd.detached("c", &[], &["sleep", "1000"]);
    subscriber.wait_run(&["sleep", "1000"]);
    let listener = Process::all()
        .into_iter()
        .find(|process| {
            let is_verb = |word: &String| word == "listen-connector";
            let runtime = format!("LOOKOUT_RUNTIME_DIR={}", containerd.path("lookout").display());
            process.command_line().iter().any(is_verb) && process.environ().contains(&runtime)
        })
        .expect("a listener");
    let open = fs::read_dir(format!("/proc/{}/fd", listener.pid)).expect("it lives").count();
    let limit = |number: &str| {
        let mut command = Command::new("prlimit");
        command.args(["--pid", &listener.pid.to_string(), &format!("--nofile={number}:1024")]);
        Program::new(command).run().success();
    };
    limit(&open.to_string());
    let before = listener.cpu_ticks();
    let other = containerd.run("d", &["--rm"], &["true", "other"]).spawn();
    thread::sleep(Duration::from_secs(1));
    let used = listener.cpu_ticks() - before;
    limit("1024");
    assert!(used < 20, "{used} ticks of a second");
    other.wait().success();
    kill_and_remove(&containerd, &subscriber, "c");
    drop(subscriber);
    containerd.assert_nothing_left();
}

/// Check that a container takes no process that a runtime makes for another one: eight containers
/// are made while 300 of a pod are, which have no cgroup of their own, so that the cgroup of the
/// first encloses everything that this test makes.
#[test]
fn a_container_takes_no_process_that_is_made_for_another() {
    let containerd = Containerd::start(Version::V2_1);
    let subscriber = containerd.subscribe();
    let node = Node::new();
    let bundles: Vec<_> = (0..300)
        .map(|number| {
            node.bundle(&format!("c{number}")).annotated("io.kubernetes.cri.sandbox-id", "pod")
        })
        .collect();
    let shim = node.shim(&bundles[0]);
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for bundle in bundles.iter().take_while(|_| !ended.load(Ordering::Relaxed)) {
                shim.run(bundle);
            }
        });
        for number in 0..8 {
            let (id, script) = (format!("real{number}"), format!("sleep 1000 # {number}"));
            containerd.detached(&id, &[], &["sh", "-c", &script]);
            subscriber.wait(Duration::from_secs(5), "its program", |event| {
                event.container() == id && event.runs(&["sh", "-c", &script])
            });
            containerd.remove(&id);
        }
        ended.store(true, Ordering::Relaxed);
    });
}
