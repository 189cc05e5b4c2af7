//! The model, from events.

mod formats;

use proptest::prelude::*;

use super::{
    build::{Builder, Window},
    html, markdown,
    model::{Report, State},
    perfetto, tree,
};
use crate::api::{
    Container, ContainerClose, ContainerStart, Ended, Event, Gap, Owner, Parent, Port, Process,
    event::Body,
};

const SECOND: u64 = 1_000_000_000;
/// 2023-11-14T22:13:20Z.
const BEGAN: u64 = 1_700_000_000 * SECOND;

/// Events of one container, in the order in which they are added.
#[derive(Default)]
struct Story {
    events: Vec<Event>,
}

impl Story {
    /// Adds an event of this many milliseconds after the beginning.
    fn add(&mut self, at_ms: u64, type_: &str, body: Body) {
        self.events.push(Event {
            seq: self.events.len() as u64 + 1,
            epoch: "5f3a".into(),
            type_: type_.into(),
            time_ns: BEGAN + at_ms * 1_000_000,
            monotonic_ns: 77 * SECOND + at_ms * 1_000_000,
            grade: "exact".into(),
            container: Some(Container {
                namespace: "default".into(),
                id: "web".into(),
                ..Default::default()
            })
            .into(),
            body: Some(body),
            ..Default::default()
        });
    }

    fn process(&mut self, at_ms: u64, type_: &str, process: Process) {
        self.add(at_ms, &format!("process.{type_}"), Body::Process(process));
    }

    fn gap(&mut self, at_ms: u64, from_ms: u64, lost: Option<u64>) {
        let monotonic = |ms: u64| 77 * SECOND + ms * 1_000_000;
        let (from_ns, to_ns) = (monotonic(from_ms), monotonic(at_ms));
        let gap = Gap { lost, stage: "kernel".into(), from_ns, to_ns, ..Default::default() };
        self.add(at_ms, "observer.gap", Body::Gap(gap));
    }

    fn close(&mut self, at_ms: u64) {
        let close =
            ContainerClose { seen: Some(9), delivered: 7, lost: Some(2), ..Default::default() };
        self.add(at_ms, "container.close", Body::ContainerClose(close));
    }

    fn built(&self) -> Builder {
        let mut builder = Builder::default();
        self.events.iter().for_each(|event| builder.add(event));
        builder
    }

    /// The report of a container that has ended.
    fn ended(&self) -> Report {
        self.built().finish(Window::default())
    }
}

/// A process with an identity of its own.
fn process(pid: i32, parent_pid: i32, args: &[&[u8]]) -> Process {
    Process {
        pid,
        parent_pid,
        entity_id: format!("e{pid}"),
        origin: if parent_pid == 0 { "init" } else { "descendant" }.into(),
        executable: args.first().map(|arg| arg.to_vec()),
        args: args.iter().map(|arg| arg.to_vec()).collect(),
        ..Default::default()
    }
}

fn exited(process: &Process, code: u32) -> Process {
    let ended = Ended { code: Some(code), status: Some(code), ..Default::default() };
    Process { ended: Some(ended).into(), ..process.clone() }
}

fn killed(process: &Process) -> Process {
    let ended = Ended {
        signal: "SIGKILL".into(),
        status: Some(137),
        oom_killed: true,
        ..Default::default()
    };
    Process { ended: Some(ended).into(), ..process.clone() }
}

/// Each process as `depth:pid:status`.
fn outline(report: &Report) -> Vec<String> {
    let line = |process: &super::model::Process| {
        format!("{}:{}:{}", process.depth, process.pid, process.status_text())
    };
    report.processes.iter().map(line).collect()
}

/// A shell that makes two programs: one fails, and one is a fork without a program of its own.
fn build() -> Story {
    let mut story = Story::default();
    let (shell, make) = (process(10, 0, &[b"sh"]), process(11, 10, &[b"make"]));
    let (cc, fork) = (process(12, 11, &[b"cc", b"a.c"]), process(13, 11, &[b"make"]));
    let mut exec = process(20, 3, &[b"probe"]);
    (exec.origin, exec.exec_id) = ("exec".into(), "probe-1".into());
    let mut left = process(21, 20, &[b"sleep"]);
    left.exec_id = "probe-1".into();
    story.add(0, "container.start", Body::ContainerStart(ContainerStart::default()));
    story.process(1, "start", shell.clone());
    story.process(2, "fork", process(11, 10, &[b"sh"]));
    story.process(3, "start", make.clone());
    story.process(4, "fork", process(12, 11, &[b"make"]));
    story.process(5, "start", cc.clone());
    story.process(6, "fork", fork.clone());
    story.process(7, "exit", exited(&fork, 0));
    story.process(8, "exit", exited(&cc, 1));
    story.process(9, "start", exec.clone());
    story.process(10, "fork", process(21, 20, &[b"probe"]).clone());
    story.process(11, "start", left.clone());
    story.process(12, "exit", exited(&exec, 0));
    story.process(14, "exit", killed(&left));
    story.process(20, "exit", exited(&make, 2));
    story.process(21, "exit", exited(&shell, 2));
    story.close(25);
    story
}

