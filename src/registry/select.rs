//! Which entries are asked for.

use std::{borrow::Cow, collections::BTreeSet};

use super::entry::Entry;
use crate::api;

/// Conditions: all kinds that are given must match; of one kind one value is enough.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    /// One of these.
    pub ids: BTreeSet<u64>,
    /// One of these.
    pub pids: BTreeSet<i32>,
    /// One of these.
    pub names: Vec<String>,
    /// Any of these.
    pub tags: Vec<String>,
    /// All of these.
    pub all_tags: Vec<String>,
    /// Any of these.
    pub groups: Vec<String>,
    /// All of these.
    pub all_groups: Vec<String>,
    /// Only what lives.
    pub alive: bool,
    /// A part of the command line; empty: any.
    pub search: String,
}

impl Selector {
    /// Whether everything matches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether an entry matches.
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
            && (self.search.is_empty() || command(entry).contains(&self.search))
    }
}

/// Most command lines need not be joined to be searched.
fn command(entry: &Entry) -> Cow<'_, str> {
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
