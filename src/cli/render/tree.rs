//! The output of `lookout tree`: one tree per container.

use std::collections::{BTreeMap, HashMap, HashSet};

use unicode_truncate::UnicodeTruncateStr as _;
use unicode_width::UnicodeWidthStr as _;

use super::{
    events::{command_text, origin_text},
    names::container_name,
};
use crate::{
    api::{Container, ContainerProcess, Process},
    cli::{output::Style, width::cut_middle},
    model::printable,
};

/// The fewest columns that a command gets.
const COMMAND_LEAST: usize = 8;

/// Formats the process trees of containers, in the order of containerd namespace and container id.
/// A process is a root of its tree if its parent is not in `processes`.
pub(in crate::cli) fn format_trees(processes: &[ContainerProcess], style: Style) -> String {
    let mut containers: BTreeMap<(&str, &str), (&Container, Vec<&Process>)> = BTreeMap::new();
    for one in processes {
        let container = one.container.get_or_default();
        let key = (container.namespace.as_str(), container.id.as_str());
        let (_, processes) = containers.entry(key).or_insert((container, Vec::new()));
        processes.push(one.process.get_or_default());
    }
    let mut text = String::new();
    for ((namespace, _), (container, processes)) in &containers {
        if !style.is_quiet {
            text.push_str(&style.fit_to_width(&format!(
                "{}/{}",
                printable::safe_text(namespace.as_bytes()),
                container_name(container, style)
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
        text.push_str(&process_line(process, &left, is_last, style));
        text.push('\n');
        if let Some(children) = children.get(&process.pid) {
            push_siblings(
                &mut waiting,
                children,
                &format!("{left}{}", if is_last { "   " } else { lines(style).beside }),
            );
        }
    }
}

/// The line of one process, cut so that its pid, a part of its command and its origin are seen.
fn process_line(process: &Process, left: &str, is_last: bool, style: Style) -> String {
    let lines = lines(style);
    let mut left = format!("{left}{}", if is_last { lines.last } else { lines.branch });
    let (pid, origin) = (process.pid, origin_text(process));
    let command = command_text(process);
    let Some(width) = style.width else { return format!("{left}{pid} {command} [{origin}]") };
    // A chain of processes can be deeper than the terminal is wide.
    if left.width() > width / 2 {
        left = format!("…{}", left.unicode_truncate_start(width / 2).0);
    }
    let others = format!("{left}{pid}  [{origin}]").width();
    let command = cut_middle(&command, width.saturating_sub(others).max(COMMAND_LEAST));
    style.fit_to_width(&format!("{left}{pid} {command} [{origin}]"))
}

/// The lines that connect processes.
pub(in crate::cli) struct Lines {
    pub(in crate::cli) last: &'static str,
    pub(in crate::cli) branch: &'static str,
    /// Beside the descendants of a process that has further siblings.
    pub(in crate::cli) beside: &'static str,
}

/// The lines that the locale has.
pub(in crate::cli) fn lines(style: Style) -> Lines {
    match style.is_ascii {
        true => Lines { last: "`- ", branch: "|- ", beside: "|  " },
        false => Lines { last: "└─ ", branch: "├─ ", beside: "│  " },
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