/// Check the tree, the times, the ends and the counts of an ordinary container.
#[test]
fn a_container_is_a_tree_of_processes() {
    let report = build().ended();
    assert_eq!(
        outline(&report),
        [
            "0:10:exit 2",
            "1:11:exit 2",
            "2:12:exit 1",
            "2:13:exit 0",
            "0:20:exit 0",
            "1:21:SIGKILL (OOM)"
        ]
    );
    let [_, make, cc, fork, ..] = &report.processes[..] else { panic!("six processes") };
    // From the fork, and not from the exec.
    assert_eq!((cc.start.unwrap().0, cc.duration_ns), (BEGAN + 4_000_000, Some(4_000_000)));
    assert_eq!((make.children.as_slice(), cc.parent), ([2, 3].as_slice(), Some(1)));
    assert_eq!((make.program.command.as_str(), fork.program.command.as_str()), ("make", "make"));
    assert_eq!((make.is_fork, fork.is_fork), (false, true));
    let [exec] = &report.execs[..] else { panic!("one exec") };
    assert_eq!((exec.exec_id.as_str(), exec.process, exec.processes), ("probe-1", 4, 2));
    assert_eq!((report.init, report.is_running), (Some(0), false));
    assert_eq!((report.counts.processes, report.counts.failures), (6, 4));
    assert_eq!(report.accounts[0].sum(), "seen 9 = delivered 7 + lost 2");
    assert_eq!(report.duration_ns, 25_000_000);
}

/// Check that a container that runs has open bars up to now, and that its list of processes adds
/// those without events and shows which exits were lost.
#[test]
fn a_living_container_has_open_bars() {
    let mut story = Story::default();
    let (old, lost) = (process(10, 0, &[b"old"]), process(12, 10, &[b"lost"]));
    story.process(5, "fork", process(11, 10, &[b"old"]));
    story.process(6, "fork", lost.clone());
    story.process(7, "fork", process(13, 10, &[b"after"]));
    let mut builder = story.built();
    let mut listed = [old, process(11, 10, &[b"new"])];
    listed[0].created_ns = BEGAN - 60 * SECOND;
    // The list was made before the last event.
    builder.add_living("5f3a", 2, &listed);
    let now = BEGAN + SECOND;
    let report = builder.finish(Window { runs_until_ns: Some(now), ..Window::default() });
    assert_eq!(
        outline(&report),
        ["0:10:running", "1:11:running", "1:12:end not seen", "1:13:running"]
    );
    let old = &report.processes[0];
    assert_eq!(old.bar, (BEGAN + 5_000_000, now), "drawn from the first known event on");
    assert_eq!(old.start.unwrap().0, BEGAN - 60 * SECOND);
    assert_eq!(report.processes[1].program.command, "new");
    assert!(report.is_running);
    assert_eq!(report.init, Some(0));
    // Nothing of it runs, and it is not deleted yet.
    let mut events = build();
    events.events.pop();
    let stopped = events.built().finish(Window { runs_until_ns: Some(now), ..Window::default() });
    assert_eq!((stopped.is_running, stopped.to.0), (false, BEGAN + 21_000_000));
}

/// Check that the processes of an ended container without an exit have an end that was not seen,
/// and that the account ends those of a run before the next run begins.
#[test]
fn an_end_that_no_event_shows_is_unknown() {
    let mut story = Story::default();
    story.process(1, "start", process(10, 0, &[b"first"]));
    story.close(5);
    story.add(9, "container.start", Body::ContainerStart(ContainerStart::default()));
    story.process(10, "start", Process { entity_id: "again".into(), ..process(10, 0, &[b"x"]) });
    let report = story.ended();
    assert_eq!(outline(&report), ["0:10:end not seen", "0:10:end not seen"]);
    assert_eq!(report.processes[0].bar.1, BEGAN + 5_000_000);
    assert_eq!((report.processes[0].end, report.accounts.len()), (None, 1));
}

