//! No request waits for the runtime of another request (promise P3). This is tested by order: State
//! answers while the held call has not returned.

use std::{thread::JoinHandle, time::Duration};

use crate::harness::{Bundle, Failure, Hold, Node, Shim};

/// The limit for State: a hundred times what it takes.
const AT_ONCE: Duration = Duration::from_secs(2);

struct Held {
    hold: Hold,
    call: JoinHandle<Result<(), Failure>>,
}

impl Held {
    /// Holds `verb` and begins `call`, which waits in the runtime.
    fn begin(
        node: &Node,
        shim: &Shim,
        verb: &str,
        call: impl FnOnce(&crate::harness::Task) -> Result<(), Failure> + Send + 'static,
    ) -> Self {
        let hold = node.runtime().hold(verb);
        let call = shim.in_background(call);
        hold.wait_until_reached();
        Self { hold, call }
    }

    /// Lets the held call continue, once the checks during the hold are done.
    #[track_caller]
    fn end(self) -> Result<(), Failure> {
        assert!(!self.call.is_finished(), "the call was not held");
        self.hold.release();
        self.call.join().unwrap()
    }
}

/// A shim with one running container, and the bundle of a second container of the same pod.
fn pod(node: &Node) -> (Shim, Bundle, Bundle) {
    let [first, second] =
        ["one", "two"].map(|id| node.bundle(id).annotated("io.kubernetes.cri.sandbox-id", "pod"));
    let shim = node.shim(&first);
    shim.run(&first);
    (shim, first, second)
}

/// Check that requests for other containers are answered while a create hangs, and that a request
/// for the container in creation gets a "not found" error at once (containerd#13483).
#[test]
fn other_containers_are_answered_while_a_create_hangs() {
    let node = Node::new();
    let (shim, _, second) = pod(&node);
    let request = second.create();
    let held = Held::begin(&node, &shim, "create", move |task| task.create(&request).map(drop));
    let quick = shim.with_deadline(AT_ONCE);
    quick.state("one", "").unwrap();
    quick.pids("one").unwrap();
    quick.exec("one", "probe").unwrap();
    quick.start("one", "probe").unwrap();
    quick.kill("one", "probe", 9).unwrap();
    assert_eq!(quick.state("two", "").unwrap_err().message, "container not created: not found");
    held.end().unwrap();
    quick.state("two", "").unwrap();
}

/// Check that State, Wait and Kill are answered while a start hangs.
#[test]
fn a_container_answers_while_its_start_hangs() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.create(&bundle.create()).unwrap();
    let held = Held::begin(&node, &shim, "start", |task| task.start("web", "").map(drop));
    let quick = shim.with_deadline(AT_ONCE);
    quick.state("web", "").unwrap();
    quick.pids("web").unwrap();
    quick.kill("web", "", 0).unwrap();
    quick.connection("web").unwrap();
    held.end().unwrap();
}

/// Check that requests to a container are answered, and other execs start, while one exec is slow
/// to start.
#[test]
fn a_container_answers_while_an_exec_hangs() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    shim.exec("web", "slow").unwrap();
    let held = Held::begin(&node, &shim, "exec", |task| task.start("web", "slow").map(drop));
    let quick = shim.with_deadline(AT_ONCE);
    quick.state("web", "").unwrap();
    quick.state("web", "slow").unwrap();
    quick.exec("web", "other").unwrap();
    quick.pids("web").unwrap();
    quick.kill("web", "", 0).unwrap();
    held.end().unwrap();
}

/// Check that requests to a container are answered while its pause or its resume hangs.
#[test]
fn a_container_answers_while_pause_and_resume_hang() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    let quick = shim.with_deadline(AT_ONCE);
    let held = Held::begin(&node, &shim, "pause", |task| task.pause("web").map(drop));
    quick.state("web", "").unwrap();
    quick.pids("web").unwrap();
    held.end().unwrap();
    let held = Held::begin(&node, &shim, "resume", |task| task.resume("web").map(drop));
    quick.state("web", "").unwrap();
    quick.kill("web", "", 0).unwrap();
    held.end().unwrap();
}

/// Check that requests to a container, including another kill, are answered while a kill hangs.
#[test]
fn a_container_answers_while_a_kill_hangs() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    let held = Held::begin(&node, &shim, "kill", |task| task.kill("web", "", 0).map(drop));
    shim.with_deadline(AT_ONCE).state("web", "").unwrap();
    // An end during the hold is reported.
    let waiter = shim.in_background(|task| task.wait("web", ""));
    let init = shim.connection("web").unwrap().task_pid;
    crate::harness::Process::new(init).kill();
    assert_eq!(waiter.join().unwrap().unwrap().exit_status, 137);
    held.end().unwrap_err();
}

/// Check that requests to a container are answered while its update hangs (rust-extensions
/// 7259c1c).
#[test]
fn a_container_answers_while_an_update_hangs() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    let held = Held::begin(&node, &shim, "update", |task| task.update("web", "{}").map(drop));
    let quick = shim.with_deadline(AT_ONCE);
    quick.state("web", "").unwrap();
    quick.kill("web", "", 0).unwrap();
    quick.exec("web", "probe").unwrap();
    quick.start("web", "probe").unwrap();
    held.end().unwrap();
}

/// Check that requests to a container are answered while its delete hangs, and that a second delete
/// joins the first.
#[test]
fn a_container_answers_while_its_delete_hangs() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle).kill();
    shim.wait("web", "").unwrap();
    let held = Held::begin(&node, &shim, "delete", |task| task.delete("web", "").map(drop));
    let quick = shim.with_deadline(AT_ONCE);
    assert_eq!(quick.state("web", "").unwrap().exit_status, 137);
    assert_eq!(quick.wait("web", "").unwrap().exit_status, 137);
    let second = shim.in_background(|task| task.delete("web", ""));
    quick.state("web", "").unwrap();
    held.end().unwrap();
    assert_eq!(second.join().unwrap().unwrap().exit_status, 137);
    assert_eq!(node.runtime().calls("delete").len(), 1);
}

/// Check that requests that must wait for a pause are executed after it.
#[test]
fn requests_wait_their_turn_during_a_pause() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    let held = Held::begin(&node, &shim, "pause", |task| task.pause("web").map(drop));
    let update = shim.in_background(|task| task.update("web", "{}"));
    let resume = shim.in_background(|task| task.resume("web"));
    // This request is behind both on the same connection, so its answer shows that both arrived.
    shim.state("web", "").unwrap();
    assert!(!update.is_finished() && !resume.is_finished());
    assert_eq!(node.runtime().all_calls().last().unwrap().verb(), Some("pause"));
    held.end().unwrap();
    update.join().unwrap().unwrap();
    resume.join().unwrap().unwrap();
}

/// Check that a hanging create can be cancelled: Delete kills its runtime, and nothing is left.
#[test]
fn a_create_that_hangs_can_be_cancelled() {
    for by_kill in [false, true] {
        let node = Node::new();
        let bundle = node.bundle("web");
        let shim = node.shim(&bundle);
        let request = bundle.create();
        let held = Held::begin(&node, &shim, "create", move |task| task.create(&request).map(drop));
        let runtime = node.runtime().calls("create")[0].process();
        if by_kill {
            shim.kill("web", "", 9).unwrap();
        } else {
            shim.delete("web", "").unwrap();
        }
        held.call.join().unwrap().unwrap_err();
        assert!(!runtime.lives());
        assert_eq!(shim.state("web", "").unwrap_err().message, "container not created: not found");
        shim.shut_down();
        node.wait_until_empty();
    }
}
