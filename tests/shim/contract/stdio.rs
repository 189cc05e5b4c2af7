//! The streams: complete, in order, ended when the process has ended, and never blocking other
//! requests.

use std::{fs, io::Read as _, time::Duration};

use containerd_shim_protos::api::CreateTaskRequest;

use crate::harness::{Bundle, Fifo, Node, Process, deadline, exec_request};

/// The three fifos of a process.
struct Fifos {
    stdin: Fifo,
    stdout: Fifo,
    stderr: Fifo,
}

impl Fifos {
    fn make(node: &Node, name: &str) -> Self {
        let make = |stream: &str| Fifo::make(node.path().join(format!("{name}-{stream}")));
        Self { stdin: make("stdin"), stdout: make("stdout"), stderr: make("stderr") }
    }

    fn create(&self, bundle: &Bundle) -> CreateTaskRequest {
        CreateTaskRequest {
            stdin: self.stdin.name(),
            stdout: self.stdout.name(),
            stderr: self.stderr.name(),
            ..bundle.create()
        }
    }
}

/// Check that both outputs arrive completely and end with the process, and that State reports their
/// paths.
#[test]
fn outputs_arrive_whole_and_end_with_the_process() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let fifos = Fifos::make(&node, "web");
    let (stdout, stderr) = (fifos.stdout.collect(), fifos.stderr.collect());
    node.runtime()
        .payload("web", "printf 'to stdout'; printf 'to stderr' >&2; read -r line; exit 0");
    shim.create(&fifos.create(&bundle)).unwrap();
    let state = shim.state("web", "").unwrap();
    assert_eq!(
        [state.stdin, state.stdout, state.stderr],
        [&fifos.stdin, &fifos.stdout, &fifos.stderr].map(Fifo::name)
    );
    assert!(!state.terminal);
    shim.start("web", "").unwrap();
    fifos.stdin.send(b"\n");
    assert_eq!(stdout.text(), "to stdout");
    assert_eq!(stderr.text(), "to stderr");
    assert_eq!(shim.wait("web", "").unwrap().exit_status, 0);
    shim.delete("web", "").unwrap();
}

/// Check that stdin stays open while clients connect and disconnect, until CloseIO.
#[test]
fn stdin_ends_with_close_io_and_not_before() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let fifos = Fifos::make(&node, "web");
    let stdout = fifos.stdout.collect();
    node.runtime().payload("web", "cat; echo end");
    shim.create(&fifos.create(&bundle)).unwrap();
    shim.start("web", "").unwrap();
    fifos.stdin.send(b"one ");
    fifos.stdin.send(b"two ");
    assert!(stdout.is_open());
    shim.close_io("web", "").unwrap();
    assert_eq!(stdout.text(), "one two end\n");
    assert_eq!(shim.wait("web", "").unwrap().exit_status, 0);
}

/// Check that a client's writer finds no reader before the process starts. `ctr run` takes a
/// successful open of its fifo for the sign that the task exists, and then calls CloseIO only once.
#[test]
fn the_input_is_not_opened_before_start() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let fifos = Fifos::make(&node, "web");
    shim.create(&fifos.create(&bundle)).unwrap();
    assert!(!fifos.stdin.has_reader());
    shim.start("web", "").unwrap();
    assert!(fifos.stdin.has_reader());
}

/// Check that a plain file can be the input, and that stdin ends with it.
#[test]
fn a_plain_file_may_be_the_input() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let stdout = Fifo::make(node.path().join("out"));
    let collected = stdout.collect();
    fs::write(node.path().join("in"), "from a file\n").unwrap();
    node.runtime().payload("web", "cat; exit 0");
    let stdin = node.path().join("in").to_string_lossy().into_owned();
    shim.create(&CreateTaskRequest { stdin, stdout: stdout.name(), ..bundle.create() }).unwrap();
    shim.start("web", "").unwrap();
    assert_eq!(collected.text(), "from a file\n");
    assert_eq!(shim.wait("web", "").unwrap().exit_status, 0);
}

