//! `seen == delivered + lost`.

use super::{super::tree::PROCESSES_MAX, *};

/// Check the account of a container with stages, copies, an injected process and a loss.
#[test]
fn seen_is_delivered_and_lost() {
    let mut script = Script::new();
    let mut records = 0;
    script.fork(SHIM, INIT);
    script.exec(INIT, SHIM, "/proc/self/exe", Some(true));
    script.exec(INIT, SHIM, "/bin/sh", Some(false));
    script.fork(INIT, 201);
    script.fork(INIT, 201);
    script.exit(201, 0);
    script.fork(900, 901);
    script.exec(901, 900, "/bin/bash", Some(false));
    script.exit(999, 0);
    records += 9;
    // The kernel saw 4 more that did not fit in its ring.
    script.end(Some((records + 4, 4)));
    let lines = script.lines();
    assert_eq!(lines.last().map(String::as_str), Some("container.close Some(8) 4 Some(4) 5"));
    assert!(lines.contains(&"process.exit 200 ? snapshot".to_owned()), "{lines:?}");
}

/// Check that processes beyond the limit become gaps, and that the account still holds.
#[test]
fn too_many_processes_are_a_gap() {
    let mut script = Script::running();
    let more = 3000;
    for number in 0..PROCESSES_MAX + more {
        script.fork(INIT, 1000 + i32::try_from(number).expect("small"));
        if number % 4096 == 0 {
            script.effects().retain(|effect| {
                !matches!(effect, Effect::Emit(Emission { body: Body::Fork(_), .. }))
            });
        }
    }
    script
        .effects()
        .retain(|effect| !matches!(effect, Effect::Emit(Emission { body: Body::Fork(_), .. })));
    let lines = script.lines();
    assert_eq!(
        lines,
        [
            "observer.gap Some(1) observer",
            "observer.gap Some(1024) observer",
            "observer.gap Some(1024) observer",
        ]
    );
    assert_eq!(script.tracker.snapshot(None).len(), PROCESSES_MAX);
    let records = 1 + u64::try_from(PROCESSES_MAX + more).expect("small");
    script.end(Some((records, 0)));
    let lines = script.lines();
    let kept = u64::try_from(PROCESSES_MAX).expect("small");
    assert_eq!(
        lines.last(),
        Some(&format!("container.close Some({records}) {kept} Some({}) 0", records - kept))
    );
}

/// Check that the account of a source that does not count has only the delivered events.
#[test]
fn a_source_that_does_not_count_has_no_seen() {
    let mut script = Script::running();
    script.end(None);
    assert_eq!(script.lines().last().map(String::as_str), Some("container.close None 1 None 0"));
}
