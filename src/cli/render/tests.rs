use insta::assert_snapshot;
use unicode_width::UnicodeWidthStr as _;

use super::{events::EventRows, *};
use crate::{
    api::{
        Capability, Container, ContainerClose, ContainerProcess, Ended, Event, Gap, Hello,
        Kubernetes, Parent, Process, Throttle, event::Body,
    },
    cli::{
        args::{Format, parse_event_format},
        output::Style,
    },
    model::is_unsafe_to_print,
};

fn event(type_name: &str, body: Body) -> Event {
    let k8s = Kubernetes {
        namespace: "shop".into(),
        pod_name: "web-0".into(),
        pod_uid: "7d".into(),
        container_name: "app".into(),
        ..Default::default()
    };
    let container = Container {
        namespace: "k8s.io".into(),
        id: "web".into(),
        k8s: Some(k8s).into(),
        ..Default::default()
    };
    Event {
        seq: 17,
        epoch: "5f3a".into(),
        type_: type_name.into(),
        time_ns: 1_795_228_079_845_909_727,
        monotonic_ns: 412_345_678_901,
        grade: "exact".into(),
        source: "bpf".into(),
        container: Some(container).into(),
        body: Some(body),
        ..Default::default()
    }
}

fn process() -> Process {
    Process {
        pid: 4211,
        vpid: Some(17),
        parent_pid: 4016,
        entity_id: "c0ffee00000010731f".into(),
        created_ns: 1_795_228_079_840_000_000,
        origin: "exec".into(),
        exec_id: "probe-1".into(),
        executable: Some(b"/bin/sleep".into()),
        args: vec![b"sleep".into(), b"1".into()],
        args_count: Some(2),
        args_bytes: Some(8),
        working_directory: Some(b"/".into()),
        uid: Some(0),
        gid: Some(0),
        cgroup: "/k8s.io/web".into(),
        parent: Some(Parent {
            pid: 4016,
            executable: Some(b"/bin/sh".into()),
            ..Default::default()
        })
        .into(),
        ..Default::default()
    }
}

/// One event of each type, with edge cases: hostile arguments, absent fields, unknown bodies.
fn events() -> Vec<Event> {
    let ended = |code: Option<u32>, signal: &str, status: Option<u32>, oom_killed: bool| {
        let ended = Ended { code, signal: signal.into(), status, oom_killed, ..Default::default() };
        event("process.exit", Body::Process(Process { ended: Some(ended).into(), ..process() }))
    };
    let capability = Capability {
        category: "process".into(),
        support: "partial".into(),
        backend: "connector".into(),
        reason: "bpf is refused".into(),
        ..Default::default()
    };
    let hostile = Process {
        args: vec![b"\xff\\".into(), "\u{1b}[2J\u{202e}\u{9b}".into(), Vec::new()],
        args_count: Some(900),
        args_bytes: Some(100_000),
        args_truncated: true,
        args_redacted: true,
        ..process()
    };
    let unknown = Process {
        pid: 4300,
        origin: "injected".into(),
        comm: Some(b"sh".into()),
        unknown: "gone".into(),
        ..Default::default()
    };
    let own_gap = Gap {
        lost: Some(12),
        stage: "subscriber".into(),
        from_ns: 1,
        to_ns: 2_500_001,
        ..Default::default()
    };
    vec![
        event("process.start", Body::Process(process())),
        event("process.exec", Body::Process(hostile)),
        event("process.fork", Body::Process(unknown)),
        ended(Some(0), "", Some(0), false),
        ended(None, "SIGKILL", Some(137), true),
        ended(None, "", None, false),
        event(
            "process.done",
            Body::Process(Process { after_exit_ns: Some(1_500_000_000), ..process() }),
        ),
        event(
            "process.held",
            Body::Process(Process {
                holders: vec![process().parent.unwrap_or_default()],
                ..process()
            }),
        ),
        event(
            "container.close",
            Body::ContainerClose(ContainerClose { delivered: 4, runtime: 2, ..Default::default() }),
        ),
        event(
            "observer.gap",
            Body::Gap(Gap { lost: None, stage: "kernel".into(), ..Default::default() }),
        ),
        Event { seq: 0, container: None.into(), ..event("observer.gap", Body::Gap(own_gap)) },
        event(
            "observer.throttle",
            Body::Throttle(Throttle { withheld: 9, over_ns: 1_000_000, ..Default::default() }),
        ),
        event("observer.capability", Body::Capability(capability.clone())),
        Event {
            seq: 0,
            container: None.into(),
            ..event(
                "hello",
                Body::Hello(Hello {
                    schema_version: 1,
                    capabilities: vec![capability],
                    ..Default::default()
                }),
            )
        },
        Event { body: None, ..event("port.open", Body::Gap(Gap::default())) },
    ]
}

fn render_all(format: &Format) -> String {
    let mut rows = EventRows::new(format.clone(), Style::default());
    let text: String = events().iter().map(|one| rows.format(one)).collect();
    rows.header() + &text + rows.footer()
}

fn all_formats() -> Vec<Format> {
    let columns = "custom-columns=TYPE:.type,ARGS:.process.command_args,POD:.k8s.pod.name";
    let named = ["table", "wide", "json", "jsonl", "probe", "yaml", columns];
    named.iter().map(|name| parse_event_format(name).unwrap()).collect()
}

