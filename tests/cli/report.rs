//! The command `lookout report`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use lookout::api::{Container, Event, Kubernetes, event::Body};
use serde_json::{Value, json};

use super::{
    fake::{Fake, Node, Script},
    run::{command, run},
    script::{TIME_NS, alive, event, exit, gap, life, port, process, start},
};

/// What another program finds in a document.
fn read(kind: &str, content: &[u8]) -> Value {
    let tools = std::env::var_os("LOOKOUT_TOOLS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools"), PathBuf::from);
    let python = tools.join("perfetto/bin/python");
    assert!(python.exists(), "{} is missing: run hack/setup", python.display());
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("report");
    fs::write(&file, content).expect("a new file");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/report.py");
    let output = Command::new(python).arg(script).args([kind.as_ref(), file.as_os_str()]).output();
    let output = output.expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn report(node: &Node, args: &[&str]) -> (i32, Vec<u8>) {
    let output = command(node, &[&["report"], args].concat()).output().expect("it runs");
    (output.status.code().expect("no signal ended it"), output.stdout)
}

fn object(node: &Node, args: &[&str]) -> (i32, Value) {
    let (code, out) = report(node, &[args, &["-o", "json"]].concat());
    (code, serde_json::from_slice(&out).expect("JSON"))
}

/// The processes of a report as pid, parent's id, state and status.
fn processes(report: &Value) -> Vec<Value> {
    let all = report["processes"].as_array().expect("a list").iter();
    all.map(|one| json!([one["pid"], one["parent"], one["state"], one["status"]])).collect()
}

/// A shim of which the container has ended, with a port.
fn ended(node: &Node, id: &str) -> Fake {
    let mut events = life(id);
    events.insert(3, port_event("port.open"));
    events.insert(4, port_event("port.close"));
    numbered(&mut events);
    node.shim(id, Script { events, ..Default::default() })
}

fn port_event(type_name: &str) -> Event {
    let port = port("127.0.0.1", 8080, "loopback", &[(4211, "/bin/sleep")]);
    event(1, "web", type_name, Body::Port(port))
}

fn numbered(events: &mut [Event]) {
    for (seq, event) in (1..).zip(events) {
        (event.seq, event.time_ns) = (seq, TIME_NS + seq * 1_000_000);
    }
}

/// Check the report of a container that has ended, of which the shim still has the journal.
#[test]
fn an_ended_container_is_reported() {
    let node = Node::new();
    let _shim = ended(&node, "web");
    let (code, report) = object(&node, &["web"]);
    assert_eq!(code, 0, "{report}");
    assert_eq!(
        processes(&report),
        [json!([4016, null, "ended", 5]), json!([4211, 0, "ended", 0])],
        "{report}"
    );
    assert_eq!(report["container"], json!({"namespace": "default", "id": "web"}));
    assert_eq!(
        (&report["from"], &report["to"], &report["is_running"]),
        (
            &json!("2023-11-14T22:13:20.001000000Z"),
            &json!("2023-11-14T22:13:20.008000000Z"),
            &json!(false)
        )
    );
    assert_eq!(report["execs"], json!([{"exec_id": "probe-1", "process": 1, "processes": 1}]));
    assert_eq!(report["ports"][0]["owners"][0]["process"], 1);
    assert_eq!(report["accounts"][0]["seen"], report["accounts"][0]["delivered"]);
    let page = run(&node, &["report", "web", "-o", "html"]);
    assert_eq!((page.code, page.err.as_str()), (0, ""), "{}", page.out);
    assert!(page.out.contains("tcp 127.0.0.1:8080"), "{}", page.out);
    let text = run(&node, &["report", "web"]);
    assert!(text.out.starts_with("## Container <code>default/web</code>\n"), "{}", text.out);
}

/// Check that a container that runs has open bars up to now, names of Kubernetes, and the processes
/// of which the journal has no event.
#[test]
fn a_running_container_is_reported() {
    let node = Node::new();
    let k8s = Kubernetes {
        namespace: "shop".into(),
        pod_name: "web-0".into(),
        container_name: "app".into(),
        ..Default::default()
    };
    let container =
        Container { namespace: "default".into(), id: "web".into(), ..Default::default() };
    let script = Script {
        events: vec![start(1, "web", process(4017, 4016, &["/bin/work"]))],
        processes: alive("web"),
        containers: vec![Container { k8s: Some(k8s).into(), ..container }],
        ..Default::default()
    };
    let _shim = node.shim("web", script);
    let (code, report) = object(&node, &["web-0"]);
    assert_eq!((code, &report["is_running"]), (0, &json!(true)), "{report}");
    assert_eq!(report["container"]["pod"], "web-0");
    let pids: Vec<i64> = processes(&report).iter().map(|one| one[0].as_i64().unwrap()).collect();
    assert_eq!(pids, [4016, 4017, 4019, 4018, 4211], "{report}");
    assert_eq!(report["counts"]["running"], 5);
}

/// Check the exit status: a gap makes a report incomplete, and there is none without a container.
#[test]
fn the_exit_status_says_what_is_missing() {
    let node = Node::new();
    let mut events = life("web");
    events.insert(2, gap(1, "web", Some(3)));
    numbered(&mut events);
    let _shim = node.shim("web", Script { events, ..Default::default() });
    let (code, report) = object(&node, &["web"]);
    assert_eq!((code, &report["gaps"][0]["lost"]), (5, &json!(3)), "{report}");
    // The times of the gap are before those of its event.
    let (code, later) = object(&node, &["web", "--since", "2023-11-14T22:13:20.0055Z"]);
    assert_eq!((code, &later["gaps"]), (0, &json!([])), "{later}");
    let (_, sooner) = object(&node, &["web", "--until", "2023-11-14T22:13:20.0055Z"]);
    assert_eq!(processes(&sooner)[0], json!([4016, null, "running", null]), "{sooner}");
    let none = run(&node, &["report", "nope", "-o", "html"]);
    assert_eq!((none.code, none.err.as_str()), (3, "lookout: container nope not found\n"));
    assert_eq!(none.out, "");
}

