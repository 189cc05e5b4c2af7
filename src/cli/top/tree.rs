//! Arranges processes into the rows of the screen: trees or a flat list, sorted, filtered, folded.
//!
//! Nothing here is recursive, because a container can make a chain of processes of any depth.

use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet},
};

use super::usage::Used;
use crate::cli::args::registry::SortOrder;

/// What identifies a row. A process is identified by its entity id and not by its pid, which the
/// kernel gives to another process after its end.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum RowId {
    /// A container, by containerd's namespace and its id.
    Container(String, String),
    /// The processes that are registered with the daemon.
    Registered,
    /// A process, by its entity id.
    Process(String),
}

/// A container with its processes, or the registered processes.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: RowId,
    /// Safe to print.
    pub(super) title: String,
    pub(super) processes: Vec<Item>,
}

/// What a row shows. The texts are safe to print.
#[derive(Debug, Clone, Default)]
pub(super) struct Item {
    pub(super) entity_id: String,
    pub(super) pid: i32,
    pub(super) parent_pid: i32,
    pub(super) user: String,
    pub(super) ports: String,
    pub(super) command: String,
    /// In nanoseconds since 1970; 0 if it is not known.
    pub(super) created_ns: u64,
    pub(super) used: Used,
}

/// One row of the screen.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) id: RowId,
    /// Of a container the sum of its processes, with its title as the command.
    pub(super) item: Item,
    /// The index of the row of the parent; `None` for a group.
    pub(super) parent: Option<usize>,
    /// Whether no sibling follows.
    pub(super) is_last: bool,
    pub(super) has_children: bool,
    /// How many processes are folded into this row. Its usage is then the sum with theirs.
    pub(super) folded: usize,
}

/// How rows are arranged.
#[derive(Debug, Clone)]
pub(super) struct Arrangement {
    pub(super) sort: SortOrder,
    pub(super) is_reversed: bool,
    /// Whether processes are listed without their trees.
    pub(super) is_flat: bool,
    /// In lower case; empty: all.
    pub(super) filter: String,
    pub(super) folded: HashSet<RowId>,
}

impl Arrangement {
    /// The rows of all groups. A group without a process that passes the filter is left out.
    pub(super) fn rows(&self, groups: Vec<Group>) -> Vec<Row> {
        let mut forests: Vec<Forest> = groups
            .into_iter()
            .map(|group| Forest::of(group, &self.filter))
            .filter(|forest| forest.is_shown.contains(&true))
            .collect();
        if self.is_flat {
            return self.flat_rows(forests);
        }
        forests.sort_by(|a, b| self.compare(&a.head, &a.head.used, &b.head, &b.head.used));
        let mut rows = Vec::new();
        let groups = forests.len();
        for (at, forest) in forests.into_iter().enumerate() {
            self.push_tree(forest, at + 1 == groups, &mut rows);
        }
        rows
    }

    fn flat_rows(&self, forests: Vec<Forest>) -> Vec<Row> {
        let shown = forests.into_iter().flat_map(|forest| {
            forest.items.into_iter().zip(forest.matches).filter(|(_, matches)| *matches)
        });
        let mut items: Vec<Item> = shown.map(|(item, _)| item).collect();
        items.sort_by(|a, b| self.compare(a, &a.used, b, &b.used));
        let row = |item: Item| Row {
            id: RowId::Process(item.entity_id.clone()),
            item,
            parent: None,
            is_last: true,
            has_children: false,
            folded: 0,
        };
        items.into_iter().map(row).collect()
    }

    /// Appends a group and its processes, each before its children.
    fn push_tree(&self, mut forest: Forest, is_last: bool, rows: &mut Vec<Row>) {
        let order = |forest: &Forest, siblings: &mut Vec<usize>| {
            siblings.retain(|&at| forest.is_shown[at]);
            siblings.sort_by(|&a, &b| {
                self.compare(&forest.items[a], &forest.sums[a], &forest.items[b], &forest.sums[b])
            });
        };
        let mut roots = std::mem::take(&mut forest.roots);
        order(&forest, &mut roots);
        let top = rows.len();
        let is_folded = self.is_folded(&forest.id);
        rows.push(Row {
            id: forest.id.clone(),
            item: forest.head.clone(),
            parent: None,
            is_last,
            has_children: true,
            folded: if is_folded { forest.items.len() } else { 0 },
        });
        if is_folded {
            return;
        }
        let push = |waiting: &mut Vec<_>, siblings: &[usize], parent: usize| {
            for (index, at) in siblings.iter().enumerate().rev() {
                waiting.push((*at, parent, index + 1 == siblings.len()));
            }
        };
        let mut waiting = Vec::new();
        push(&mut waiting, &roots, top);
        while let Some((at, parent, is_last)) = waiting.pop() {
            let mut children = std::mem::take(&mut forest.children[at]);
            order(&forest, &mut children);
            let mut item = std::mem::take(&mut forest.items[at]);
            let id = RowId::Process(item.entity_id.clone());
            let is_folded = !children.is_empty() && self.is_folded(&id);
            if is_folded {
                item.used = forest.sums[at];
            } else {
                push(&mut waiting, &children, rows.len());
            }
            rows.push(Row {
                id,
                item,
                parent: Some(parent),
                is_last,
                has_children: !children.is_empty(),
                folded: if is_folded { forest.descendants[at] } else { 0 },
            });
        }
    }

