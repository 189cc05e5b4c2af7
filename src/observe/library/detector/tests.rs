use std::time::Duration;

use super::{receivers::QUEUE_CAPACITY, *};
use crate::{
    model::Ended,
    observe::source::mock::{MockHandle, MockSource},
};

const TIMEOUT: Duration = Duration::from_secs(10);

fn detector() -> (Detector, Receivers, MockHandle) {
    let (source, script) = MockSource::new().unwrap();
    let (detector, receivers) = Detector::over(Box::new(source)).unwrap();
    detector.watch(Target::Tree { pid: 100 }, Flags::ALL).unwrap();
    (detector, receivers, script)
}

/// Check that a second exec is delivered as an exec of the known process, with its fork.
#[test]
fn a_second_exec_is_delivered_with_the_fork() {
    let (_detector, events, script) = detector();
    script.fork(100, 101);
    script.exec(101, &["sh", "-c", "exec true"]);
    script.exec(101, &["true"]);
    let received: Vec<ProcessEvent> =
        (0..3).map(|_| events.processes.recv_timeout(TIMEOUT).unwrap()).collect();
    let fork = received[0].fork.unwrap();
    assert_eq!((fork.parent_pid, fork.child.pid), (Some(100), 101));
    assert_eq!(
        received.iter().map(|event| event.exec.is_some()).collect::<Vec<_>>(),
        [false, true, true]
    );
    assert!(received.iter().all(|event| event.fork == Some(fork)));
    let args: Vec<&[u8]> = received[2].process.image.args.as_ref().unwrap().iter().collect();
    assert_eq!(args, [b"true"]);
}

/// Check that an exec is delivered without a fork if its fork was not observed.
#[test]
fn an_exec_without_a_fork_is_delivered_without_one() {
    let (_detector, events, script) = detector();
    script.exec(102, &["true"]);
    let received = events.processes.recv_timeout(TIMEOUT).unwrap();
    assert_eq!((received.fork, received.process.key.pid), (None, 102));
}

/// Check that only the selected events are delivered, and that losses and failures are errors.
#[test]
fn losses_and_failures_are_errors() {
    let (source, script) = MockSource::new().unwrap();
    let (detector, events) = Detector::over(Box::new(source)).unwrap();
    let exits = Flags { fork: false, exec: false, exit: true };
    detector.watch(Target::Tree { pid: 100 }, exits).unwrap();
    script.fork(100, 101);
    script.exit(101, 9);
    assert_eq!(events.exits.recv_timeout(TIMEOUT).unwrap().ended, Ended::Signal(9));
    assert!(events.processes.try_recv().is_err(), "neither forks nor execs were asked for");
    script.lose(3);
    assert!(matches!(
        events.errors.recv_timeout(TIMEOUT).unwrap(),
        DetectorError::Lost { lost: Some(3) }
    ));
    script.fail(SourceError::Gone { what: "the script" });
    assert!(matches!(events.errors.recv_timeout(TIMEOUT).unwrap(), DetectorError::Source(_)));
    // The thread has ended, or is about to.
    assert!(events.errors.recv_timeout(TIMEOUT).is_err());
    assert!(matches!(detector.unwatch(Target::Tree { pid: 100 }), Err(DetectorError::Closed)));
}

/// Check that a target is observed once, that a refusal of the source is returned to the caller,
/// and that closing twice has no effect.
#[test]
fn a_refusal_is_returned_to_the_caller() {
    let (detector, events, script) = detector();
    let again = detector.watch(Target::Tree { pid: 100 }, Flags::ALL);
    assert!(matches!(again, Err(DetectorError::Watched { .. })), "{again:?}");
    script.refuse_watch(SourceError::Full { what: "targets", limit: 1 });
    let refused = detector.watch(Target::Tree { pid: 200 }, Flags::ALL);
    assert!(matches!(refused, Err(DetectorError::Source(SourceError::Full { .. }))), "{refused:?}");
    detector.close();
    detector.close();
    assert!(events.processes.recv_timeout(TIMEOUT).is_err());
    assert!(matches!(
        detector.watch(Target::Tree { pid: 300 }, Flags::ALL),
        Err(DetectorError::Closed)
    ));
}

/// Check that a full receiver does not affect the others, and that the events it missed are
/// counted.
#[test]
fn a_full_receiver_counts_what_it_missed() {
    let (_detector, events, script) = detector();
    let count = 2 * i32::try_from(QUEUE_CAPACITY).unwrap();
    for pid in 1000..1000 + count {
        script.fork(100, pid);
    }
    script.exit(1000, 0);
    assert_eq!(events.exits.recv_timeout(TIMEOUT).unwrap().pid, 1000);
    assert_eq!(events.processes.try_iter().count(), QUEUE_CAPACITY);
    script.fork(100, 5000);
    assert!(events.processes.recv_timeout(TIMEOUT).is_ok());
    let missed = events.errors.recv_timeout(TIMEOUT).unwrap();
    assert!(matches!(missed, DetectorError::Full { missed: 1024, .. }), "{missed:?}");
}

mod root {
    use std::process::Command;

    use super::*;
    use crate::observe::source::{
        connector::{self, ConnectorSource},
        poll::PollSource,
    };

    /// Check that a tree of real processes is observed through a real source, the one that every
    /// kernel has.
    #[test]
    fn polling_observes_a_real_tree() {
        let (detector, events) =
            Detector::over(Box::new(PollSource::new(Duration::from_millis(50)))).unwrap();
        // The child lives long enough to be found after its exec even on a busy machine: polling
        // finds only what is alive when it scans.
        #[expect(clippy::disallowed_methods, reason = "a test has no reaper")]
        let mut child = Command::new("sh").args(["-c", "sleep 3 & wait"]).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        detector.watch(Target::Tree { pid }, Flags::ALL).unwrap();
        let is_sleep = |event: &ProcessEvent| {
            event
                .process
                .image
                .args
                .as_ref()
                .is_some_and(|args| args.iter().next() == Some(b"sleep"))
        };
        let sleep =
            std::iter::from_fn(|| events.processes.recv_timeout(TIMEOUT).ok()).find(is_sleep);
        let sleep = sleep.expect("the child of the tree's root");
        let mut done = std::iter::from_fn(|| events.done.recv_timeout(TIMEOUT).ok());
        assert!(done.any(|done| done.process.key == sleep.process.key));
        child.wait().unwrap();
    }

    /// Check that the proc connector reports exits with their status, through a listener of the
    /// test's own.
    #[test]
    fn the_connector_reports_a_real_exit() {
        let _alone = connector::tests::alone();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        let mut listeners = Vec::new();
        let mut spawn = || {
            let path = path.clone();
            listeners.push(std::thread::spawn(move || {
                connector::serve_until_idle(&path, Duration::from_millis(200))
            }));
            Ok(())
        };
        let source = ConnectorSource::connect(directory.path(), &mut spawn).unwrap();
        let (detector, events) = Detector::over(Box::new(source)).unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        detector.watch(Target::Tree { pid: me }, Flags::ALL).unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test has no reaper")]
        let mut child = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        child.wait().unwrap();
        let exit = std::iter::from_fn(|| events.exits.recv_timeout(TIMEOUT).ok())
            .find(|exit| exit.pid == pid);
        assert_eq!(exit.map(|exit| exit.status()), Some(7));
        drop(detector);
        // Joined, because a listener that ends with its process does not unsubscribe, and the
        // kernel would keep making events.
        listeners.into_iter().for_each(|listener| listener.join().unwrap().unwrap());
    }
}
