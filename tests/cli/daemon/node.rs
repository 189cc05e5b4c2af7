//! Tests of how the daemon follows the node's shims.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::net::{UnixListener, UnixStream},
    thread,
    time::{Duration, Instant},
};

use lookout::{
    api::{ContainerActive, ContainerIdle, ContainerProcess, Process, StatusResponse, event::Body},
    linux::process::start_ticks,
};
use serde_json::Value;

use super::{Daemon, Node, PATIENCE, Sleeper, command, log_of, ok, request, run};
use crate::{
    fake::Script,
    script::{alive, container, event, gap, life, open_ports, port_life},
};

/// The type and seq of each event in the stream's file.
fn stream(node: &Node) -> Vec<(String, u64)> {
    let text = fs::read_to_string(node.path().join("registry/stream.jsonl")).unwrap_or_default();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines
        .map(|line| {
            (
                line["type"].as_str().unwrap_or_default().to_owned(),
                line["seq"].as_u64().unwrap_or(0),
            )
        })
        .collect()
}

#[track_caller]
fn wait(what: &str, node: &Node, is: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "{what}: {:?}\n{}", stream(node), log_of(node));
        thread::sleep(Duration::from_millis(10));
    }
}

/// Check that the stream of a daemon that was killed and restarted has each event once.
#[test]
fn the_stream_continues_after_a_kill() {
    let node = Node::new();
    let all = life("web");
    let script =
        Script { events: all[..2].to_vec(), processes: alive("web"), ..Default::default() };
    let shim = node.shim("web", script);
    let seqs = |node: &Node| {
        stream(node).iter().map(|(_, seq)| *seq).filter(|seq| *seq > 0).collect::<Vec<_>>()
    };
    let daemon = Daemon::start(&node);
    wait("the first events", &node, || seqs(&node).len() == 2);
    daemon.kill();
    all[2..4].iter().cloned().for_each(|event| shim.emit(event));
    let daemon = Daemon::start(&node);
    wait("the events of the meantime", &node, || seqs(&node).len() == 4);
    shim.emit(all[4].clone());
    wait("a new event", &node, || seqs(&node).len() == 5);
    let wanted: Vec<u64> = all[..5].iter().map(|event| event.seq).collect();
    assert_eq!(seqs(&node), wanted);
    // Each start of the daemon reports that no daemon ran before it.
    assert_eq!(stream(&node).iter().filter(|(type_, _)| type_ == "observer.gap").count(), 2);
    assert_eq!(daemon.term(), 0);
}

/// Check that the daemon's view of the ports starts with the shim's list, follows its events, is
/// refreshed after a gap, and is counted in the metrics.
#[test]
fn the_view_has_the_open_ports() {
    let node = Node::new();
    let script = Script { processes: alive("web"), ports: open_ports("web"), ..Default::default() };
    let shim = node.shim("web", script);
    let _daemon = Daemon::start(&node);
    let ports = || run(&node, &["ports", "--daemon", "-q"]).out;
    wait("the list", &node, || ports() == "[::]:80\n127.0.0.1:8080\n");
    let [open, close] = port_life("web").try_into().expect("two events");
    shim.emit(open);
    wait("a port that opens", &node, || ports() == "[::]:80\n127.0.0.1:8080\n127.0.0.1:9000\n");
    let text = request(&node.path().join("metrics.sock"), "GET /metrics HTTP/1.1\r\n\r\n");
    assert!(text.lines().any(|line| line == "lookout_container_ports 3"), "{text}");
    shim.emit(close);
    wait("a port that closes", &node, || ports() == "[::]:80\n127.0.0.1:8080\n");
    let answer =
        ok(&node, &["ports", "--daemon", "-o", "json", "--container", "web", "-n", "default"]);
    let answer: Value = serde_json::from_str(&answer).expect("an array");
    let listed: Value =
        serde_json::from_str(&ok(&node, &["ports", "-o", "json"])).expect("an array");
    assert_eq!((&answer[0], &answer[1]), (&listed[1], &listed[0]));
    shim.script.lock().expect("a script").ports.truncate(1);
    shim.emit(gap(3, "web", None));
    wait("a new list after a gap", &node, || ports() == "127.0.0.1:8080\n");
    assert_eq!(ok(&node, &["ports", "--daemon", "-q", "-n", "k8s.io"]), "");
    let ran = run(&node, &["ports", "--daemon", "--container", "db"]);
    assert_eq!((ran.code, ran.err.as_str()), (3, "lookout: container db not found\n"));
    assert_eq!(run(&node, &["ports", "--daemon", "--watch"]).code, 2);
}