    /// Nothing is folded while a filter is set: a process that matches must be seen.
    fn is_folded(&self, id: &RowId) -> bool {
        self.filter.is_empty() && self.folded.contains(id)
    }

    /// The order of two siblings: what uses most, or started last, comes first. In a tree a process
    /// counts with its descendants, so that a busy one is found from the top.
    fn compare(&self, a: &Item, a_used: &Used, b: &Item, b_used: &Used) -> Ordering {
        let cpu = |used: &Used| used.cpu.unwrap_or_default();
        let order = match self.sort {
            SortOrder::Cpu => cpu(b_used).total_cmp(&cpu(a_used)),
            SortOrder::Memory => b_used.rss_bytes.cmp(&a_used.rss_bytes),
            SortOrder::Io => b_used.io().total_cmp(&a_used.io()),
            SortOrder::Age => b.created_ns.cmp(&a.created_ns),
            SortOrder::Name => a.command.cmp(&b.command),
            SortOrder::Pid | SortOrder::Id => Ordering::Equal,
        };
        // Rows that are equal must not change places with each update.
        let order = order.then_with(|| (a.pid, &a.entity_id).cmp(&(b.pid, &b.entity_id)));
        let order = order.then_with(|| a.command.cmp(&b.command));
        if self.is_reversed { order.reverse() } else { order }
    }
}

/// The processes of a group as trees.
struct Forest {
    id: RowId,
    /// The row of the group.
    head: Item,
    items: Vec<Item>,
    roots: Vec<usize>,
    children: Vec<Vec<usize>>,
    /// What each process uses with its descendants.
    sums: Vec<Used>,
    /// How many descendants each process has.
    descendants: Vec<usize>,
    /// Whether a process passes the filter itself.
    matches: Vec<bool>,
    /// Whether a process or one of its descendants passes the filter.
    is_shown: Vec<bool>,
}

impl Forest {
    fn of(group: Group, filter: &str) -> Self {
        let Group { id, title, processes: items } = group;
        let group_matches = title.to_lowercase().contains(filter);
        let matches: Vec<bool> =
            items.iter().map(|item| group_matches || item.matches(filter)).collect();
        let mut by_pid: HashMap<i32, usize> = HashMap::new();
        for (at, item) in items.iter().enumerate() {
            // If the exit of a process was lost, its pid may be in the list twice. The later one
            // is the parent.
            let entry = by_pid.entry(item.pid).or_insert(at);
            if items[*entry].created_ns < item.created_ns {
                *entry = at;
            }
        }
        let parent_of = |item: &Item| by_pid.get(&item.parent_pid).copied();
        let mut parents: Vec<Option<usize>> = items.iter().map(parent_of).collect();
        let mut children = vec![Vec::new(); items.len()];
        for (at, parent) in parents.iter().enumerate() {
            if let Some(parent) = parent.filter(|parent| *parent != at) {
                children[parent].push(at);
            }
        }
        let mut roots: Vec<usize> =
            (0..items.len()).filter(|&at| parents[at].is_none_or(|parent| parent == at)).collect();
        // Each process after its parent.
        let mut order = Vec::with_capacity(items.len());
        let mut is_seen = vec![false; items.len()];
        let mut waiting = roots.clone();
        let mut rest = 0..items.len();
        loop {
            let Some(at) = waiting.pop() else {
                // What no root leads to is a circle of pids that were reused: one of it is taken
                // as a root.
                let Some(at) = rest.find(|&at| !is_seen[at]) else { break };
                if let Some(parent) = parents[at].take() {
                    children[parent].retain(|child| *child != at);
                }
                roots.push(at);
                waiting.push(at);
                continue;
            };
            if !std::mem::replace(&mut is_seen[at], true) {
                order.push(at);
                waiting.extend(&children[at]);
            }
        }
        let mut sums: Vec<Used> = items.iter().map(|item| item.used).collect();
        let (mut descendants, mut is_shown) = (vec![0; items.len()], matches.clone());
        let mut head = Item { command: title, ..Item::default() };
        for &at in order.iter().rev() {
            head.created_ns = head.created_ns.max(items[at].created_ns);
            let (used, below, shown) = (sums[at], descendants[at] + 1, is_shown[at]);
            match parents[at].filter(|parent| *parent != at) {
                Some(parent) => {
                    sums[parent].add(used);
                    descendants[parent] += below;
                    is_shown[parent] |= shown;
                }
                None => head.used.add(used),
            }
        }
        Self { id, head, items, roots, children, sums, descendants, matches, is_shown }
    }
}

impl Item {
    fn matches(&self, filter: &str) -> bool {
        let has = |text: &str| text.to_lowercase().contains(filter);
        filter.is_empty()
            || has(&self.command)
            || has(&self.ports)
            || self.user == filter
            || self.pid.to_string() == filter
    }
}
