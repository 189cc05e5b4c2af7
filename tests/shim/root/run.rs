//! `ctr run`: output, exit codes, input, terminals, and what a failed start leaves.

use std::{fs, time::Duration};

use sha2::{Digest as _, Sha256};

use super::{bind_mount, copy_rootfs, output_of, random};
use crate::harness::containerd::{Containerd, RUNTIME, Version};

on_every_containerd! {
    a_container_relays_its_output_and_its_exit_code,
    exit_by_a_signal_is_reported_as_128_plus_its_number,
    a_pipe_into_the_client_reaches_the_container_with_its_end,
    sixty_four_mebibytes_and_a_byte_arrive_whole,
    a_container_on_a_terminal_has_the_size_of_the_clients,
    a_directory_serves_as_a_root_filesystem,
    the_longest_id_works,
    a_detached_container_can_be_attached_to,
    a_missing_program_is_a_clear_error_and_leaves_nothing,
    an_exit_is_reported_once,
}

/// Check that run relays stdout and stderr separately and ends with the container's exit code.
fn a_container_relays_its_output_and_its_exit_code(version: Version) {
    let containerd = Containerd::start(version);
    let output = containerd
        .run("c", &["--rm"], &["sh", "-c", "echo out; echo err >&2; exit 3"])
        .run()
        .exit_code(3);
    assert_eq!((output.stdout_text().as_str(), output.stderr_text().as_str()), ("out\n", "err\n"));
    containerd.assert_nothing_left();
}

/// Check that the exit by a signal is reported as 128 plus the signal's number.
fn exit_by_a_signal_is_reported_as_128_plus_its_number(version: Version) {
    let containerd = Containerd::start(version);
    let events = containerd.events();
    let client = containerd.run("c", &["--rm"], &["sleep", "1000"]).spawn();
    events.wait_topic("/tasks/start", "c");
    containerd.exec("c", &[], &["sh", "-c", "kill -SEGV $$"]).run().exit_code(139);
    containerd.ctr(&["task", "kill", "--signal", "SIGKILL", "c"]).success();
    client.wait().exit_code(137);
    containerd.assert_nothing_left();
}

/// Check that input piped into the client reaches the container, and that its end does, too.
fn a_pipe_into_the_client_reaches_the_container_with_its_end(version: Version) {
    let containerd = Containerd::start(version);
    let bytes = random((1 << 20) + 1);
    let sum = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let output = containerd.run("c", &["--rm"], &["sha256sum"]).stdin(bytes).run().success();
    assert_eq!(output.stdout_text(), format!("{sum}  -\n"));
    containerd.assert_nothing_left();
}

/// Check that 64 MiB and one byte arrive completely.
fn sixty_four_mebibytes_and_a_byte_arrive_whole(version: Version) {
    let containerd = Containerd::start(version);
    let bytes = random((64 << 20) + 1);
    let mount = bind_mount(&containerd, &bytes);
    let output = output_of(&containerd, "c", &["--mount", &mount], "cat /data");
    assert!(output == bytes, "{} of {} bytes arrived, or other ones", output.len(), bytes.len());
    containerd.assert_nothing_left();
}

/// Check that a container on a terminal gets a terminal with the size of the client's that echoes,
/// and that its exit code is relayed.
fn a_container_on_a_terminal_has_the_size_of_the_clients(version: Version) {
    let containerd = Containerd::start(version);
    let script = "until [ \"$(stty size)\" = '33 77' ]; do usleep 10000; done; \
                  tty; read word; echo got $word; exit 5";
    let program = containerd.run("c", &["--rm", "--tty"], &["sh", "-c", script]);
    let output = program.terminal(33, 77).stdin("hello\n").run().exit_code(5);
    assert_eq!(
        output.stdout_text().matches("got hello\r\n").count(),
        1,
        "{}",
        output.stdout_text()
    );
    assert!(output.stdout_text().contains("/dev/pts/0"), "{}", output.stdout_text());
    containerd.assert_nothing_left();
}

/// Check that a root filesystem that containerd does not manage is used and not removed.
fn a_directory_serves_as_a_root_filesystem(version: Version) {
    let containerd = Containerd::start(version);
    let rootfs = containerd.path("rootfs");
    copy_rootfs(&rootfs);
    let rootfs = rootfs.to_string_lossy();
    let flags = ["run", "--rm", "--runtime", RUNTIME, "--rootfs"];
    containerd
        .ctr(&[&flags[..], &[&rootfs, "c", "/bin/sh", "-c", "echo mine >/mark"]].concat())
        .success();
    assert_eq!(
        fs::read_to_string(containerd.path("rootfs/mark")).expect("written by the container"),
        "mine\n"
    );
    containerd.assert_nothing_left();
}

/// Check that the longest id that containerd allows works, also with a terminal: a socket's path is
/// limited to 107 bytes.
fn the_longest_id_works(version: Version) {
    let containerd = Containerd::start(version);
    let id = "i".repeat(76);
    let output = containerd
        .run(&id, &["--rm", "--tty"], &["sh", "-c", "tty; exit 5"])
        .terminal(24, 80)
        .run()
        .exit_code(5);
    assert!(output.stdout_text().contains("/dev/pts/0"), "{}", output.stdout_text());
    containerd.assert_nothing_left();
}

/// Check that a client that attaches to a detached container can write to it, reads its output, and
/// gets its exit code.
fn a_detached_container_can_be_attached_to(version: Version) {
    let containerd = Containerd::start(version);
    containerd.detached("c", &[], &["sh", "-c", "read word; echo got $word; exit 4"]);
    let output = containerd.program(&["task", "attach", "c"]).stdin("hello\n").run().exit_code(4);
    assert_eq!(output.stdout_text(), "got hello\n");
    containerd.ctr(&["container", "rm", "c"]).success();
    containerd.assert_nothing_left();
}

/// Check that a missing program is reported as an error at once, has no exit event
/// (containerd#6429), and leaves nothing.
fn a_missing_program_is_a_clear_error_and_leaves_nothing(version: Version) {
    let containerd = Containerd::start(version);
    let events = containerd.events();
    let output = containerd
        .run("c", &["--rm"], &["/nope"])
        .within(Duration::from_secs(5))
        .run()
        .exit_code(1);
    let error = output.stderr_text();
    assert!(error.contains("OCI runtime create failed") && error.contains("/nope"), "{error}");
    assert!(error.contains("no such file or directory"), "{error}");
    containerd.assert_nothing_left();
    // A later event on the same bus shows that the failure published nothing before it.
    containerd.run("after", &["--rm"], &["true"]).run().success();
    events.wait_topic("/tasks/delete", "after");
    let topics = events.of("c");
    assert!(
        !topics.iter().any(|event| event.starts_with("exit") || event.starts_with("start")),
        "{topics:?}"
    );
    containerd.assert_nothing_left();
}

/// Check that the exit of a short container is reported once (containerd#4769).
fn an_exit_is_reported_once(version: Version) {
    let containerd = Containerd::start(version);
    let events = containerd.events();
    for id in ["c0", "c1", "c2"] {
        containerd.run(id, &["--rm"], &["true"]).run().success();
    }
    events.wait_topic("/tasks/delete", "c2");
    containerd.assert_nothing_left();
    for id in ["c0", "c1", "c2"] {
        assert_eq!(events.count(|event| event.is("/tasks/exit", id)), 1, "{:?}", events.of(id));
    }
}