/// Check that a CloseIO before start is not forgotten.
#[test]
fn close_io_before_start_ends_the_input() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let fifos = Fifos::make(&node, "exec");
    node.runtime().payload("probe", "cat; exit 9");
    shim.run(&bundle);
    let mut request = exec_request("web", "probe");
    request.stdin = fifos.stdin.name();
    shim.exec_with(&request).unwrap();
    shim.close_io("web", "probe").unwrap();
    shim.start("web", "probe").unwrap();
    assert_eq!(shim.wait("web", "probe").unwrap().exit_status, 9);
}

/// Check that output of many times the size of a pipe arrives completely, from an exec too.
#[test]
fn a_large_output_arrives_whole() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let sizes = [("web", (16 << 20) + 1), ("probe", (1 << 20) - 1)];
    for (name, size) in sizes {
        node.runtime().payload(name, &format!("i=0; yes lookout | head -c {size}; exec sleep 0"));
    }
    let fifos = Fifos::make(&node, "web");
    let stdout = fifos.stdout.collect();
    shim.create(&fifos.create(&bundle)).unwrap();
    let exec = Fifos::make(&node, "probe");
    let exec_stdout = exec.stdout.collect();
    let mut request = exec_request("web", "probe");
    request.stdout = exec.stdout.name();
    shim.exec_with(&request).unwrap();
    shim.start("web", "probe").unwrap();
    shim.start("web", "").unwrap();
    for (collected, (name, size)) in [stdout, exec_stdout].into_iter().zip(sizes) {
        let bytes = collected.bytes();
        assert_eq!(bytes.len(), size, "{name}");
        let pattern = b"lookout\n";
        assert!(
            bytes.iter().zip(pattern.iter().cycle()).all(|(byte, expected)| byte == expected),
            "{name}"
        );
    }
}

/// Check that fifos without a reader or writer block nothing (containerd#2877).
#[test]
fn unopened_fifos_block_nothing() {
    let node = Node::new();
    let _daemon = node.daemon();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let fifos = Fifos::make(&node, "web");
    node.runtime().payload("web", "yes");
    let quick = shim.with_deadline(Duration::from_secs(5));
    let init = quick.create(&fifos.create(&bundle)).unwrap().pid;
    quick.start("web", "").unwrap();
    // It fills every pipe and then waits for its reader.
    let blocked = || matches!(Process::new(init).state(), Some('S'));
    deadline::until("a container that waits for its reader", blocked);
    quick.state("web", "").unwrap();
    let exec = Fifos::make(&node, "probe");
    let mut request = exec_request("web", "probe");
    (request.stdin, request.stdout, request.stderr) =
        (exec.stdin.name(), exec.stdout.name(), exec.stderr.name());
    quick.exec_with(&request).unwrap();
    quick.start("web", "probe").unwrap();
    quick.kill("web", "", 9).unwrap();
    assert_eq!(quick.wait("web", "").unwrap().exit_status, 137);
    assert_eq!(quick.wait("web", "probe").unwrap().exit_status, 137);
    quick.delete("web", "probe").unwrap();
    quick.delete("web", "").unwrap();
    // The shim can exit, too (rust-extensions#337).
    shim.shutdown("web").unwrap();
    shim.wait_for_exit(Duration::from_secs(1));
}

/// Check that a reader can be replaced by another: the process gets no SIGPIPE, and nothing is lost
/// in between (containerd#9342).
#[test]
fn a_reader_may_be_replaced_by_another() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let fifos = Fifos::make(&node, "web");
    node.runtime().payload("web", "echo one; read -r line; echo two; echo three; exit 0");
    shim.create(&fifos.create(&bundle)).unwrap();
    let mut first = fifos.stdout.open_for_reading();
    shim.start("web", "").unwrap();
    let mut text = [0; 4];
    deadline::until("the first line", || first.read_exact(&mut text).is_ok());
    assert_eq!(&text, b"one\n");
    drop(first);
    fifos.stdin.send(b"\n");
    assert_eq!(shim.wait("web", "").unwrap().exit_status, 0);
    assert_eq!(fifos.stdout.collect().text(), "two\nthree\n");
}

/// Check that one path for both outputs receives both.
#[test]
fn one_fifo_may_be_both_outputs() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let fifo = Fifo::make(node.path().join("both"));
    let both = fifo.collect();
    node.runtime().payload("web", "echo one; echo two >&2");
    shim.create(&CreateTaskRequest { stdout: fifo.name(), stderr: fifo.name(), ..bundle.create() })
        .unwrap();
    shim.start("web", "").unwrap();
    let text = both.text();
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["one", "two"]);
}

