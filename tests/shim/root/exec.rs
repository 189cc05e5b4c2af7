//! `ctr task exec`: output, exit codes, terminals, many execs at once, and execs that end together
//! with init.

use std::time::{Duration, Instant};

use super::{mount_of_our_folder, read_to_its_end, wait_for_us};
use crate::harness::{
    containerd::{Containerd, Version},
    deadline,
};

on_every_containerd! {
    an_exec_relays_its_output_and_its_exit_code,
    an_exec_on_a_terminal_has_the_size_of_the_clients,
    a_terminals_output_arrives_whole,
    two_hundred_execs_at_once_all_end_as_they_should,
    fifty_execs_at_once_take_under_five_seconds,
    an_exec_ends_though_its_child_holds_its_output,
    an_exec_that_races_inits_end_is_reported_before_it,
    a_container_killed_amid_execs_stops_and_every_client_returns,
    orphans_are_reaped_without_events,
}

/// Starts a container that only sleeps.
fn idle(containerd: &Containerd, id: &str) {
    containerd.detached(id, &[], &["sleep", "1000"]);
}

/// Runs `count` execs at once, each with its own exit code and output, and checks each.
fn storm(containerd: &Containerd, id: &str, count: i32, within: Duration) {
    let begun = Instant::now();
    let running = (0..count).map(|number| {
        let script = format!("echo out {number}; exit {}", number % 100);
        (number, containerd.exec(id, &[], &["sh", "-c", &script]).within(within).spawn())
    });
    for (number, exec) in running.collect::<Vec<_>>() {
        let output = exec.wait().exit_code(number % 100);
        assert_eq!(output.stdout_text(), format!("out {number}\n"));
    }
    assert!(begun.elapsed() < within, "{count} execs took {:?}", begun.elapsed());
}

/// Check that exec relays stdout and stderr separately and ends with the process's exit code.
fn an_exec_relays_its_output_and_its_exit_code(version: Version) {
    let containerd = Containerd::start(version);
    idle(&containerd, "c");
    let output = containerd
        .exec("c", &[], &["sh", "-c", "echo out; echo err >&2; exit 7"])
        .run()
        .exit_code(7);
    assert_eq!((output.stdout_text().as_str(), output.stderr_text().as_str()), ("out\n", "err\n"));
    let output = containerd.exec("c", &[], &["cat"]).stdin("piped").run().success();
    assert_eq!(output.stdout_text(), "piped");
    containerd.remove("c");
    containerd.assert_nothing_left();
}

/// Check that an exec on a terminal gets a terminal with the size of the client's, and ends with
/// its exit code.
fn an_exec_on_a_terminal_has_the_size_of_the_clients(version: Version) {
    let containerd = Containerd::start(version);
    idle(&containerd, "c");
    let script = "until [ \"$(stty size)\" = '40 90' ]; do usleep 10000; done; \
                  tty; read word; echo got $word; exit 6";
    let program = containerd.exec("c", &["--tty"], &["sh", "-c", script]);
    let output = program.terminal(40, 90).stdin("hello\n").run().exit_code(6);
    assert_eq!(
        output.stdout_text().matches("got hello\r\n").count(),
        1,
        "{}",
        output.stdout_text()
    );
    assert!(output.stdout_text().contains("/dev/pts/"), "{}", output.stdout_text());
    containerd.remove("c");
    containerd.assert_nothing_left();
}

/// Check that long output of a terminal arrives completely (containerd#3743).
fn a_terminals_output_arrives_whole(version: Version) {
    let containerd = Containerd::start(version);
    containerd.detached("c", &["--mount", &mount_of_our_folder(&containerd)], &["sleep", "1000"]);
    let count = 100_000;
    let script = format!("{}; seq 1 {count}", wait_for_us("e"));
    let exec = ["task", "exec", "--detach", "--tty", "--exec-id", "e", "c", "sh", "-c", &script];
    containerd.program(&exec).terminal(40, 90).run().success();
    let output = read_to_its_end(&containerd, "e");
    let expected = (1..=count).map(|number| format!("{number}\r\n")).collect::<String>();
    assert!(
        output == expected.as_bytes(),
        "{} of {} bytes, or other ones",
        output.len(),
        expected.len()
    );
    containerd.remove("c");
    // No client has waited for the exec yet.
    containerd.assert_nothing_left_but_fifos();
}

/// Check that 200 execs at once all run and end with their own codes and output, and that the shim
/// works afterwards (containerd#9999, containerd#10058).
fn two_hundred_execs_at_once_all_end_as_they_should(version: Version) {
    let containerd = Containerd::start(version);
    idle(&containerd, "c");
    storm(&containerd, "c", 20, Duration::from_secs(15));
    storm(&containerd, "c", 200, Duration::from_secs(60));
    containerd.exec("c", &[], &["true"]).run().success();
    containerd.remove("c");
    containerd.assert_nothing_left();
}