/// Check that every one of 65,536 ports is listed, by the shim and by the daemon.
#[test]
fn any_number_of_ports_is_listed() {
    const COUNT: u32 = 65_536;
    let node = Node::new();
    let one = open_ports("web").remove(0);
    let ports = (0..COUNT).map(|number| {
        let mut open = one.clone();
        open.port.mut_or_insert_default().address = format!("10.0.{}.1", number % 256);
        open.port.mut_or_insert_default().port = number / 256 + 1;
        open
    });
    let _shim = node.shim("web", Script { ports: ports.collect(), ..Default::default() });
    let listed = |flags: &[&str]| {
        let out = run(&node, &[&["ports", "-q"], flags].concat()).out;
        out.lines().map(str::to_owned).collect::<std::collections::HashSet<_>>().len()
    };
    assert_eq!(listed(&[]), COUNT as usize);
    let _daemon = Daemon::start(&node);
    wait("the list", &node, || listed(&["--daemon"]) == COUNT as usize);
}

/// Check that a shim without a connection is named, and that the ports of other shims are printed.
#[test]
fn a_shim_without_a_connection_is_named() {
    let node = Node::new();
    let _shim = node.shim(
        "web",
        Script { processes: alive("web"), ports: open_ports("web"), ..Default::default() },
    );
    node.register("db");
    let _daemon = Daemon::start(&node);
    wait("the list", &node, || run(&node, &["ports", "--daemon", "-q"]).out.lines().count() == 2);
    wait("the other shim", &node, || run(&node, &["ports", "--daemon"]).code == 4);
    let ran = run(&node, &["ports", "--daemon"]);
    assert!(
        ran.err.contains("the daemon is not connected to shim db") && ran.out.contains("8080"),
        "{ran:?}"
    );
    ok(&node, &["ports", "--daemon", "--container", "web"]);
    assert_eq!(run(&node, &["ports", "--daemon", "--container", "db"]).code, 4);
}

/// Check that a shim is not reported as connected while its connection is broken.
#[test]
fn a_broken_connection_is_reported() {
    let node = Node::new();
    let mut shim =
        node.shim("web", Script { events: life("web")[..2].to_vec(), ..Default::default() });
    let _daemon = Daemon::start(&node);
    let is_connected = |wanted: &str| {
        let text = request(&node.path().join("metrics.sock"), "GET /metrics HTTP/1.1\r\n\r\n");
        let number = text.lines().find_map(|line| line.strip_prefix("lookout_shims_connected "));
        number == Some(wanted) && text.lines().any(|line| line == "lookout_shims 1")
    };
    for _ in 0..2 {
        wait("a connection", &node, || is_connected("1"));
        assert_eq!(run(&node, &["ports", "--daemon"]).code, 0);
        shim.stop();
        wait("its end", &node, || is_connected("0"));
        let ran = run(&node, &["ports", "--daemon"]);
        assert_eq!(
            (ran.code, ran.err.as_str()),
            (4, "lookout: the daemon is not connected to shim web\n")
        );
        shim.serve();
    }
    wait("a connection", &node, || is_connected("1"));
}

