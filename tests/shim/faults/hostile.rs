//! Clients and daemons that misbehave (promise P9).

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    time::Duration,
};

use crate::harness::{Node, Shim, any, deadline, exec_request};

/// ttrpc's limit for one message, in bytes.
const MESSAGE_MAX: usize = 4 << 20;

/// Checks that the shim still serves requests.
#[track_caller]
pub(super) fn serves(shim: &Shim) {
    shim.reconnect()
        .with_deadline(Duration::from_secs(3))
        .connection("")
        .expect("it serves others");
}

/// Sends a frame's header and body on a connection of its own.
pub(super) fn send(shim: &Shim, length: u32, stream: u32, kind: u8, body: &[u8]) -> UnixStream {
    let mut connection = UnixStream::connect(shim.socket()).unwrap();
    let mut frame = Vec::new();
    frame.extend(length.to_be_bytes());
    frame.extend(stream.to_be_bytes());
    frame.extend([kind, 0]);
    frame.extend(body);
    // The shim may close the connection before everything is written.
    let _ = connection.write_all(&frame);
    connection
}

/// The body of a request that needs the id of a container only.
fn request(method: &str, id: &str) -> Vec<u8> {
    use containerd_shim_protos::{
        api::StateRequest, protobuf::Message as _, ttrpc::proto::Request,
    };
    // The requests have the id in the same field.
    let payload = StateRequest { id: id.into(), ..Default::default() }.write_to_bytes().unwrap();
    let (service, method) = ("containerd.task.v2.Task".into(), method.into());
    Request { service, method, payload, ..Default::default() }.write_to_bytes().unwrap()
}

/// Check that a message over ttrpc's limit is refused and does not affect other clients (ttrpc
/// de273bf, ttrpc-rust 430466d).
#[test]
fn a_message_over_the_limit_is_refused() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    let length = MESSAGE_MAX + 1;
    let mut connection = send(&shim, u32::try_from(length).unwrap(), 1, 1, &vec![0; length]);
    connection.set_read_timeout(Some(deadline::PATIENCE)).unwrap();
    let mut answer = Vec::new();
    let mut some = [0; 4096];
    // The shim must answer with an error or close the connection; it must not stay silent.
    let count = connection.read(&mut some).expect("an answer or the end");
    answer.extend(&some[..count]);
    assert!(count == 0 || String::from_utf8_lossy(&answer).contains("exceed"), "{answer:?}");
    serves(&shim);
}

/// Check that the largest process document that fits into a message reaches the runtime.
#[test]
fn the_largest_message_is_accepted() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    let spec = format!(r#"{{"args":["{}"]}}"#, "x".repeat(MESSAGE_MAX - 1000));
    let mut request = exec_request("web", "probe");
    request.spec =
        Some(any("types.containerd.io/opencontainers/runtime-spec/1/Process", spec)).into();
    shim.exec_with(&request).unwrap();
    node.runtime().before("exec", "wc -c <\"$process\" >\"$home/size\"");
    shim.start("web", "probe").unwrap();
    let size: usize =
        std::fs::read_to_string(node.runtime().file("size")).unwrap().trim().parse().unwrap();
    assert!(size > MESSAGE_MAX - 1000, "{size}");
}

/// Check that invalid frames end at most their own connection.
#[test]
fn invalid_frames_harm_no_other_client() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let init = shim.run(&bundle);
    for (length, stream, kind, body) in [
        (8, 1, 1, [0xff; 8].as_slice()),
        (0, 1, 1, [].as_slice()),
        (8, 2, 1, [0; 8].as_slice()),
        (8, 0, 0, [0; 8].as_slice()),
        (8, 1, 99, [0; 8].as_slice()),
        (u32::MAX, 1, 1, [0; 8].as_slice()),
        (100, 1, 1, [1; 10].as_slice()),
        (8, 7, 3, [0; 8].as_slice()),
    ] {
        let connection = send(&shim, length, stream, kind, body);
        serves(&shim);
        drop(connection);
    }
    serves(&shim);
    assert!(init.lives());
}

