//! No request waits for another's runtime (promise P3), told by order: State answers while the held
//! call has not returned.

use std::{thread::JoinHandle, time::Duration};

use crate::harness::{Bundle, Failure, Hold, Node, Shim};

/// What State may take: a hundred times what it takes.
const AT_ONCE: Duration = Duration::from_secs(2);

struct Held {
    hold: Hold,
    call: JoinHandle<Result<(), Failure>>,
}

impl Held {
    /// Holds `verb` and begins `call`, which gets as far as the runtime.
    fn begin(
        node: &Node,
        shim: &Shim,
        verb: &str,
        call: impl FnOnce(&crate::harness::Task) -> Result<(), Failure> + Send + 'static,
    ) -> Self {
        let hold = node.runtime().hold(verb);
        let call = shim.beside(call);
        hold.reached();
        Self { hold, call }
    }

    /// Lets it go on, after what was looked at meanwhile.
    #[track_caller]
    fn end(self) -> Result<(), Failure> {
        assert!(!self.call.is_finished(), "the call was not held");
        self.hold.release();
        self.call.join().unwrap()
    }
}

/// A shim with one running container, and one of the same pod that is only prepared.
fn pod(node: &Node) -> (Shim, Bundle, Bundle) {
    let [first, second] =
        ["one", "two"].map(|id| node.bundle(id).annotated("io.kubernetes.cri.sandbox-id", "pod"));
    let shim = node.shim(&first);
    shim.run(&first);
    (shim, first, second)
}

/// Check that a slow create keeps nobody from the other containers, nor from the answer that it is
/// not there yet (containerd#13483).
#[test]
fn others_are_answered_while_a_create_hangs() {
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

/// Check that State, Wait's client and Kill are answered while start hangs.
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

/// Check that a container answers, and takes other execs, while one of them is slow to start.
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

/// Check that a container answers while its pause and its resume hang.
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

/// Check that a container answers while a kill hangs, and takes another.
#[test]
fn a_container_answers_while_a_kill_hangs() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    let held = Held::begin(&node, &shim, "kill", |task| task.kill("web", "", 0).map(drop));
    shim.with_deadline(AT_ONCE).state("web", "").unwrap();
    // A container that ends by itself meanwhile is told about.
    let waiter = shim.beside(|task| task.wait("web", ""));
    let init = shim.connection("web").unwrap().task_pid;
    crate::harness::Process::new(init).kill();
    assert_eq!(waiter.join().unwrap().unwrap().exit_status, 137);
    held.end().unwrap_err();
}

/// Check that a container answers while its update hangs (rust-extensions 7259c1c).
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

/// Check that a container answers while its delete hangs, and that a second delete joins the first.
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
    let second = shim.beside(|task| task.delete("web", ""));
    quick.state("web", "").unwrap();
    held.end().unwrap();
    assert_eq!(second.join().unwrap().unwrap().exit_status, 137);
    assert_eq!(node.runtime().calls("delete").len(), 1);
}

/// Check that requests that must wait for a pause are done after it.
#[test]
fn requests_wait_their_turn_during_a_pause() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    let held = Held::begin(&node, &shim, "pause", |task| task.pause("web").map(drop));
    let update = shim.beside(|task| task.update("web", "{}"));
    let resume = shim.beside(|task| task.resume("web"));
    // Behind both on the same connection.
    shim.state("web", "").unwrap();
    assert!(!update.is_finished() && !resume.is_finished());
    assert_eq!(node.runtime().all_calls().last().unwrap().verb(), Some("pause"));
    held.end().unwrap();
    update.join().unwrap().unwrap();
    resume.join().unwrap().unwrap();
}

/// Check that a create that hangs can be given up: Delete ends its runtime, and nothing is left.
#[test]
fn a_create_that_hangs_can_be_given_up() {
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
        node.is_deserted();
    }
}
