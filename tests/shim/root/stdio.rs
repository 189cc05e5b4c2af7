//! Destinations of output: files, loggers, none; and that the last byte arrives.

use std::fs;

use super::{bind_mount, output_of, random};
use crate::harness::{
    containerd::{Containerd, Version},
    deadline,
};

on_every_containerd! {
    a_log_file_takes_both_streams_and_appends,
    sixty_four_mebibytes_and_a_byte_are_whole_in_a_log_file,
    an_exec_has_a_log_file_of_its_own,
    a_logger_gets_its_arguments_and_both_streams,
    a_missing_logger_is_a_clear_error_and_leaves_nothing,
    a_container_without_streams_runs,
    a_full_log_does_not_stop_the_container,
    the_last_byte_before_the_exit_arrives,
}

/// Check that `file://` creates the directory, receives both streams completely, and appends.
fn a_log_file_takes_both_streams_and_appends(version: Version) {
    let containerd = Containerd::start(version);
    let log = containerd.path("made/for/it.log");
    let uri = format!("file://{}", log.display());
    let flags = ["--rm", "--log-uri", &uri];
    containerd.run("c", &flags, &["sh", "-c", "echo out; sleep 0.1; echo err >&2"]).run().success();
    containerd.run("d", &flags, &["echo", "more"]).run().success();
    assert_eq!(fs::read_to_string(&log).expect("made by the shim"), "out\nerr\nmore\n");
    containerd.assert_nothing_left();
}

/// Check that 64 MiB and one byte are written completely to a log file.
fn sixty_four_mebibytes_and_a_byte_are_whole_in_a_log_file(version: Version) {
    let containerd = Containerd::start(version);
    let bytes = random((64 << 20) + 1);
    let mount = bind_mount(&containerd, &bytes);
    let log = containerd.path("log");
    let uri = format!("file://{}", log.display());
    containerd
        .run("c", &["--rm", "--mount", &mount, "--log-uri", &uri], &["cat", "/data"])
        .run()
        .success();
    let logged = fs::read(log).expect("made by the shim");
    assert!(logged == bytes, "{} of {} bytes are there, or other ones", logged.len(), bytes.len());
    containerd.assert_nothing_left();
}

/// Check that an exec can have a log file of its own.
fn an_exec_has_a_log_file_of_its_own(version: Version) {
    let containerd = Containerd::start(version);
    containerd.detached("c", &[], &["sleep", "1000"]);
    let log = containerd.path("exec.log");
    let uri = format!("file://{}", log.display());
    containerd
        .exec("c", &["--log-uri", &uri], &["sh", "-c", "echo logged; exit 2"])
        .run()
        .exit_code(2);
    assert_eq!(fs::read_to_string(&log).expect("made by the shim"), "logged\n");
    containerd.remove("c");
    containerd.assert_nothing_left();
}

/// Check that a logger gets its arguments, the container's name, and both streams completely.
fn a_logger_gets_its_arguments_and_both_streams(version: Version) {
    let containerd = Containerd::start(version);
    let bytes = random((8 << 20) + 1);
    let mount = bind_mount(&containerd, &bytes);
    let directory = containerd.path("");
    let logger = containerd.script(
        "logger",
        &format!(
            "cd {}; echo \"$CONTAINER_ID $CONTAINER_NAMESPACE $@\" >arguments; exec 5>&-; \
         cat <&3 >out & cat <&4 >err; wait; touch done",
            directory.display(),
        ),
    );
    let uri = format!("binary://{logger}?tag=blue");
    let script = "cat /data; echo err >&2; exit 3";
    containerd
        .run("c", &["--rm", "--mount", &mount, "--log-uri", &uri], &["sh", "-c", script])
        .run()
        .exit_code(3);
    deadline::until("the logger to end", || directory.join("done").exists());
    let arguments = fs::read_to_string(directory.join("arguments")).expect("written by the logger");
    assert_eq!(arguments, format!("c {} tag blue\n", containerd.namespace()));
    let out = fs::read(directory.join("out")).expect("written by the logger");
    assert!(out == bytes, "{} of {} bytes were logged, or other ones", out.len(), bytes.len());
    assert_eq!(fs::read_to_string(directory.join("err")).expect("written by the logger"), "err\n");
    containerd.assert_nothing_left();
}

/// Check that a logger that cannot be run causes an error, and that nothing is left.
fn a_missing_logger_is_a_clear_error_and_leaves_nothing(version: Version) {
    let containerd = Containerd::start(version);
    let output = containerd
        .run("c", &["--rm", "--log-uri", "binary:///no/such/logger"], &["true"])
        .run()
        .exit_code(1);
    assert!(output.stderr_text().contains("/no/such/logger"), "{}", output.stderr_text());
    containerd.assert_nothing_left();
}

/// Check that a container without streams runs, and that its output is discarded.
fn a_container_without_streams_runs(version: Version) {
    let containerd = Containerd::start(version);
    let output = containerd
        .run("c", &["--rm", "--null-io"], &["sh", "-c", "echo lost; exit 6"])
        .run()
        .exit_code(6);
    assert_eq!(output.stdout_text(), "");
    containerd.assert_nothing_left();
}

/// Check that a container runs on when its log can no longer be written (containerd#12462).
fn a_full_log_does_not_stop_the_container(version: Version) {
    let containerd = Containerd::start(version);
    let small = containerd.path("small");
    fs::create_dir(&small).expect("our directory is writable");
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("tmpfs"), &small, Some("tmpfs"), flags, Some("size=64k"))
        .expect("the namespace is ours");
    let uri = format!("file://{}/log", small.display());
    containerd
        .run("c", &["--rm", "--log-uri", &uri], &["sh", "-c", "seq 1 200000; exit 8"])
        .run()
        .exit_code(8);
    nix::mount::umount(&small).expect("no process has the log open");
    containerd.assert_nothing_left();
}

/// Check that the last byte before the exit arrives, for any length and without a final newline: 34
/// runs of each containerd, over every power of two from 2^20 to 2^27, ± 1 (containerd#12364,
/// nerdctl#2313).
fn the_last_byte_before_the_exit_arrives(version: Version) {
    let containerd = Containerd::start(version);
    let bytes = random((1 << 27) + 1);
    let mount = bind_mount(&containerd, &bytes);
    let runs = (20..=27)
        .zip([8, 6, 6, 4, 4, 2, 2, 2])
        .flat_map(|(power, times)| (0..times).map(move |time| (power, time)));
    for (power, time) in runs {
        let length = if time % 2 == 0 { (1_usize << power) + 1 } else { (1 << power) - 1 };
        let command = format!("head -c {length} /data");
        let output =
            output_of(&containerd, &format!("c{power}-{time}"), &["--mount", &mount], &command);
        assert_eq!(output.len(), length, "of 2^{power} ± 1 bytes");
        assert!(output == bytes[..length], "2^{power} ± 1: other bytes");
    }
    containerd.assert_nothing_left();
}
