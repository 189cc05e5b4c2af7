//! Which processes are the user's, and which are stages of the runtime.

use super::*;
use crate::observe::record::CallId;

/// Check that the runtime's stages are not reported and that init's first exec in its own mounts is
/// the first event.
#[test]
fn the_first_reported_process_is_the_users() {
    let mut script = Script::new();
    script.fork(150, INIT);
    script.exec(INIT, 150, "/proc/self/exe", Some(true));
    script.fork(INIT, 201);
    script.exit(201, 0);
    script.exec(INIT, SHIM, "/bin/sh", Some(false));
    assert_eq!(script.lines(), ["process.start 200 /bin/sh init"]);
}

/// Check that a process that the runtime runs before the user's program is not reported, even in
/// the container's mounts.
#[test]
fn a_hook_of_the_runtime_is_not_reported() {
    let mut script = Script::new();
    script.fork(SHIM, INIT);
    script.fork(INIT, 201);
    script.exec(201, INIT, "/hook", Some(false));
    script.exit(201, 0);
    assert!(script.lines().is_empty());
}

/// Check that the first event of an exec's process has the exec id, and that a child of the runtime
/// that it has not reported gets none: the process of an exec can make one with CLONE_PARENT.
#[test]
fn an_exec_has_its_id_at_its_first_event() {
    let call = CallId(1);
    let mut script = Script::running();
    script.tracker.call_began(HERE, call, Some("probe".into()), script.now);
    script.tracker.runtime_exec(HERE, &"probe".into(), 300);
    script.fork(300, 301);
    script.exec(301, 300, "/proc/self/exe", Some(true));
    script.exec(302, 301, "/bin/id", Some(false));
    script.exec(303, 300, "/impostor", Some(false));
    assert!(script.lines().is_empty());
    script.tracker.exec_started(HERE, &"probe".into(), 302);
    script.tracker.call_ended(HERE, call);
    script.fork(302, 304);
    assert_eq!(
        script.lines(),
        [
            "process.start 302 /bin/id exec probe",
            "process.exec 303 /impostor unknown",
            "process.fork 304 /bin/id descendant probe",
        ]
    );
}

/// Check that a child of the shim gets no exec's id by guessing, although only one exec is being
/// started: a container can make such a child. The pid that the runtime reports decides.
#[test]
fn a_child_of_the_shim_is_not_taken_for_the_exec_that_starts() {
    let mut script = Script::running();
    script.tracker.runtime_exec(HERE, &"probe".into(), 300);
    script.exec(301, SHIM, "/impostor", Some(false));
    script.exec(302, SHIM, "/bin/sh", Some(false));
    script.tracker.exec_started(HERE, &"probe".into(), 302);
    script.exec(302, SHIM, "/bin/id", Some(false));
    assert_eq!(
        script.lines(),
        [
            "process.exec 301 /impostor unknown",
            "process.exec 302 /bin/sh unknown",
            "process.exec 302 /bin/id exec probe",
        ]
    );
}

/// Check that the process of an exec has its id at its first event although the runtime has left it
/// to the shim before, because its records wait while the runtime may still report it; and that
/// another child of the shim, which waits as well, gets no id.
#[test]
fn a_child_of_the_shim_waits_while_an_exec_starts() {
    let call = CallId(1);
    let mut script = Script::running();
    script.tracker.call_began(HERE, call, Some("probe".into()), script.now);
    script.tracker.runtime_exec(HERE, &"probe".into(), 300);
    script.exec(302, SHIM, "/bin/id", Some(false));
    script.fork(302, 303);
    script.exit(302, 0);
    script.exec(301, SHIM, "/impostor", Some(false));
    assert!(script.lines().is_empty());
    script.tracker.exec_started(HERE, &"probe".into(), 302);
    script.tracker.call_ended(HERE, call);
    assert_eq!(
        script.lines(),
        [
            "process.start 302 /bin/id exec probe",
            "process.fork 303 /bin/id descendant probe",
            "process.exit 302 0",
            "exec.left 302",
            "reaped? 302",
            "process.exec 301 /impostor unknown",
        ]
    );
    script.end(None);
    assert_eq!(script.lines().last().unwrap(), "container.close None 5 None 0");
}

/// Check that the first scan that finds the process of an exec, before the runtime has reported it,
/// does not report it, and that the end of the call requests another scan.
#[test]
fn a_scan_during_a_call_leaves_out_the_shims_children() {
    let call = CallId(1);
    let mut script = Script::running();
    let scan = |script: &mut Script| {
        script.scan(ScanStep::Began);
        for (pid, path) in [(INIT, "/bin/sh"), (302, "/bin/id")] {
            let what = What::Alive { lineage: lineage(SHIM, 0), image: image(path), cgroup: None };
            script.what(pid, what);
        }
        script.scan(ScanStep::Ended);
    };
    script.tracker.call_began(HERE, call, Some("probe".into()), script.now);
    scan(&mut script);
    assert!(script.lines().is_empty());
    script.tracker.exec_started(HERE, &"probe".into(), 302);
    script.tracker.call_ended(HERE, call);
    assert_eq!(script.lines(), ["scan"]);
    scan(&mut script);
    assert_eq!(script.lines(), ["process.start 302 /bin/id exec probe snapshot"]);
}

