//! The conditions by which a request selects entries.

use std::{borrow::Cow, collections::BTreeSet};

use super::entry::Entry;
use crate::api;

/// Conditions for entries. An entry must meet every condition that is given; an empty field is no
/// condition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    /// The entry has one of these ids.
    pub ids: BTreeSet<u64>,
    /// The process has one of these pids.
    pub pids: BTreeSet<i32>,
    /// The entry has one of these names.
    pub names: Vec<String>,
    /// The entry has at least one of these tags.
    pub tags: Vec<String>,
    /// The entry has all of these tags.
    pub all_tags: Vec<String>,
    /// The entry is in at least one of these groups.
    pub groups: Vec<String>,
    /// The entry is in all of these groups.
    pub all_groups: Vec<String>,
    /// The process is alive.
    pub alive: bool,
    /// The command line contains this text.
    pub search: String,
}

impl Selector {
    /// Whether there is no condition, so that every entry matches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether an entry meets all conditions.
    #[must_use]
    pub fn matches(&self, entry: &Entry) -> bool {
        let any = |wanted: &[String], has: &dyn Fn(&String) -> bool| {
            wanted.is_empty() || wanted.iter().any(has)
        };
        (self.ids.is_empty() || self.ids.contains(&entry.id))
            && (self.pids.is_empty() || self.pids.contains(&entry.process.pid))
            && any(&self.names, &|name| entry.name.as_ref() == Some(name))
            && any(&self.tags, &|tag| entry.tags.contains(tag))
            && self.all_tags.iter().all(|tag| entry.tags.contains(tag))
            && any(&self.groups, &|group| entry.groups.contains(group))
            && self.all_groups.iter().all(|group| entry.groups.contains(group))
            && (!self.alive || entry.is_alive())
            && (self.search.is_empty() || command_line(entry).contains(&self.search))
    }
}

/// The command line of an entry, as [`Entry::command_line`] has it. Copied only if it has several
/// arguments, because a search compares all entries.
fn command_line(entry: &Entry) -> Cow<'_, str> {
    match &entry.process.command_args[..] {
        [] => Cow::Borrowed(&entry.process.executable),
        [only] => Cow::Borrowed(only),
        args => Cow::Owned(args.join(" ")),
    }
}

impl From<api::Selector> for Selector {
    fn from(selector: api::Selector) -> Self {
        let api::Selector {
            ids,
            pids,
            names,
            tags,
            all_tags,
            groups,
            all_groups,
            alive,
            search,
            ..
        } = selector;
        let (ids, pids) = (ids.into_iter().collect(), pids.into_iter().collect());
        Self { ids, pids, names, tags, all_tags, groups, all_groups, alive, search }
    }
}
