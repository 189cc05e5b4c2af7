//! What a source that does not see everything has stated about the walks: it may miss processes,
//! and say less about those that it reports, but nothing that it says may be false.

use std::collections::BTreeMap;

use super::{
    compare::{Comparison, Events, Walk, describe, events_by_process, of_kind, states_end},
    log::{Attempt, Birth, Identity, Log},
};
use crate::harness::containerd::ObservedEvent;

/// Finds the events of a round that state something false.
///
/// Neither the parent is compared, which is that of `/proc` and not the forker, nor arguments that
/// were read from `/proc`, which a process may have overwritten, nor a `partial` status; the grade
/// says so. A process with
/// the origin `unknown` is one that was found in the cgroup of the container, from wherever it
/// came.
pub(super) fn find_false_statements(
    log: &Log,
    walks: &BTreeMap<u32, Walk>,
    events: &[ObservedEvent],
) -> Comparison {
    let mut result = Comparison::default();
    let waited: BTreeMap<Identity, u32> = log.waits.iter().copied().collect();
    let mut reported = events_by_process(events);
    // Which of several processes an event means cannot be said.
    let repeated = log.repeated();
    reported.retain(|identity, _| !repeated.contains_key(identity));
    for birth in log.births.iter().skip(1) {
        let Some(identity) = birth.identity else { continue };
        result.processes += 1;
        let Some(events) = reported.remove(&identity) else {
            result.missing += 1;
            continue;
        };
        let mut wrong = Vec::new();
        check_place(&walks[&birth.walk], birth, &events, &mut wrong);
        check_images(birth, &events, &mut wrong);
        check_end(birth, waited.get(&identity).copied(), &events, &mut wrong);
        if !wrong.is_empty() {
            let (how, all) = (&birth.how, describe(&events));
            let wrong = wrong.join("\n  ");
            result.differences.push(format!("{identity:?} by {how}:\n  {wrong}{all}"));
        }
    }
    // A process that was killed before it ran is known by its forker only.
    for (identity, events) in reported {
        if !is_unborn(log, &events) {
            result.differences.push(format!("{identity:?} is in no walk: {}", describe(&events)));
        }
    }
    result
}

/// Whether these may be the events of a process that its forker made, and that was killed before it
/// ran. A scan finds it with the image of its forker.
fn is_unborn(log: &Log, events: &Events<'_>) -> bool {
    let ran = events.iter().any(|event| {
        ["process.start", "process.exec"].contains(&event.kind())
            && event.text("/grade") != "snapshot"
    });
    let unborn = log.births.iter().skip(1).any(|birth| birth.identity.is_none());
    unborn && !ran
}

fn check_place(walk: &Walk, birth: &Birth, events: &Events<'_>, wrong: &mut Vec<String>) {
    let (origin, exec_id) = (walk.origin_of(birth), walk.exec_id());
    for event in events {
        let (container, found) = (event.container(), event.text("/origin"));
        if container != walk.container && found != "unknown" {
            wrong.push(format!("{}: in {container}, not {}", event.kind(), walk.container));
        }
        if ![origin, "unknown"].contains(&found) {
            wrong.push(format!("{}: the origin {found}, not {origin}", event.kind()));
        }
        let found = event.text("/containerd/exec_id");
        if !found.is_empty() && found != exec_id {
            wrong.push(format!("{}: of exec {found}, not {exec_id}", event.kind()));
        }
        // It is read from `/proc` after the event. The walks use pids again within a clock tick, in
        // which two processes with one pid cannot be distinguished there.
        let vpid = event.number("/process/vpid");
        let is_exact = event.text("/grade") == "exact";
        if is_exact && vpid.is_some_and(|vpid| vpid != u64::from(birth.vpid)) {
            wrong.push(format!("{}: vpid {vpid:?}, not {}", event.kind(), birth.vpid));
        }
    }
}

/// The images that are reported must be among those that the process ran, in their order.
fn check_images(birth: &Birth, events: &Events<'_>, wrong: &mut Vec<String>) {
    let mut ran = birth.images.iter().filter(|image| image.attempt != Attempt::Failed);
    let is_run = |kind: &str| ["process.start", "process.exec"].contains(&kind);
    let is_exact = |event: &&&ObservedEvent| event.text("/grade") == "exact";
    for event in events.iter().filter(|event| is_run(event.kind())).filter(is_exact) {
        let args = event.args();
        if !ran.any(|image| image.args == args) {
            wrong.push(format!("{}: {args:?} is none of what it ran then", event.kind()));
            return;
        }
    }
}

fn check_end(birth: &Birth, waited: Option<u32>, events: &Events<'_>, wrong: &mut Vec<String>) {
    for kind in ["process.fork", "process.start", "process.exit", "process.done"] {
        // A process that has moved may be found in two containers, one after the other.
        let mut containers: Vec<&str> =
            of_kind(events, kind).iter().map(|event| event.container()).collect();
        containers.sort_unstable();
        if containers.windows(2).any(|pair| pair[0] == pair[1]) {
            wrong.push(format!("several events {kind} in {containers:?}"));
        }
    }
    let is_certain = |event: &&&ObservedEvent| event.text("/grade") != "partial";
    for exit in of_kind(events, "process.exit").iter().filter(is_certain) {
        // The kernel may have killed it at any time, together with its pid namespace.
        const SIGKILL: u32 = 9;
        let ends = birth.intents.iter().chain(&birth.killed).chain(&[SIGKILL]).copied();
        let may_be: Vec<u32> = waited.map_or_else(|| ends.collect(), |waited| vec![waited]);
        let is_silent = exit.number("/status").is_none();
        if !is_silent && !may_be.iter().any(|status| states_end(exit, *status)) {
            let status = exit.at("/status");
            wrong.push(format!("ended with {status}, not one of {may_be:x?}"));
        }
    }
}