/// Check that a pid that is used again is another process, with and without identities, and that
/// its children belong to the process of their time.
#[test]
fn a_pid_is_not_an_identity() {
    for has_id in [true, false] {
        let mut story = Story::default();
        let id = |process: Process, id: &str| Process {
            entity_id: if has_id { id.to_owned() } else { String::new() },
            ..process
        };
        let first = id(process(10, 1, &[b"first"]), "a");
        let second = id(process(10, 1, &[b"second"]), "b");
        story.process(1, "fork", first.clone());
        story.process(2, "fork", id(process(20, 10, &[b"child"]), "c"));
        story.process(3, "exit", exited(&first, 1));
        story.process(5, "fork", second.clone());
        story.process(6, "fork", id(process(21, 10, &[b"child"]), "d"));
        // The exit of the second was lost.
        story.process(9, "fork", id(process(10, 1, &[b"third"]), "e"));
        story.close(12);
        let report = story.ended();
        assert_eq!(
            outline(&report),
            [
                "0:10:exit 1",
                "1:20:end not seen",
                "0:10:end not seen",
                "1:21:end not seen",
                "0:10:end not seen"
            ],
            "{has_id}"
        );
        assert_eq!(report.processes[2].bar.1, BEGAN + 9_000_000);
    }
}

/// Check gaps: their bounds in real time, one of the stream before the first event, and one that is
/// outside of the time of the report.
#[test]
fn gaps_have_their_times() {
    let mut story = Story::default();
    story.process(0, "start", process(10, 0, &[b"sh"]));
    story.gap(30, 10, Some(5));
    story.gap(90, 80, None);
    story.close(100);
    let mut builder = story.built();
    let gap = Gap { lost: Some(3), stage: "journal".into(), ..Default::default() };
    builder.add(&Event {
        type_: "observer.gap".into(),
        time_ns: BEGAN + 7000 * SECOND,
        body: Some(Body::Gap(gap)),
        ..Default::default()
    });
    let report = builder.finish(Window::default());
    let gaps: Vec<_> = report
        .gaps
        .iter()
        .map(|gap| ((gap.from.0 - BEGAN) / 1_000_000, (gap.to.0 - BEGAN) / 1_000_000, gap.lost))
        .collect();
    assert_eq!(gaps, [(0, 0, Some(3)), (10, 30, Some(5)), (80, 90, None)]);
    let window = Window { since_ns: BEGAN + 50_000_000, ..Window::default() };
    assert_eq!(story.built().finish(window).gaps.len(), 1);
}

/// Check that `--since` leaves out what had ended, and keeps what still ran.
#[test]
fn a_report_can_begin_later() {
    let story = build();
    let window = Window { since_ns: BEGAN + 13_000_000, ..Window::default() };
    let report = story.built().finish(window);
    // The parent of the killed process has ended before.
    assert_eq!(outline(&report), ["0:10:exit 2", "1:11:exit 2", "0:21:SIGKILL (OOM)"]);
    assert_eq!(report.processes[0].bar.0, BEGAN + 13_000_000);
    assert_eq!(report.processes[0].start.unwrap().0, BEGAN + 1_000_000);
}

/// Check that a port opens and closes, that one can be open before the first event, and that it
/// names its owner.
#[test]
fn ports_have_their_times_and_owners() {
    let mut story = Story::default();
    story.process(1, "start", process(10, 0, &[b"httpd"]));
    let owner = Owner { pid: 10, entity_id: "e10".into(), ..Default::default() };
    let port = |number: u32| Port {
        transport: "tcp".into(),
        address: "::".into(),
        port: number,
        owners: vec![owner.clone()],
        ..Default::default()
    };
    story.add(2, "port.close", Body::Port(port(1)));
    story.add(3, "port.open", Body::Port(port(80)));
    story.add(4, "port.close", Body::Port(port(80)));
    story.add(5, "port.open", Body::Port(port(80)));
    story.add(6, "port.open", Body::Port(port(81)));
    story.close(9);
    story.add(10, "container.start", Body::ContainerStart(ContainerStart::default()));
    story.add(11, "port.open", Body::Port(port(82)));
    let window = Window { runs_until_ns: Some(BEGAN + SECOND), ..Window::default() };
    let report = story.built().finish(window);
    let ports: Vec<_> = report.ports.iter().map(|one| (one.port, one.open, one.state)).collect();
    let at = |ms: u64| Some(super::model::Time(BEGAN + ms * 1_000_000));
    assert_eq!(
        ports,
        [
            (1, None, State::Ended),
            (80, at(3), State::Ended),
            (80, at(5), State::Unknown),
            (81, at(6), State::Unknown),
            (82, at(11), State::Running)
        ]
    );
    assert_eq!(report.ports[1].owners[0].process, Some(0));
    assert_eq!(report.ports[1].endpoint(), "tcp [::]:80");
}

