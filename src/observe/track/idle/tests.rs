use super::*;

const NONE: Connections = Connections { open: 0, changed_ns: 0 };

/// Check that it becomes idle once, and that each kind of activity ends that.
#[test]
fn it_is_idle_until_the_next_activity() {
    for cause in [Activity::Exec, Activity::Connection, Activity::Input] {
        let mut idle = Idleness::new(10, 100);
        assert_eq!((idle.due_ns(), idle.check(109, 0, NONE)), (Some(110), None));
        assert_eq!(idle.check(110, 0, NONE), Some(10));
        assert_eq!((idle.is_idle(), idle.due_ns(), idle.check(200, 0, NONE)), (true, None, None));
        assert_eq!(idle.note_activity(cause, 300), Some(cause));
        assert_eq!(idle.note_activity(cause, 301), None);
        assert_eq!((idle.is_idle(), idle.due_ns()), (false, Some(311)));
    }
}

/// Check that there is no deadline while an exec runs, and that its end sets one.
#[test]
fn a_running_exec_is_activity() {
    let mut idle = Idleness::new(10, 100);
    assert_eq!(idle.exec_started("e", 105), None);
    assert_eq!((idle.due_ns(), idle.check(500, 0, NONE)), (None, None));
    idle.exec_ended("another", 600);
    assert_eq!(idle.due_ns(), None);
    idle.exec_ended("e", 700);
    assert_eq!(idle.due_ns(), Some(710));
    assert_eq!(idle.check(710, 0, NONE), Some(10));
    assert_eq!(idle.exec_started("f", 800), Some(Activity::Exec));
}

/// Check that connections and input in between move the deadline, by as much as they were later.
#[test]
fn activity_in_between_moves_the_deadline() {
    let mut idle = Idleness::new(10, 100);
    assert_eq!(idle.check(110, 104, NONE), None);
    assert_eq!(idle.due_ns(), Some(114));
    assert_eq!(idle.check(114, 104, Connections { open: 0, changed_ns: 108 }), None);
    assert_eq!(idle.due_ns(), Some(118));
    assert_eq!(idle.check(118, 104, Connections { open: 1, changed_ns: 108 }), None);
    assert_eq!(idle.due_ns(), Some(128));
    assert_eq!(idle.check(130, 104, Connections { open: 0, changed_ns: 119 }), Some(11));
}