/// Check that each image is served as a line of the probe format, and that the metrics are
/// OpenMetrics.
#[test]
fn probes_and_metrics_are_served() {
    let node = Node::new();
    let probe = node.path().join("probe.sock");
    let mut daemon = command(&node, &["daemon"]);
    let _daemon = Daemon::spawn(daemon.env("LOOKOUT_PROBE_SOCKET", &probe), &node);
    let mut lines = BufReader::new(UnixStream::connect(&probe).expect("it serves")).lines();
    // Probes are not kept for later readers: give the daemon time to accept this one.
    thread::sleep(Duration::from_millis(200));
    let _shim = node.shim("web", Script { events: life("web"), ..Default::default() });
    let line = lines.next().expect("a line").expect("UTF-8");
    let probe: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(
        probe
            .as_object()
            .map(|object| object.keys().cloned().collect::<Vec<_>>())
            .unwrap_or_default(),
        ["command", "pid", "timestamp"]
    );
    assert_eq!(probe["pid"], 4016);
    let metrics = node.path().join("metrics.sock");
    wait("all events", &node, || stream(&node).iter().any(|(type_, _)| type_ == "container.close"));
    let text = request(&metrics, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(
        text.starts_with("HTTP/1.1 200 OK\r\nContent-Type: application/openmetrics-text"),
        "{text}"
    );
    for line in ["lookout_events_total{type=\"container.close\"} 1", "lookout_shims 1", "# EOF"] {
        assert!(text.lines().any(|one| one == line), "{line} is not in {text}");
    }
    assert!(!text.contains("4016") && !text.contains("web"), "{text}");
    assert!(request(&metrics, "GET /else HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
    assert!(request(&metrics, "PUT / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405"));
}

/// Check that unpublished task events are in the metrics and in the page of a container, and that a
/// shim that does not answer is not counted as a shim without them.
#[test]
fn unpublished_events_are_reported() {
    let node = Node::new();
    let status = StatusResponse {
        unpublished_events: 3,
        unpublished_bytes: 400,
        oldest_unpublished_ns: Some(1),
        ..Default::default()
    };
    let _web = node.shim("web", Script { status, processes: alive("web"), ..Default::default() });
    let _db = node.shim("db", Script { processes: alive("db"), ..Default::default() });
    node.register("gone");
    let _daemon = Daemon::start(&node);
    let text = request(&node.path().join("metrics.sock"), "GET /metrics HTTP/1.1\r\n\r\n");
    for line in [
        "lookout_shims_answering 2",
        "lookout_unpublished_events 3",
        "lookout_unpublished_bytes 400",
    ] {
        assert!(text.lines().any(|one| one == line), "{line} is not in {text}");
    }
    let oldest =
        text.lines().find_map(|line| line.strip_prefix("lookout_oldest_unpublished_seconds "));
    let oldest: f64 = oldest.and_then(|text| text.parse().ok()).expect("a number");
    // The oldest event is from 1970.
    assert!(oldest > 1e9, "{oldest}");
    let page = run(&node, &["inspect", "web"]).out;
    assert!(page.contains("\nunpublished 3 task events, the oldest for "), "{page}");
    let page: Value = serde_json::from_str(&run(&node, &["inspect", "web", "-o", "json"]).out)
        .expect("an object");
    assert_eq!(
        page["shim"]["unpublished"],
        serde_json::json!({"events":3,"bytes":400,"oldest_ns":1})
    );
    // A shim that accepts connections and never answers delays the scrape by half a second only.
    let _silent = UnixListener::bind(node.register("silent")).expect("a socket");
    let began = Instant::now();
    let text = request(&node.path().join("metrics.sock"), "GET /metrics HTTP/1.1\r\n\r\n");
    assert!(text.lines().any(|one| one == "lookout_shims_answering 2"), "{text}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// Check that the daemon knows which containers are idle, from a shim's list and from its events,
/// and that the commands show it.
#[test]
fn the_view_has_the_idle_containers() {
    let node = Node::new();
    let sleeper = Sleeper::new();
    let pid: i32 = sleeper.pid().parse().expect("a pid");
    let start = start_ticks(pid).expect("it lives");
    let entity_id = format!("c0ffee00{pid:08x}{start:x}");
    let process = Some(Process { pid, entity_id, ..Default::default() }).into();
    let process = ContainerProcess {
        container: Some(container("web")).into(),
        process,
        ..Default::default()
    };
    let script =
        Script { processes: vec![process], idle: vec![container("web")], ..Default::default() };
    let shim = node.shim("web", script);
    let _daemon = Daemon::start(&node);
    let is_idle = |wanted: bool| {
        let rows: Value =
            serde_json::from_str(&ok(&node, &["stats", "--containers", "-o", "json"]))
                .expect("an array");
        rows[0]["container"] == "web" && rows[0]["idle"] == wanted
    };
    wait("the list", &node, || is_idle(true));
    assert!(ok(&node, &["stats", "--containers"]).contains(" web (idle) "));
    let page = ok(&node, &["inspect", "web"]);
    assert!(page.contains("\nstate       running, idle\n"), "{page}");
    shim.emit(event(
        1,
        "web",
        "container.active",
        Body::ContainerActive(ContainerActive::default()),
    ));
    wait("it to be active", &node, || is_idle(false));
    shim.emit(event(2, "web", "container.idle", Body::ContainerIdle(ContainerIdle::default())));
    wait("it to be idle", &node, || is_idle(true));
}

/// Check that metrics are not served at an address that other machines can reach.
#[test]
fn metrics_are_served_locally_only() {
    let node = Node::new();
    let mut daemon = command(&node, &["daemon"]);
    let ran = daemon.env("LOOKOUT_METRICS_ADDRESS", "0.0.0.0:0").output().expect("it runs");
    let err = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!((ran.status.code(), err.contains("metrics_address")), (Some(1), true), "{err}");
}
