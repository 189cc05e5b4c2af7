//! The output of `lookout tree`: one tree per container.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::events::{command, origin};
use crate::{
    api::{ContainerProcess, Process},
    cli::output::Style,
    model::printable,
};

/// Formats the trees, in the order of namespace and container id. A process is a root if its parent
/// is not listed.
pub(in crate::cli) fn trees(processes: &[ContainerProcess], style: Style) -> String {
    let mut containers: BTreeMap<(String, String), Vec<&Process>> = BTreeMap::new();
    for one in processes {
        let container = one.container.get_or_default();
        let key = (container.namespace.clone(), container.id.clone());
        containers.entry(key).or_default().push(one.process.get_or_default());
    }
    let mut text = String::new();
    for ((namespace, id), processes) in &containers {
        if !style.is_quiet {
            text.push_str(&style.fit(&format!(
                "{}/{}",
                printable::text(namespace.as_bytes()),
                printable::text(id.as_bytes())
            )));
            text.push('\n');
        }
        tree(processes, style, &mut text);
    }
    text
}

/// Formats the tree of one container. Not recursive, because a container can make a chain of
/// processes of any depth.
fn tree(processes: &[&Process], style: Style, text: &mut String) {
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
    // The processes to print next, each with the text to its left, and whether it is the last of
    // its siblings.
    let mut waiting: Vec<(&Process, String, bool)> = Vec::new();
    push(&mut waiting, &roots, "");
    let mut rest = processes.iter();
    loop {
        let Some((process, left, is_last)) = waiting.pop() else {
            // Processes that name each other as parent are not reachable from a root.
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
        let line =
            format!("{left}{branch}{} {} [{}]", process.pid, command(process), origin(process));
        text.push_str(&style.fit(&line));
        text.push('\n');
        if let Some(children) = children.get(&process.pid) {
            push(&mut waiting, children, &format!("{left}{}", if is_last { "   " } else { "│  " }));
        }
    }
}

/// Pushes siblings in reverse, so that the first is popped first.
fn push<'a>(waiting: &mut Vec<(&'a Process, String, bool)>, siblings: &[&'a Process], left: &str) {
    for (index, process) in siblings.iter().enumerate().rev() {
        waiting.push((process, left.to_owned(), index + 1 == siblings.len()));
    }
}
