//! Execs that begin at the same time, and programs that are, or look like, the runtime.

use super::{births_at, end, ended_with, exec, running, sleeping};
use crate::harness::containerd::{Containerd, Runtime, Version};

/// Check that execs which begin at the same time each have their own id.
fn execs_at_the_same_time_have_their_own_ids(version: Version, runtime: Runtime) {
    const ROUNDS: u32 = 20;
    let containerd = Containerd::start_with(version, runtime);
    let subscriber = containerd.subscribe();
    sleeping(&containerd, "c", &[]);
    for round in 0..ROUNDS {
        let begun = ["a", "b"].map(|which| {
            let command = format!("/births child 3 exec /births nap 5 4 {which}{round}");
            containerd.program(&exec(&format!("{which}{round}"), "c", &command)).spawn()
        });
        begun.into_iter().for_each(|exec| drop(exec.wait().exit_code(3)));
    }
    let lives = end(&containerd, &subscriber, "c");
    for exec_id in (0..ROUNDS).flat_map(|round| [format!("a{round}"), format!("b{round}")]) {
        let [own] = running(&lives, &format!("/births child 3 exec /births nap 5 4 {exec_id}"))[..]
        else {
            panic!("not one {exec_id} in {lives:#?}")
        };
        own.assert_is(&["start", "exit", "done"], "exec", &exec_id);
        assert_eq!(own.status, Some(3), "{own:?}");
        let [child] = running(&lives, &format!("/births nap 5 4 {exec_id}"))[..] else {
            panic!("not one child of {exec_id} in {lives:#?}")
        };
        child.assert_is(&["fork", "start", "exit", "done"], "descendant", &exec_id);
        assert_eq!(child.status, Some(4), "{child:?}");
    }
    assert_eq!(lives.len(), 1 + 4 * ROUNDS as usize, "{lives:#?}");
    drop(subscriber);
    containerd.assert_nothing_left();
}

#[test]
fn execs_at_the_same_time_have_their_own_ids_under_runc_1_1() {
    execs_at_the_same_time_have_their_own_ids(Version::V1_7, Runtime::Runc1_1);
}

#[test]
fn execs_at_the_same_time_have_their_own_ids_under_runc_1_3() {
    execs_at_the_same_time_have_their_own_ids(Version::V2_1, Runtime::Runc1_3);
}

#[test]
fn execs_at_the_same_time_have_their_own_ids_under_crun() {
    execs_at_the_same_time_have_their_own_ids(Version::V2_1, Runtime::Crun1_21);
}

/// The flags with which the runtime's own executable, which the machine links dynamically, runs in
/// a container.
fn libraries() -> Vec<String> {
    let folders = ["/lib", "/lib64", "/usr/lib"].into_iter();
    let folders = folders.filter(|folder| std::path::Path::new(folder).is_dir());
    let mount = |folder| format!("type=bind,src={folder},dst={folder},options=rbind:ro");
    folders.flat_map(|folder| ["--mount".to_owned(), mount(folder)]).collect()
}

/// Check that the runtime's own executable, which `/proc/self/exe` is in the process that is about
/// to run the container's program, is reported as init and as an exec like any other program.
#[test]
fn the_runtimes_executable_is_a_program_like_any_other() {
    let containerd = Containerd::start(Version::V1_7);
    let subscriber = containerd.subscribe();
    let libraries = libraries();
    let flags: Vec<&str> = libraries.iter().map(String::as_str).collect();
    let itself = ["/proc/self/exe", "--no-such-flag"];
    containerd.detached("i", &flags, &itself);
    containerd.wait_for_status("i", "STOPPED");
    let of_init = end(&containerd, &subscriber, "i");
    ended_with(&of_init, 1).assert_is(&["start", "exit", "done"], "init", "");
    assert_eq!(ended_with(&of_init, 1).args, itself);
    sleeping(&containerd, "c", &flags);
    containerd.ctr(&exec("e", "c", &itself.join(" "))).exit_code(1);
    let of_exec = end(&containerd, &subscriber, "c");
    ended_with(&of_exec, 1).assert_is(&["start", "exit", "done"], "exec", "e");
    assert_eq!(ended_with(&of_exec, 1).args, itself);
    assert_eq!((of_init.len(), of_exec.len()), (1, 2), "{of_init:#?}\n{of_exec:#?}");
    drop(subscriber);
    containerd.assert_nothing_left();
}

/// Check that a program which is called as the runtime's stage is (`runc init`) is reported, as
/// init and as an exec, with what it forks.
fn a_program_called_runc_init_is_reported(version: Version, runtime: Runtime) {
    let containerd = Containerd::start_with(version, runtime);
    let subscriber = containerd.subscribe();
    let mount = births_at("/x/runc");
    let flags = ["--mount", &mount, "--env", "BIRTHS=child 7 nap 10 6"];
    containerd.detached("i", &flags, &["/x/runc", "init"]);
    containerd.wait_for_status("i", "STOPPED");
    let of_init = end(&containerd, &subscriber, "i");
    ended_with(&of_init, 7).assert_is(&["start", "exit", "done"], "init", "");
    ended_with(&of_init, 6).assert_is(&["fork", "exit", "done"], "descendant", "");
    sleeping(&containerd, "c", &flags);
    containerd.ctr(&exec("e", "c", "/x/runc init")).exit_code(7);
    let of_exec = end(&containerd, &subscriber, "c");
    ended_with(&of_exec, 7).assert_is(&["start", "exit", "done"], "exec", "e");
    ended_with(&of_exec, 6).assert_is(&["fork", "exit", "done"], "descendant", "e");
    assert_eq!(ended_with(&of_exec, 7).args, ["/x/runc", "init"]);
    assert_eq!((of_init.len(), of_exec.len()), (2, 3), "{of_init:#?}\n{of_exec:#?}");
    drop(subscriber);
    containerd.assert_nothing_left();
}

#[test]
fn a_program_called_runc_init_is_reported_under_runc() {
    a_program_called_runc_init_is_reported(Version::V1_7, Runtime::Runc1_1);
}

#[test]
fn a_program_called_runc_init_is_reported_under_crun() {
    a_program_called_runc_init_is_reported(Version::V2_1, Runtime::Crun1_21);
}