/// Check that a report is about one container: a pod of two is refused, with their names.
#[test]
fn a_name_of_several_containers_is_refused() {
    let node = Node::new();
    let named = |id: &str, name: &str| {
        let k8s = Kubernetes {
            pod_name: "web-0".into(),
            container_name: name.into(),
            ..Default::default()
        };
        Container {
            namespace: "default".into(),
            id: id.into(),
            k8s: Some(k8s).into(),
            ..Default::default()
        }
    };
    let containers = vec![named("a1", "app"), named("b2", "sidecar")];
    let _shim = node.shim("a1", Script { containers, ..Default::default() });
    let ran = run(&node, &["report", "web-0"]);
    let message = "lookout: a report is about one container, and 2 have this name: default/a1, \
                   default/b2\n";
    assert_eq!((ran.code, ran.err.as_str()), (2, message));
}

/// Check with a parser of HTML that a hostile text adds no element and no attribute to a page, and
/// that it is there as text.
#[test]
fn a_text_of_a_container_is_text_in_a_page() {
    let texts = [
        "</td></table><script>alert(1)</script>",
        "\" onmouseover=\"alert(1)\" '",
        "</style><style>*{display:none}</style>",
        "--><!-- <![CDATA[ &lt;b&gt; {{ 7 * 7 }}",
        "\u{202e}\u{1b}[2J\0",
    ];
    let page = |args: &[&str], bytes: &[u8]| {
        let node = Node::new();
        let mut one = process(4016, 0, args);
        one.args.push(bytes.to_vec());
        one.exec_id = args[0].into();
        let open = port("::", 80, "wildcard", &[(4016, args[0])]);
        let mut events = vec![
            start(1, "web", one.clone()),
            event(2, "web", "port.open", Body::Port(open)),
            exit(3, "web", one, 1),
        ];
        numbered(&mut events);
        let _shim = node.shim("web", Script { events, ..Default::default() });
        let (code, out) = report(&node, &["web", "-o", "html", "--until", "2023-11-15"]);
        assert_eq!(code, 0);
        read("html", &out)
    };
    let (hostile, plain) = (page(&texts, b"<b>\xff"), page(&["x"], b"y"));
    for part in ["elements", "attributes", "unbalanced"] {
        assert_eq!(hostile[part], plain[part], "{part}");
    }
    assert_eq!(plain["unbalanced"], json!([]));
    let elements = hostile["elements"].as_object().expect("a map");
    for absent in ["script", "link", "img", "iframe", "form", "object", "svg"] {
        assert!(!elements.contains_key(absent), "{absent}");
    }
    let title = hostile["titles"][0].as_str().expect("a text");
    for text in &texts[..4] {
        assert!(title.contains(&text.replace('\'', r"'\''")), "{text}: {title}");
    }
    assert!(title.contains(r"\u202e\x1b[2J\x00") && title.contains(r"<b>\xff"), "{title}");
}

/// Check with Perfetto's own classes that a trace has a track for each process below that of its
/// parent, a slice for each run, and instants for ports and gaps.
#[test]
fn a_trace_is_as_perfetto_reads_it() {
    let node = Node::new();
    let mut events = life("web");
    let child = process(4300, 4016, &["/bin/false", "<a>"]);
    events.insert(3, start(1, "web", child.clone()));
    events.insert(4, exit(1, "web", child, 1));
    events.insert(5, port_event("port.open"));
    events.insert(6, port_event("port.close"));
    events.insert(7, gap(1, "web", None));
    numbered(&mut events);
    let _shim = node.shim("web", Script { events, ..Default::default() });
    let (code, out) = report(&node, &["web", "-o", "perfetto"]);
    assert_eq!(code, 5, "there is a gap");
    let trace = read("perfetto", &out);
    let shell = "4016 /bin/sh -c 'sleep 1 & exit 5'";
    let tracks = [
        ("default/web", None),
        (shell, Some("default/web")),
        ("4300 /bin/false '<a>'", Some(shell)),
        ("4211 /bin/sleep 1", Some(shell)),
        ("ports", Some("default/web")),
        ("gaps", Some("default/web")),
    ];
    let tracks = tracks.map(|(name, parent)| json!({"name": name, "parent": parent}));
    assert_eq!(trace["tracks"], json!(tracks));
    let slices = trace["slices"].as_array().expect("a list");
    assert_eq!(slices.len(), 3);
    let failed = &slices[1];
    assert_eq!(failed["args"]["argv"], json!(["/bin/false", "<a>"]));
    assert_eq!((&failed["args"]["exit_status"], &failed["args"]["pid"]), (&json!(1), &json!(4300)));
    assert_eq!(failed["category"], json!(["failure"]));
    assert_eq!(failed["end"], json!(TIME_NS + 5_000_000));
    let exec = &slices[2]["args"];
    assert_eq!((&exec["exec_id"], &exec["origin"]), (&json!("probe-1"), &json!("exec")));
    let instants: Vec<&Value> =
        trace["instants"].as_array().expect("a list").iter().map(|one| &one["name"]).collect();
    let named =
        ["open tcp 127.0.0.1:8080", "close tcp 127.0.0.1:8080", "an unknown number of events lost"];
    assert_eq!(json!(instants), json!(named));
    assert_eq!(trace["clocks"]["1"], trace["clocks"]["6"]);
}