/// Check that an exec id that is known late is in the later events, those of descendants too.
#[test]
fn a_late_exec_id_is_on_later_events() {
    let mut script = Script::running();
    script.exec(302, SHIM, "/bin/sh", Some(false));
    script.fork(302, 303);
    script.tracker.exec_started(HERE, &"late".into(), 302);
    script.exec(303, 302, "/bin/id", Some(false));
    script.exec(302, SHIM, "/bin/ls", Some(false));
    assert_eq!(
        script.lines(),
        [
            "process.exec 302 /bin/sh unknown",
            "process.fork 303 /bin/sh unknown",
            "process.start 303 /bin/id descendant late",
            "process.exec 302 /bin/ls exec late",
        ]
    );
}

/// Check that without provenance the origin of a process with a parent outside is unknown, because
/// it may be one that another container has moved, and so is that of its children; and that it is
/// not reported until it calls execve(2).
#[test]
fn a_process_with_a_parent_outside_is_of_unknown_origin() {
    let mut script = Script::running();
    script.fork(900, 901);
    assert!(script.lines().is_empty());
    script.exec(901, 900, "/bin/bash", Some(false));
    script.fork(901, 902);
    assert_eq!(
        script.lines(),
        ["process.start 901 /bin/bash unknown", "process.fork 902 /bin/bash unknown"]
    );
}

/// Check that without a view of mounts the runtime's stages are known by their image and parent
/// while the runtime makes a process, and that init is what the runtime has reported.
#[test]
fn without_mounts_stages_are_known_by_image_and_parent() {
    let mut script = Script::new();
    script.tracker.set_runtime_path(HERE, b"/usr/sbin/crun");
    script.exec(INIT, SHIM, "/bin/sh", None);
    assert_eq!(script.lines(), ["process.start 200 /bin/sh init"]);
    script.tracker.runtime_exec(HERE, &"probe".into(), 300);
    script.exec(301, 300, "/usr/sbin/crun", None);
    script.exec(301, 300, "/memfd:runc_cloned:/proc/self/exe", None);
    script.what(301, runc_init(lineage(300, 1)));
    assert!(script.lines().is_empty());
    script.tracker.exec_started(HERE, &"probe".into(), 301);
    script.exec(301, 300, "/bin/id", None);
    assert_eq!(script.lines(), ["process.start 301 /bin/id exec probe"]);
    // The process is known now, so no other process is a stage.
    script.what(302, runc_init(lineage(SHIM, 1)));
    assert_eq!(script.lines(), ["process.exec 302 /usr/bin/runc unknown"]);
}

/// Check that a container with a program that calls itself `runc init` is reported, whether an exec
/// or a scan shows it.
#[test]
fn an_init_that_calls_itself_runc_is_reported() {
    let mut script = Script::new();
    script.what(INIT, runc_init(lineage(SHIM, 1)));
    assert_eq!(script.lines(), ["process.start 200 /usr/bin/runc init"]);
    let mut script = Script::new();
    let What::Exec { lineage, image, .. } = runc_init(lineage(SHIM, 1)) else { unreachable!() };
    script.tracker.init_may_run(HERE);
    script.scan(ScanStep::Began);
    script.what(INIT, What::Alive { lineage, image, cgroup: None });
    script.scan(ScanStep::Ended);
    assert_eq!(script.lines(), ["process.start 200 /usr/bin/runc init snapshot"]);
}

/// Check that a process of the container that calls itself `runc init` is reported.
#[test]
fn a_process_that_calls_itself_runc_is_reported() {
    let mut script = Script::running();
    script.fork(INIT, 201);
    script.what(201, runc_init(lineage(INIT, SHIM)));
    script.what(202, runc_init(lineage(INIT, SHIM)));
    assert_eq!(
        script.lines(),
        [
            "process.fork 201 /bin/sh descendant",
            "process.start 201 /usr/bin/runc descendant",
            "process.exec 202 /usr/bin/runc descendant",
        ]
    );
}

/// Check that every process of a target without a container is reported from its first record.
#[test]
fn without_a_container_every_process_is_reported() {
    let mut script = Script::new();
    script.tracker.end(HERE, None, 0);
    script.effects().clear();
    script.tracker.begin(HERE, None);
    script.fork(1, 400);
    script.exec(400, 1, "/bin/sh", Some(true));
    script.exec(401, 5, "/bin/ls", Some(true));
    assert_eq!(
        script.lines(),
        [
            "process.fork 400 - descendant",
            "process.start 400 /bin/sh descendant",
            "process.exec 401 /bin/ls descendant",
        ]
    );
}

fn runc_init(lineage: Lineage) -> What {
    let image = Image {
        executable: Some(b"/usr/bin/runc"[..].into()),
        args: Some(Args::from_nul_separated(b"runc\0init\0")),
        ..Image::default()
    };
    What::Exec { lineage, image: Arc::new(image), cgroup: None, in_host_mounts: None }
}
