//! Streams without a reader, streams held open by other processes, and streams that break.

use std::{
    thread,
    time::{Duration, Instant},
};

use containerd_shim_protos::api::CreateTaskRequest;

use crate::harness::{Fifo, Node, Shim, deadline, exec_request};

/// How long the processor time of a shim is measured.
const WATCH: Duration = Duration::from_millis(600);

/// The most processor time in that period, in ticks of 10 ms: a busy loop would use 60.
const IDLE_TICKS: u64 = 6;

/// Asserts that an idle shim uses little processor time.
#[track_caller]
fn does_not_spin(shim: &Shim) {
    let before = shim.process.cpu_ticks();
    // A measurement needs a period of time; there is no event to wait for.
    thread::sleep(WATCH);
    let used = shim.process.cpu_ticks() - before;
    assert!(used <= IDLE_TICKS, "{used} ticks in {WATCH:?}");
}

/// Check that a background child that holds an exec's stdout does not delay the exec: it ends, is
/// deleted in bounded time, and later execs work (containerd#3286, containerd#7802).
#[test]
fn a_background_child_does_not_delay_the_end_of_an_exec() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    node.runtime().payload("probe", "echo output; sleep 600 & exit 4");
    let stdout = Fifo::make(node.path().join("out"));
    let reader = stdout.collect();
    let mut request = exec_request("web", "probe");
    request.stdout = stdout.name();
    shim.exec_with(&request).unwrap();
    shim.start("web", "probe").unwrap();
    assert_eq!(shim.wait("web", "probe").unwrap().exit_status, 4);
    let begin = Instant::now();
    shim.delete("web", "probe").unwrap();
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert_eq!(reader.text(), "output\n");
    request.stdout.clear();
    shim.exec_with(&request).unwrap();
    shim.start("web", "probe").unwrap();
}

/// Check that draining and deleting together take less than the ten seconds that a caller waits,
/// even if other processes hold the streams (containerd#13377).
#[test]
fn draining_leaves_time_to_delete() {
    let node = Node::new();
    let bundle = node.bundle("web").without_pid_namespace();
    let shim = node.shim(&bundle);
    node.runtime().payload("web", "sleep 600 & yes | head -c 200000");
    let stdout = Fifo::make(node.path().join("out"));
    shim.create(&CreateTaskRequest { stdout: stdout.name(), ..bundle.create() }).unwrap();
    shim.start("web", "").unwrap();
    // There is no reader, so the payload blocks. It is killed, and its background child holds the
    // pipe.
    shim.kill("web", "", 9).unwrap();
    shim.wait("web", "").unwrap();
    let begin = Instant::now();
    shim.delete("web", "").unwrap();
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

/// Check that a shim does not spin while its containers wait for their readers (conmon 2cf4dcd).
#[test]
fn a_full_fifo_does_not_make_the_shim_spin() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    node.runtime().payload("web", "yes");
    let stdout = Fifo::make(node.path().join("out"));
    shim.create(&CreateTaskRequest { stdout: stdout.name(), ..bundle.create() }).unwrap();
    let init = shim.start("web", "").unwrap().pid;
    let init = crate::harness::Process::new(init);
    let reads_nobody = || {
        init.command_line().first().is_some_and(|name| name == "sh") && init.state() == Some('S')
    };
    deadline::until("a container that waits", reads_nobody);
    does_not_spin(&shim);
    // The same while it drains output without a reader.
    shim.kill("web", "", 9).unwrap();
    shim.wait("web", "").unwrap();
    does_not_spin(&shim);
}

/// Check that a log fifo that lost its reader does not make the shim log about it endlessly
/// (rust-extensions#240).
#[test]
fn a_log_without_a_reader_does_not_make_the_shim_spin() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let log = Fifo::make(bundle.path.join("log"));
    let reader = log.open_for_reading();
    let shim = node.start_verb(&bundle).flag("-debug").shim();
    shim.run(&bundle);
    drop(reader);
    // Far more data than the fifo holds.
    for _ in 0..300 {
        shim.exec("web", "probe").unwrap();
        node.runtime().before("exec", "exit 1");
        if shim.start("web", "probe").is_ok() {
            shim.kill("web", "probe", 9).unwrap();
            shim.wait("web", "probe").unwrap();
        }
        shim.delete("web", "probe").unwrap();
    }
    does_not_spin(&shim);
    shim.remove("web");
}

/// Check that a client that closes its fifo during output loses the output but does not stop the
/// container.
#[test]
fn a_reader_that_leaves_does_not_stop_the_container() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let stdout = Fifo::make(node.path().join("out"));
    node.runtime().payload("web", "yes | head -c 40000; echo >&2; exit 0");
    shim.create(&CreateTaskRequest { stdout: stdout.name(), ..bundle.create() }).unwrap();
    drop(stdout.open_for_reading());
    shim.start("web", "").unwrap();
    assert_eq!(shim.wait("web", "").unwrap().exit_status, 0);
    assert_eq!(stdout.collect().bytes().len(), 40000);
}