/// Check that a client that sends and never reads does not affect other clients (ttrpc 1b4f6f8).
#[test]
fn a_client_that_never_reads_harms_no_other_client() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    let mut connection = UnixStream::connect(shim.socket()).unwrap();
    connection.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    // The answer of State is as long as the request, so unread answers fill the socket.
    let request = request("State", "web");
    let mut sent = 0_u32;
    loop {
        let mut frame = Vec::new();
        frame.extend(u32::try_from(request.len()).unwrap().to_be_bytes());
        frame.extend((sent * 2 + 1).to_be_bytes());
        frame.extend([1, 0]);
        frame.extend(&request);
        if sent == 20_000 || connection.write_all(&frame).is_err() {
            break;
        }
        sent += 1;
    }
    assert!(sent > 100, "{sent}");
    serves(&shim);
    drop(connection);
    shim.remove("web");
    assert!(shim.process.resident_kib() < 64 << 10, "{} kB", shim.process.resident_kib());
}

/// Check that a client with many connections, each with a large unfinished request, is cut off, and
/// costs little memory meanwhile.
#[test]
fn unfinished_requests_are_bounded() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    let length = u32::try_from(MESSAGE_MAX).unwrap();
    let part = vec![0; MESSAGE_MAX - 1];
    let connections: Vec<_> = (0..300).map(|_| send(&shim, length, 1, 1, &part)).collect();
    serves_another_process(&shim);
    assert!(shim.process.resident_kib() < 64 << 10, "{} kB", shim.process.resident_kib());
    let descriptors = shim.process.descriptors().len();
    assert!(descriptors < 200, "{descriptors}");
    drop(connections);
    serves(&shim);
    shim.remove("web");
}

/// Check that a client with more unanswered requests than any container needs is cut off, and that
/// its requests leave nothing.
#[test]
fn unanswered_requests_are_bounded() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    let before = shim.process.resident_kib();
    let mut connection = UnixStream::connect(shim.socket()).unwrap();
    let request = request("Wait", "web");
    let sent = (0..40_000).take_while(|&sent| {
        let mut frame = u32::try_from(request.len()).unwrap().to_be_bytes().to_vec();
        frame.extend((sent * 2 + 1_u32).to_be_bytes());
        frame.extend([1, 0]);
        frame.extend(&request);
        connection.write_all(&frame).is_ok()
    });
    let sent = sent.count();
    assert!((2000..40_000).contains(&sent), "{sent}");
    serves(&shim);
    let grown = || shim.process.resident_kib().saturating_sub(before);
    deadline::until("the memory", || grown() < 16 << 10);
    shim.remove("web");
}

/// Checks that the shim still serves requests of another process than this one.
#[track_caller]
fn serves_another_process(shim: &Shim) {
    let body = request("Connect", "web");
    let header = [u32::try_from(body.len()).unwrap().to_be_bytes(), 1_u32.to_be_bytes()].concat();
    let frame = [header, vec![1, 0], body].concat();
    let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
    // perl is part of each Debian.
    let script = r#"use Socket; alarm 3; socket(S, PF_UNIX, SOCK_STREAM, 0) or die $!;
                    connect(S, sockaddr_un($ARGV[0])) or die $!;
                    syswrite(S, pack("H*", $ARGV[1])); sysread(S, $b, 10) == 10 or die"#;
    let perl = std::process::Command::new("perl")
        .args(["-e", script, &shim.socket().to_string_lossy(), &hex])
        .output()
        .unwrap();
    assert!(perl.status.success(), "{}", String::from_utf8_lossy(&perl.stderr));
}

/// Check that events are sent over the socket: the publish binary that containerd names is never
/// run (docker/for-linux#779).
#[test]
fn the_publish_binary_is_never_run() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let binary = node.runtime().path();
    let shim = node.start_verb(&bundle).publish_binary(&binary).shim();
    let daemon = node.daemon();
    daemon.stop_listening();
    shim.run(&bundle);
    shim.remove("web");
    daemon.listen_again();
    daemon.wait_for("delete web 137");
    let verbs: Vec<_> =
        node.runtime().all_calls().iter().map(|call| call.verb().unwrap().to_owned()).collect();
    assert_eq!(verbs, ["create", "start", "kill", "delete"]);
}
