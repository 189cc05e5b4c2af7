use std::sync::Arc;

use super::*;
use crate::{
    model::{Body, Container, Ended, Event, Gap, Process, Stage},
    observe::{
        encode::Encoder,
        stream::{
            journal::Journal,
            tests::{CLOCK, exit, identity, process},
        },
    },
};

fn event(body: Body) -> Event {
    super::super::tests::event(1, body)
}

fn event_of(container: &str, body: Body) -> Event {
    let container = Container { id: container.into(), ..Container::default() };
    Event { container: Some(Arc::new(container)), ..event(body) }
}

/// Calls `act` with an event as the journal encodes it.
fn journaled<T>(event: &Event, act: impl FnOnce(&Encoded<'_>) -> T) -> T {
    let mut journal = Journal::new(usize::MAX);
    journal.append(event, Encoder::new(&identity(), CLOCK));
    act(&journal.oldest_event().expect("an event"))
}

fn gap() -> Body {
    Body::Gap(Gap { lost: None, stage: Stage::Kernel, from_ns: 0, to_ns: 0 })
}

fn passes(wanted: FilterSpec, event: &Event) -> bool {
    let filters = Filters::compile(&[wanted]).expect("a filter");
    journaled(event, |event| filters.matching(event).is_some())
}

fn types(names: &[&str]) -> FilterSpec {
    FilterSpec {
        types: names.iter().map(|name| (*name).to_owned()).collect(),
        ..FilterSpec::default()
    }
}

/// Check that types are matched by name and by group, and that any other text is refused and named.
#[test]
fn types_are_names_or_groups() {
    let exit = event(exit(1, 0));
    assert!(passes(types(&["process.exit"]), &exit));
    assert!(passes(types(&["observer.gap", "process.*"]), &exit));
    assert!(!passes(types(&["process.exec"]), &exit));
    assert!(!passes(types(&["container.*"]), &exit));
    for unknown in
        ["process", "process.", "process.exi", "proc*", "*", "", ".*", "hello", "process.*.*"]
    {
        let refused = Filters::compile(&[types(&[unknown])]).expect_err(unknown);
        assert_eq!(refused.to_string(), format!("unknown event type {unknown:?}"));
    }
}

/// Check that a filter by container passes events of the whole shim, but no event of another
/// container.
#[test]
fn a_container_filter_passes_events_of_the_shim_and_not_of_other_containers() {
    let web = FilterSpec { container_id: "web".into(), ..FilterSpec::default() };
    assert!(passes(web.clone(), &event_of("web", exit(1, 0))));
    assert!(passes(web.clone(), &event_of("web", gap())));
    assert!(passes(web.clone(), &event(gap())));
    assert!(!passes(web.clone(), &event_of("db", gap())));
    assert!(!passes(web.clone(), &event_of("db", exit(1, 0))));
    assert!(!passes(web, &event(exit(1, 0))));
}

/// Check each field that matches a property of the process.
#[test]
fn fields_of_a_process_are_matched() {
    let exec = Process {
        origin: Origin::Exec,
        exec_id: Some("e".into()),
        ..(*process(1, "/usr/bin/env")).clone()
    };
    let exec = event(Body::Start(Arc::new(exec)));
    let plain = event(Body::Start(process(2, "/bin/sh")));
    let exec_id = |id: &str| FilterSpec { exec_id: Some(id.into()), ..FilterSpec::default() };
    let executable = |path: &str| FilterSpec { executable: path.into(), ..FilterSpec::default() };
    let origin = |name: &str| FilterSpec { origin: name.into(), ..FilterSpec::default() };
    assert!(passes(exec_id("e"), &exec) && !passes(exec_id("e"), &plain));
    assert!(passes(exec_id(""), &plain) && !passes(exec_id(""), &exec));
    assert!(passes(executable("env"), &exec) && passes(executable("/usr/bin/env"), &exec));
    assert!(!passes(executable("bin/env"), &exec) && !passes(executable("en"), &exec));
    assert!(passes(origin("exec"), &exec) && passes(origin("descendant"), &plain));
    assert!(!passes(origin("init"), &exec));
    assert!(!passes(exec_id(""), &event(gap())), "a gap has no process");
    let refused = Filters::compile(&[origin("parent")]).expect_err("no such origin");
    assert_eq!(refused.to_string(), "unknown origin \"parent\"");
}

/// Check that failures are exits with a status other than 0, by signal too, and that an exit with
/// an unknown status is none.
#[test]
fn failures_are_exits_with_a_known_nonzero_status() {
    let failures = FilterSpec { failures: true, ..FilterSpec::default() };
    let ended = |ended| {
        event(Body::Exit {
            process: process(1, "/bin/sh"),
            ended,
            oom_killed: false,
            run_time_ns: None,
        })
    };
    assert!(passes(failures.clone(), &ended(Some(Ended::Code(1)))));
    assert!(passes(failures.clone(), &ended(Some(Ended::Signal(9)))));
    assert!(!passes(failures.clone(), &ended(Some(Ended::Code(0)))));
    assert!(!passes(failures.clone(), &ended(None)));
    assert!(!passes(failures, &event(gap())));
}

/// Check that each of several filters has its own limit and cooldown, and that the result names
/// those that matched.
#[test]
fn each_filter_has_its_own_limit_and_cooldown() {
    let first = FilterSpec { limit: 2, ..types(&["process.exit"]) };
    let second = FilterSpec { cooldown: Duration::from_nanos(10), ..types(&["process.*"]) };
    let mut filters = Filters::compile(&[first, second]).expect("filters");
    let mut at = |monotonic_ns| {
        let matched =
            journaled(&Event { monotonic_ns, ..event(exit(1, 0)) }, |event| filters.admit(event));
        matched.map(|matched| matched.filters().collect::<Vec<_>>())
    };
    assert_eq!(at(100), Some(vec![0, 1]));
    assert_eq!(at(109), Some(vec![0]));
    assert_eq!(at(109), None);
    assert_eq!(at(110), Some(vec![1]));
    assert_eq!(at(119), None);
}

/// Check that filters that can never match again have no event types, so that no event wakes their
/// subscriber.
#[test]
fn exhausted_filters_match_no_type() {
    let mut filters =
        Filters::compile(&[FilterSpec { limit: 1, ..FilterSpec::default() }]).expect("a filter");
    assert!(journaled(&event(gap()), |event| filters.admit(event)).is_some());
    assert_eq!(filters.kinds(), 0);
}

/// Check that the number of filters is limited, and that the error names the limit.
#[test]
fn too_many_filters_are_refused() {
    assert!(Filters::compile(&vec![FilterSpec::default(); FILTERS_MAX]).is_ok());
    let refused =
        Filters::compile(&vec![FilterSpec::default(); FILTERS_MAX + 1]).expect_err("too many");
    assert_eq!(refused.to_string(), "33 filters are more than the limit of 32");
}