/// Check that both outputs are appended to a `file://` log, in directories that are created for it.
#[test]
fn a_file_gets_both_outputs() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    node.runtime().payload("web", "echo one; echo two >&2; exit 0");
    let log = node.path().join("logs/of web/log");
    let uri = format!("file://{}", log.to_string_lossy().replace(' ', "%20"));
    for _ in 0..2 {
        shim.create(&CreateTaskRequest { stdout: uri.clone(), ..bundle.create() }).unwrap();
        shim.start("web", "").unwrap();
        shim.wait("web", "").unwrap();
        shim.delete("web", "").unwrap();
    }
    let text = fs::read_to_string(&log).unwrap();
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["one", "one", "two", "two"]);
}

/// Check that a container runs on when its log cannot be written (containerd#12462).
#[test]
fn a_log_that_is_full_does_not_stop_the_container() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    node.runtime().payload("web", "yes | head -c 1000000; exit 6");
    shim.create(&CreateTaskRequest { stdout: "/dev/full".into(), ..bundle.create() }).unwrap();
    shim.start("web", "").unwrap();
    assert_eq!(shim.wait("web", "").unwrap().exit_status, 6);
    shim.delete("web", "").unwrap();
}

/// The URI of a logger that is a shell running `script`. No script file, because a file that a
/// parallel test's fork still holds open for writing cannot be executed (ETXTBSY).
fn logger(script: &str) -> String {
    let escaped: String = script.bytes().map(|byte| format!("%{byte:02x}")).collect();
    format!("binary:///bin/sh?-c={escaped}&key=value&flag")
}

/// Check that a logger gets both outputs, its arguments, and only the documented environment
/// variables.
#[test]
fn a_logger_gets_both_outputs() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let home = node.path().display().to_string();
    let script = format!(
        "printf '%s\\n' \"$0\" \"$@\" \"$CONTAINER_ID\" \"$CONTAINER_NAMESPACE\" \
         >{home}/arguments\n\
         exec 5>&-; cat <&3 >{home}/out; cat <&4 >{home}/err; echo >{home}/done\n"
    );
    node.runtime().payload("web", "echo one; echo two >&2; exit 0");
    shim.create(&CreateTaskRequest { stdout: logger(&script), ..bundle.create() }).unwrap();
    shim.start("web", "").unwrap();
    shim.wait("web", "").unwrap();
    shim.delete("web", "").unwrap();
    let read = |name: &str| fs::read_to_string(node.path().join(name)).unwrap();
    assert_eq!(read("arguments"), "key\nvalue\nflag\n\nweb\ntest\n");
    assert_eq!((read("out").as_str(), read("err").as_str()), ("one\n", "two\n"));
    assert!(node.path().join("done").exists(), "delete waits for the logger");
}

/// Check that the create fails if the logger ends at once, names it as the reason, and leaves
/// nothing.
#[test]
fn a_logger_that_fails_fails_the_create() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let uri = "binary:///no/such/logger".to_owned();
    let failure = shim.create(&CreateTaskRequest { stdout: uri, ..bundle.create() }).unwrap_err();
    assert!(failure.message.contains("/no/such/logger"), "{failure:?}");
    assert_eq!(node.runtime().all_calls(), []);
    shim.run(&bundle);
}

/// Check that the error for invalid streams names them, and that no container is left.
#[test]
fn invalid_streams_are_named_in_the_error() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    for stdout in ["relative/path", "journald:///x", "/no/such/fifo", "file://"] {
        let failure = shim
            .create(&CreateTaskRequest { stdout: stdout.into(), ..bundle.create() })
            .unwrap_err();
        assert!(failure.message.starts_with("failed to create process I/O: "), "{failure:?}");
    }
    for stdin in ["relative/path", "/no/such/fifo"] {
        let failure =
            shim.create(&CreateTaskRequest { stdin: stdin.into(), ..bundle.create() }).unwrap_err();
        assert!(failure.message.contains(stdin), "{failure:?}");
    }
    assert_eq!(node.runtime().all_calls(), []);
}