/// Check each event type in each format against a reviewed snapshot.
#[test]
fn every_event_type_is_formatted_as_in_the_snapshot() {
    for (name, format) in ["table", "wide", "json", "jsonl", "probe", "yaml", "columns"]
        .into_iter()
        .zip(all_formats())
    {
        let text = render_all(&format);
        if format == Format::Json {
            let array: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
            assert_eq!(array.len(), events().len());
        } else {
            assert_snapshot!(name, text);
        }
    }
}

/// Check that no format prints unsafe characters of a container.
#[test]
fn no_format_prints_unsafe_characters() {
    for format in all_formats() {
        let text = render_all(&format);
        assert!(!text.replace('\n', "").contains(is_unsafe_to_print), "{text}");
    }
}

/// The width of a terminal, long ids of a runtime or of Kubernetes, and texts of any script.
fn narrow(width: usize) -> Style {
    Style {
        width: Some(width),
        has_short_ids: true,
        clock: crate::cli::clock::Clock::Utc,
        ..Style::default()
    }
}

/// Check against reviewed snapshots that each row shows who did what on a narrow terminal, with ids
/// of 64 digits, names of Kubernetes, CJK and hostile arguments.
#[test]
fn each_row_says_what_happened_at_any_width() {
    let id = "5f3a9c".repeat(11)[..64].to_owned();
    let named = events();
    let unnamed: Vec<Event> = events()
        .into_iter()
        .map(|mut event| {
            if let Some(container) = event.container.as_mut() {
                *container = Container { id: id.clone(), ..Default::default() };
            }
            if let Some(Body::Process(process)) = &mut event.body {
                process.args = vec!["/usr/bin/容器".into(), "a-long-argument".repeat(9).into()];
            }
            event
        })
        .collect();
    for width in [60, 80, 120] {
        let mut rows = EventRows::new(Format::Table, narrow(width));
        let text: String = named.iter().chain(&unnamed).map(|one| rows.format(one)).collect();
        let text = rows.header() + &text;
        for line in text.lines() {
            assert!(line.width() <= width, "{line}");
        }
        assert_snapshot!(format!("events_at_{width}"), text);
    }
}

/// Check that only events of failures and losses are coloured.
#[test]
fn only_failures_are_red() {
    let style = Style { is_coloured: true, ..Style::default() };
    let red = |index: usize| {
        EventRows::new(Format::Table, style).format(&events()[index]).contains("\x1b[31m")
    };
    assert_eq!([0, 3, 4, 9].map(red), [false, false, true, true]);
}

/// Check that a command is cut in the middle, that a deep chain keeps its commands, and that a
/// locale without UTF-8 gets ASCII.
#[test]
fn a_tree_fits_into_the_terminal() {
    let chain: Vec<ContainerProcess> = (0..30)
        .map(|depth| ContainerProcess {
            process: Some(Process {
                pid: 100 + depth,
                parent_pid: 99 + depth,
                origin: "descendant".into(),
                exec_id: "probe".into(),
                args: vec!["/bin/sh".into(), "-c".into(), "x".repeat(70).into()],
                ..Default::default()
            })
            .into(),
            ..Default::default()
        })
        .collect();
    let text = tree::format_trees(&chain, Style { is_ascii: true, ..narrow(80) });
    assert!(text.is_ascii() || text.contains('…'), "{text}");
    assert!(!text.contains(['└', '│']), "{text}");
    for line in text.lines().skip(1) {
        assert!(line.width() <= 80 && line.contains("/bin/") && line.ends_with(']'), "{line}");
    }
}

/// Check that each process is shown once, also if processes name each other as parent, or form a
/// long chain.
#[test]
fn a_tree_shows_each_process_once() {
    let list = |parents: Vec<(i32, i32)>| -> Vec<ContainerProcess> {
        let one = |(pid, parent_pid)| ContainerProcess {
            process: Some(Process { pid, parent_pid, origin: "init".into(), ..Default::default() })
                .into(),
            ..Default::default()
        };
        parents.into_iter().map(one).collect()
    };
    let lines =
        |parents| tree::format_trees(&list(parents), Style { is_quiet: true, ..Style::default() });
    assert_snapshot!(lines(vec![(1, 2), (2, 1), (3, 3), (4, 9), (4, 9)]), @r"
    ├─ 3 ? [init]
    ├─ 4 ? [init]
    └─ 1 ? [init]
       └─ 2 ? [init]
    ");
    assert_eq!(lines((2..2000).map(|pid| (pid, pid - 1)).collect()).lines().count(), 1998);
}

/// Check that the lowest support is shown if shims differ.
#[test]
fn of_several_answers_the_lowest_support_is_shown() {
    let one = |category: &str, support: &str| crate::client::json::Capability {
        category: category.into(),
        support: support.into(),
        backend: String::new(),
        reason: String::new(),
    };
    let answers = [
        vec![one("lifecycle", "supported"), one("process", "partial")],
        vec![one("lifecycle", "unavailable"), one("process", "supported")],
    ];
    assert_eq!(
        capabilities::lowest_support(&answers),
        [one("lifecycle", "unavailable"), one("process", "partial")]
    );
}
