//! The output of `lookout tree`: one tree per container.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::events::{command_text, origin_text};
use crate::{
    api::{ContainerProcess, Process},
    cli::output::Style,
    model::printable,
};

/// Formats the process trees of containers, in the order of containerd namespace and container id.
/// A process is a root of its tree if its parent is not in `processes`.
pub(in crate::cli) fn format_trees(processes: &[ContainerProcess], style: Style) -> String {
    let mut containers: BTreeMap<(String, String), Vec<&Process>> = BTreeMap::new();
    for one in processes {
        let container = one.container.get_or_default();
        let key = (container.namespace.clone(), container.id.clone());
        containers.entry(key).or_default().push(one.process.get_or_default());
    }
    let mut text = String::new();
    for ((namespace, id), processes) in &containers {
        if !style.is_quiet {
            text.push_str(&style.fit_to_width(&format!(
                "{}/{}",
                printable::safe_text(namespace.as_bytes()),
                printable::safe_text(id.as_bytes())
            )));
            text.push('\n');
        }
        append_tree(processes, style, &mut text);
    }
    text
}

/// Appends the process tree of one container to `text`. Not recursive, because a container can make
/// a chain of processes of any depth.
fn append_tree(processes: &[&Process], style: Style, text: &mut String) {
    let pids: HashSet<i32> = processes.iter().map(|process| process.pid).collect();
    let mut children: HashMap<i32, Vec<&Process>> = HashMap::new();
    let mut roots = Vec::new();
    for process in processes {
        if process.parent_pid != process.pid && pids.contains(&process.parent_pid) {
            children.entry(process.parent_pid).or_default().push(process);
        } else {
            roots.push(*process);
        }
    }
    let mut shown = HashSet::new();
    // The processes that are still to be printed, each with the text to its left, and whether it is
    // the last of its siblings.
    let mut waiting: Vec<(&Process, String, bool)> = Vec::new();
    push_siblings(&mut waiting, &roots, "");
    let mut rest = processes.iter();
    loop {
        let Some((process, left, is_last)) = waiting.pop() else {
            // No root leads to processes that name each other as parent, so one of them is taken as
            // a root.
            match rest.find(|process| !shown.contains(&process.pid)) {
                Some(process) => waiting.push((process, String::new(), true)),
                None => return,
            }
            continue;
        };
        if !shown.insert(process.pid) {
            continue;
        }
        let branch = if is_last { "└─ " } else { "├─ " };
        let line = format!(
            "{left}{branch}{} {} [{}]",
            process.pid,
            command_text(process),
            origin_text(process)
        );
        text.push_str(&style.fit_to_width(&line));
        text.push('\n');
        if let Some(children) = children.get(&process.pid) {
            push_siblings(
                &mut waiting,
                children,
                &format!("{left}{}", if is_last { "   " } else { "│  " }),
            );
        }
    }
}

/// Pushes the siblings to `waiting` in reverse order, so that the first sibling is popped first.
fn push_siblings<'a>(
    waiting: &mut Vec<(&'a Process, String, bool)>,
    siblings: &[&'a Process],
    left: &str,
) {
    for (index, process) in siblings.iter().enumerate().rev() {
        waiting.push((process, left.to_owned(), index + 1 == siblings.len()));
    }
}