/// Check that processes that name each other or themselves as parents are all in the tree, once.
#[test]
fn parents_in_a_circle_are_roots() {
    let mut story = Story::default();
    story.process(1, "start", process(10, 11, &[b"a"]));
    story.process(1, "start", process(11, 10, &[b"b"]));
    story.process(1, "start", process(12, 12, &[b"c"]));
    let mut report = story.ended();
    report.processes.sort_by_key(|process| process.pid);
    let pids: Vec<i32> = report.processes.iter().map(|process| process.pid).collect();
    assert_eq!(pids, [10, 11, 12]);
}

/// Check that a hundred thousand processes do not take quadratic time, neither in a chain nor
/// beside each other with one pid; and that what is printed is bounded.
#[test]
fn many_processes_take_linear_time() {
    const MANY: i32 = 100_000;
    for is_chain in [true, false] {
        let mut story = Story::default();
        for number in 1..=MANY {
            let mut one = process(number, number - 1, &[b"true"]);
            if !is_chain {
                (one.pid, one.parent_pid) = (7, 7);
            }
            let at = u64::try_from(number).unwrap();
            story.process(at, "fork", one.clone());
            if number % 3 > 0 {
                story.process(at + 1, "exit", exited(&one, 0));
            }
        }
        story.close(200_000);
        let began = std::time::Instant::now();
        let report = story.ended();
        assert_eq!(report.processes.len(), 100_000);
        let sizes = [
            html::page(&report).unwrap().len() / 5000,
            markdown::page(&report).len() / 300,
            perfetto::trace(&report).len() / 100_000,
        ];
        assert!(sizes.iter().all(|row| (50..1000).contains(row)), "{sizes:?}");
        // A deep chain may not fit as a whole.
        let chosen = tree::chosen(&report.processes, 5000).len();
        assert!((4900..=5000).contains(&chosen), "{chosen}");
        // A quadratic step would take minutes.
        let took = began.elapsed();
        assert!(took.as_secs() < 60, "{took:?}");
    }
}

/// Check that a long list keeps the failures and the longest, with their ancestors.
#[test]
fn a_long_list_keeps_failures() {
    let mut story = build();
    for pid in 100..200 {
        let one = process(pid, 11, &[b"true"]);
        story.process(30, "fork", one.clone());
        story.process(31, "exit", exited(&one, 0));
    }
    let report = story.ended();
    let pids: Vec<i32> = tree::chosen(&report.processes, 5).iter().map(|one| one.pid).collect();
    assert_eq!(pids, [10, 11, 12, 20, 21]);
    let text = html::page(&report).unwrap();
    assert!(!text.contains("left out"), "{text}");
}

proptest! {
    /// Check that every process is in the tree once, below a parent that comes before it, whatever
    /// events come in whatever order; and that every format takes it.
    #[test]
    fn every_process_is_in_the_tree_once(
        steps in proptest::collection::vec(
            (0_u64..50, 0_usize..7, 1_i32..6, 0_i32..6, 0_u8..3),
            0..60,
        ),
        since in 0_u64..60,
        runs in any::<bool>(),
    ) {
        let mut story = Story::default();
        for (at, kind, pid, parent_pid, id) in steps {
            let mut one = process(pid, parent_pid, &[b"x"]);
            one.entity_id = match id {
                0 => String::new(),
                id => format!("{id}-{pid}"),
            };
            let parent = Parent {
                pid: parent_pid,
                entity_id: format!("1-{parent_pid}"),
                ..Default::default()
            };
            one.parent = Some(parent).into();
            match ["fork", "start", "exec", "exit", "done", "close", "gap"][kind] {
                "close" => story.close(at),
                "gap" => story.gap(at, at / 2, None),
                "exit" => story.process(at, "exit", exited(&one, 1)),
                type_ => story.process(at, type_, one),
            }
        }
        let runs_until_ns = runs.then_some(BEGAN + SECOND);
        let window = Window { since_ns: BEGAN + since * 1_000_000, runs_until_ns };
        let report = story.built().finish(window);
        for (at, process) in report.processes.iter().enumerate() {
            prop_assert_eq!(process.id, at);
            prop_assert!(process.parent.is_none_or(|parent| parent < at));
            let is_child = |child: &usize| report.processes[*child].parent == Some(at);
            prop_assert!(process.children.iter().all(is_child));
            let (start, end) = process.bar;
            prop_assert!(report.from.0 <= start && start <= end && end <= report.to.0);
        }
        prop_assert!(html::page(&report).is_ok());
        markdown::page(&report);
        perfetto::trace(&report);
    }
}
