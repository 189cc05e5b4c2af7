//! Puts the processes of a report into a tree, and chooses the rows of one that is too long.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
};

use super::{
    model::{Exec, Process},
    process::Draft,
};

/// How many processes in a row may have too many ancestors to be chosen before the choice ends. It
/// bounds the time that a deep chain of processes can cost.
const PASSED_OVER_MAX: usize = 1000;

/// The processes that lived in this time, parents before their children and siblings in the order
/// of their starts, and the execs.
///
/// Not recursive, because a container can make a chain of processes of any depth.
pub(super) fn grown(
    drafts: Vec<Draft>,
    by_entity: &HashMap<String, usize>,
    by_pid: &mut HashMap<i32, Vec<usize>>,
    range: (u64, u64),
) -> (Vec<Process>, Vec<Exec>) {
    let starts: Vec<u64> = drafts.iter().map(|draft| draft.start_ns(range.0)).collect();
    by_pid.values_mut().for_each(|all| all.sort_by_key(|at| starts[*at]));
    let parent_of = |at: usize, draft: &Draft| {
        let (entity_id, pid) = &draft.parent;
        let parent = by_entity.get(entity_id).copied().or_else(|| {
            // The last process that had the pid when this one was first seen. Its start can be
            // that of a clock tick before the start of its parent.
            let all = by_pid.get(pid)?;
            let seen_ns = draft.seen_ns.unwrap_or(u64::MAX);
            let before = all.partition_point(|one| starts[*one] <= seen_ns);
            all[..before].iter().rev().take(2).find(|one| **one != at).copied()
        });
        parent.filter(|parent| *parent != at)
    };
    let parents: Vec<Option<usize>> =
        drafts.iter().enumerate().map(|(at, draft)| parent_of(at, draft)).collect();
    let mut kept: Vec<Option<Process>> =
        drafts.into_iter().map(|draft| draft.within(range)).collect();
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); kept.len()];
    let mut order: Vec<usize> = (0..kept.len()).filter(|at| kept[*at].is_some()).collect();
    order.sort_by_key(|at| (starts[*at], *at));
    let mut roots = Vec::new();
    for at in &order {
        match parents[*at].filter(|parent| kept[*parent].is_some()) {
            Some(parent) => children[parent].push(*at),
            None => roots.push(*at),
        }
    }
    let mut processes: Vec<Process> = Vec::with_capacity(order.len());
    // After the roots, what no root leads to: processes that name each other as parent.
    for root in roots.into_iter().chain(order) {
        // The processes that are still to be added, with the ids of their parents.
        let mut waiting = vec![(root, None)];
        while let Some((at, parent)) = waiting.pop() {
            let Some(mut process) = kept[at].take() else { continue };
            let id = processes.len();
            (process.id, process.parent) = (id, parent);
            if let Some(parent) = parent {
                process.depth = processes[parent].depth + 1;
                processes[parent].children.push(id);
            }
            processes.push(process);
            waiting.extend(children[at].iter().rev().map(|child| (*child, Some(id))));
        }
    }
    let execs = execs_of(&processes);
    (processes, execs)
}

/// The execs, each with the number of its processes.
fn execs_of(processes: &[Process]) -> Vec<Exec> {
    let mut execs: Vec<Exec> = Vec::new();
    // The exec of each process, if it has one.
    let mut of: Vec<Option<usize>> = Vec::with_capacity(processes.len());
    for process in processes {
        let inherited = process.parent.and_then(|parent| of[parent]);
        let inherited = inherited.filter(|exec| execs[*exec].exec_id == process.exec_id);
        let exec = match process.origin == "exec" && inherited.is_none() {
            true => {
                let (exec_id, process) = (process.exec_id.clone(), process.id);
                execs.push(Exec { exec_id, process, processes: 0 });
                Some(execs.len() - 1)
            }
            false => inherited,
        };
        if let Some(exec) = exec {
            execs[exec].processes += 1;
        }
        of.push(exec);
    }
    execs
}

/// At most `max` processes with all their ancestors, in the order of the tree: first those that
/// failed, then the longest.
pub(super) fn chosen(processes: &[Process], max: usize) -> Vec<&Process> {
    if processes.len() <= max {
        return processes.iter().collect();
    }
    let mut ranked: Vec<&Process> = processes.iter().collect();
    let rank = |process: &&Process| (process.is_failure(), process.bar.1 - process.bar.0);
    ranked.sort_by_key(|process| Reverse(rank(process)));
    let mut chosen: HashSet<usize> = HashSet::new();
    let mut passed_over = 0;
    for process in ranked {
        let room = max - chosen.len();
        if room == 0 || passed_over > PASSED_OVER_MAX {
            break;
        }
        let mut path = Vec::new();
        let mut next = Some(process.id);
        while let Some(id) = next.filter(|id| !chosen.contains(id) && path.len() <= room) {
            path.push(id);
            next = processes[id].parent;
        }
        match path.len() <= room {
            true => chosen.extend(path),
            false => passed_over += 1,
        }
    }
    processes.iter().filter(|process| chosen.contains(&process.id)).collect()
}
