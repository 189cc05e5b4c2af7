//! What the daemon answers from its history.

use std::{
    io::Write as _,
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    process::Command,
};

use containerd_shim_protos::{
    protobuf::Message as _,
    ttrpc::proto::{MESSAGE_TYPE_REQUEST, MessageHeader, Request},
};
use lookout::{
    api::{Event, Filter, HistoryContainersRequest, HistoryEventsRequest, Process, event::Body},
    client::Daemon as Client,
};

use crate::{
    daemon::{Node, run},
    script::{BEGAN_NS, SPACING_NS, Script, Shim},
};

/// How many events each of two shims has emitted.
const EVENTS: u64 = 900;

/// A node of which the history has [`EVENTS`] events of each of two shims.
fn stored() -> (Node, [Shim; 2]) {
    let mut node = Node::new(&[]);
    let shims = ["web", "db"].map(|id| {
        let shim = Shim::start(node.path(), Script::new(id, 100_000));
        shim.finish_at(EVENTS);
        shim
    });
    node.start();
    node.until("the events", || {
        shims.iter().all(|shim| node.cursor(&shim.script.epoch()) == EVENTS)
    });
    (node, shims)
}

/// All events of the shims, in the order of time.
fn emitted(shims: &[Shim]) -> Vec<Event> {
    let all = |shim: &Shim| (1..=EVENTS).map(|seq| shim.script.event(seq)).collect::<Vec<_>>();
    sorted(shims.iter().flat_map(all).collect())
}

/// Two events with the same time are answered in the order in which they came, so they are put into
/// a fixed one.
fn sorted(mut events: Vec<Event>) -> Vec<Event> {
    events.sort_by(|one, other| (one.time_ns, &one.epoch).cmp(&(other.time_ns, &other.epoch)));
    events
}

/// Asserts that a request is answered with those of `all` that match, in the order of time.
#[track_caller]
fn check(node: &Node, request: &HistoryEventsRequest, all: &[Event], is: impl Fn(&Event) -> bool) {
    let wanted: Vec<Event> = all.iter().filter(|one| is(one)).cloned().collect();
    let (state, got) = node.events(request);
    assert!(got.is_sorted_by_key(|event| event.time_ns), "{request:?}");
    assert_eq!(state.unavailable, "");
    assert!(!wanted.is_empty(), "{request:?}");
    assert_eq!(got.len(), wanted.len(), "{request:?}");
    assert_eq!(sorted(got), sorted(wanted), "{request:?}");
}

fn filter(filter: Filter) -> HistoryEventsRequest {
    HistoryEventsRequest { filters: vec![filter], ..Default::default() }
}

fn process(event: &Event) -> Option<&Process> {
    match &event.body {
        Some(Body::Process(process)) => Some(process),
        _ => None,
    }
}

fn is_of(event: &Event, shim: &Shim) -> bool {
    event.epoch == shim.script.epoch()
}

/// Check the times, the container and the tail of a request: the answer has the events that match,
/// in order, with all of their contents.
#[test]
fn a_request_gets_the_events_of_a_time_and_of_a_container() {
    let (node, shims) = stored();
    let all = emitted(&shims);
    check(&node, &HistoryEventsRequest::new(), &all, |_| true);
    let (from_ns, to_ns) = (BEGAN_NS + 100 * SPACING_NS, BEGAN_NS + 200 * SPACING_NS);
    let request = HistoryEventsRequest { from_ns, to_ns, ..Default::default() };
    check(&node, &request, &all, |one| (from_ns..=to_ns).contains(&one.time_ns));
    let container_id = shims[0].script.container_id();
    let mut request = HistoryEventsRequest { container_id, ..Default::default() };
    check(&node, &request, &all, |one| is_of(one, &shims[0]));
    request.tail = 7;
    check(&node, &request, &all, |one| is_of(one, &shims[0]) && one.seq > EVENTS - 7);
    for request in [
        HistoryEventsRequest { namespace: "moby".into(), ..Default::default() },
        HistoryEventsRequest { container_id: "none".into(), ..Default::default() },
    ] {
        assert_eq!(node.events(&request).1, []);
    }
}

/// Check each field of a filter, and that limits and labels have an effect.
#[test]
fn a_request_gets_the_events_that_a_filter_matches() {
    let (node, shims) = stored();
    let all = emitted(&shims);
    let types = vec!["process.exit".to_owned(), "container.*".to_owned()];
    check(&node, &filter(Filter { types, ..Default::default() }), &all, |one| {
        one.type_ == "process.exit" || one.type_.starts_with("container.")
    });
    let status = |one: &Event| process(one)?.ended.as_ref()?.status;
    check(&node, &filter(Filter { failures: true, ..Default::default() }), &all, |one| {
        status(one).is_some_and(|status| status > 0)
    });
    for exec_id in ["probe", ""] {
        let request = filter(Filter { exec_id: Some(exec_id.into()), ..Default::default() });
        check(&node, &request, &all, |one| process(one).is_some_and(|one| one.exec_id == exec_id));
    }
    let request = filter(Filter { origin: "exec".into(), ..Default::default() });
    check(&node, &request, &all, |one| process(one).is_some_and(|one| one.origin == "exec"));
    for executable in ["curl", "/usr/bin/curl"] {
        let request = filter(Filter { executable: executable.into(), ..Default::default() });
        check(&node, &request, &all, |one| process(one).is_some());
    }
    let request = filter(Filter { executable: "url".into(), ..Default::default() });
    assert_eq!(node.events(&request).1, []);
    let container_id = shims[1].script.container_id();
    let request = filter(Filter { container_id, ..Default::default() });
    check(&node, &request, &all, |one| is_of(one, &shims[1]));
    let filters = vec![
        Filter { failures: true, label: "bad".into(), limit: 3, ..Default::default() },
        Filter { types: vec!["container.start".into()], ..Default::default() },
    ];
    let (_, got) = node.events(&HistoryEventsRequest { filters, ..Default::default() });
    assert_eq!(got.iter().filter(|one| one.labels == ["bad"]).count(), 3);
    assert_eq!(got.len(), 5);
}