/// Check that 50 execs at once are not serialised by a lock (containerd#8617, moby#45595).
fn fifty_execs_at_once_take_under_five_seconds(version: Version) {
    let containerd = Containerd::start(version);
    idle(&containerd, "c");
    let begun = Instant::now();
    let running = (0..50).map(|_| containerd.exec("c", &[], &["true"]).spawn()).collect::<Vec<_>>();
    for exec in running {
        exec.wait().success();
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "took {:?}", begun.elapsed());
    containerd.remove("c");
    containerd.assert_nothing_left();
}

/// Check that an exec ends in bounded time although its child keeps its output open, and that later
/// execs do, too (containerd#3286, containerd#7802).
fn an_exec_ends_though_its_child_holds_its_output(version: Version) {
    let containerd = Containerd::start(version);
    idle(&containerd, "c");
    let program = containerd.exec("c", &[], &["sh", "-c", "sleep 1000 & echo started; exit 2"]);
    let output = program.within(Duration::from_secs(5)).run().exit_code(2);
    assert_eq!(output.stdout_text(), "started\n");
    containerd.exec("c", &[], &["true"]).within(Duration::from_secs(5)).run().success();
    containerd.remove("c");
    containerd.assert_nothing_left();
}

/// Check that the exit of an exec that ends together with init is reported, and before init's
/// (containerd#9719, containerd#9828, containerd#10651).
fn an_exec_that_races_inits_end_is_reported_before_it(version: Version) {
    let containerd = Containerd::start(version);
    let events = containerd.events();
    for round in 0..15_u32 {
        let id = format!("c{round}");
        let pause = (40_000 + 700 * round).to_string();
        containerd.detached(&id, &[], &["sh", "-c", &format!("usleep {pause}; exit 9")]);
        // The start may have been refused, but every started exec must end.
        let code = containerd.exec(&id, &[], &["true"]).within(Duration::from_secs(10)).run().code;
        assert!([0, 1, 137, 255].contains(&code), "exec ended with {code}");
        let exit = events.wait_topic("/tasks/exit", &id);
        assert_eq!(exit.number("exit_status"), 9);
        containerd.remove(&id);
        events.wait_topic("/tasks/delete", &id);
        let topics = events.of(&id);
        let started = topics.iter().filter(|event| event.starts_with("exec-started")).count();
        let exits = topics.iter().filter(|event| event.starts_with("exit ")).count();
        assert_eq!(started, exits, "each exec that started has one exit: {topics:?}");
        let init = topics.iter().position(|event| event == "exit").expect("waited for");
        assert!(
            !topics[init..].iter().any(|event| event.starts_with("exit ")),
            "init's exit is the last: {topics:?}"
        );
    }
    containerd.assert_nothing_left();
}

/// Check that a container stops when its init is killed during a stream of execs, and that all
/// clients return (containerd#10603).
fn a_container_killed_amid_execs_stops_and_every_client_returns(version: Version) {
    let containerd = Containerd::start(version);
    let events = containerd.events();
    idle(&containerd, "c");
    let running = (0..60).map(|_| containerd.exec("c", &[], &["date"]).spawn()).collect::<Vec<_>>();
    events.wait(Duration::from_secs(20), "ten execs to end", |event| {
        event.is("/tasks/exit", "c") && { event.process() != "c" }
    });
    containerd.ctr(&["task", "kill", "--signal", "SIGKILL", "c"]).success();
    let exit = events.wait_topic("/tasks/exit", "c");
    assert_eq!(exit.number("exit_status"), 137);
    for exec in running {
        exec.wait();
    }
    containerd.wait_for_status("c", "STOPPED");
    containerd.remove("c");
    containerd.assert_nothing_left();
}

/// Check that orphans in a container that shares the host's pid namespace are reaped and leave
/// neither zombies nor events.
fn orphans_are_reaped_without_events(version: Version) {
    let containerd = Containerd::start(version);
    let events = containerd.events();
    let init = format!("pid:/proc/{}/ns/pid", std::process::id());
    containerd.detached("c", &["--with-ns", &init], &["sleep", "1000"]);
    let double_forks = "for i in $(seq 300); do (true & ) ; done";
    containerd.exec("c", &[], &["sh", "-c", double_forks]).run().success();
    let shim = containerd.shim("c");
    deadline::until("all orphans to be reaped", || {
        shim.children().iter().all(|child| child.state() != Some('Z'))
    });
    let pids = containerd.ctr(&["task", "ps", "c"]).success().stdout_text().lines().count();
    assert_eq!(pids, 2, "a headline and init");
    containerd.ctr(&["task", "kill", "--signal", "SIGKILL", "c"]).success();
    events.wait_topic("/tasks/exit", "c");
    assert_eq!(
        events.count(|event| event.is("/tasks/exit", "c")),
        2,
        "the exec's and init's: {:?}",
        events.of("c")
    );
    containerd.remove("c");
    containerd.assert_nothing_left();
}