/// Check that a request with an unknown type is refused.
#[test]
fn an_unknown_type_is_refused() {
    let mut node = Node::new(&[]);
    node.start();
    let filters = vec![Filter { types: vec!["made.up".into()], ..Default::default() }];
    let request = HistoryEventsRequest { filters, ..Default::default() };
    let refused = run(async {
        let client = Client::connect(&node.path().join("daemon.sock")).await.unwrap();
        client.history_events(&request).await.unwrap().next().await
    });
    let refused = refused.unwrap_err();
    assert!(refused.is_usage(), "{refused}");
    assert_eq!(refused.to_string(), "unknown event type \"made.up\"");
}

/// Check the containers of the history, of which one has ended with its shim.
#[test]
fn containers_are_listed_after_their_end() {
    let mut node = Node::new(&[]);
    let web = Shim::start(node.path(), Script::new("web", 1000));
    web.finish_at(30);
    node.start();
    node.until("the events", || node.cursor(&web.script.epoch()) == 30);
    node.kill();
    let (web_id, web_epoch) = (web.script.container_id(), web.script.epoch());
    drop(web);
    let db = Shim::start(node.path(), Script::new("db", 1000));
    db.finish_at(30);
    node.start();
    node.until("the events", || node.cursor(&db.script.epoch()) == 30);
    let (state, containers) = run(async {
        let client = Client::connect(&node.path().join("daemon.sock")).await.unwrap();
        client.history_containers(&HistoryContainersRequest::new()).await.unwrap()
    });
    assert!(state.complete_since_ns > BEGAN_NS);
    let [web, db] = containers.try_into().unwrap();
    assert_eq!((&web.container.id, &web.epoch), (&web_id, &web_epoch));
    assert_eq!(web.container.k8s.pod_name, "web-7d4b9c8f6d-x2x4z");
    assert_eq!((web.started_ns, web.init_pid), (Some(BEGAN_NS + SPACING_NS), 4000));
    assert!(web.ended_ns.is_some() && db.ended_ns.is_none());
    let request = HistoryEventsRequest { container_id: web_id, ..Default::default() };
    let (_, events) = node.events(&request);
    // The shim ended while no daemon ran, so its last events may be missing.
    let gap = events.last().unwrap();
    assert_eq!((events.len(), gap.gap().lost, &*gap.gap().stage), (31, None, "history"));
}

/// Check that the documented view can be read with sqlite3 while the daemon runs, and that no other
/// user can read the files.
#[test]
fn sqlite3_reads_the_history_and_only_its_owner_may() {
    let (node, [web, _]) = stored();
    let query = format!(
        "SELECT time, type, pid, origin, exec_id, exe, args, status, cgroup FROM event_log \
         WHERE container = '{}' AND seq = 32",
        web.script.container_id()
    );
    let output = Command::new("sqlite3").arg(node.database()).arg(query).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let id = web.script.container_id();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        format!(
            "2026-11-18T11:06:40.032000000Z|process.exit|5010|exec|probe|/usr/bin/curl|\
             [\"curl\",\"--silent\",\"--output\",\"/tmp/32\"]|0|\
             /kubepods.slice/kubepods-besteffort.slice/cri-containerd-{id}.scope\n"
        )
    );
    for name in ["history.db", "history.db-wal", "history.db-shm"] {
        let path = node.path().join("registry").join(name);
        let mode = std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

/// Check that clients that never read their answers do not keep events from being stored, nor the
/// write-ahead log from being emptied.
#[test]
fn a_client_that_stops_reading_does_not_block_the_writer() {
    let mut node = Node::new(&[("LOOKOUT_HISTORY_SIZE", "32MiB")]);
    let shim = Shim::start(node.path(), Script::new("web", 1000));
    node.start();
    let epoch = shim.script.epoch();
    node.until("some events", || node.cursor(&epoch) > 1000);
    // As many as are answered at once.
    let stuck: Vec<UnixStream> = (0..4).map(|_| request_without_reading(&node)).collect();
    let reached = node.cursor(&epoch);
    node.until("the next events", || node.cursor(&epoch) > reached + 3000);
    assert_eq!(node.metric("lookout_history_lost_events_total"), 0);
    let log = node.path().join("registry/history.db-wal");
    let length = std::fs::metadata(log).unwrap().len();
    assert!(length <= 4 << 20, "{length} bytes");
    drop(stuck);
    // Once they have gone, others are answered.
    let (_, events) = node.events(&HistoryEventsRequest { tail: 5, ..Default::default() });
    assert_eq!(events.len(), 5);
}

/// Sends a request for all events, and does not read the answer.
fn request_without_reading(node: &Node) -> UnixStream {
    let request = Request {
        service: "lookout.v1.Registry".into(),
        method: "HistoryEvents".into(),
        ..Default::default()
    };
    let body = request.write_to_bytes().unwrap();
    let length = u32::try_from(body.len()).unwrap();
    let header = MessageHeader { length, stream_id: 1, type_: MESSAGE_TYPE_REQUEST, flags: 0 };
    let mut socket = UnixStream::connect(node.path().join("daemon.sock")).unwrap();
    socket.write_all(&[Vec::from(header), body].concat()).unwrap();
    socket
}
