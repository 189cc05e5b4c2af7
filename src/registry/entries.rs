//! The entries of the registry and the rules for changing them. This module is pure: no I/O, no
//! clock.
//!
//! A request is checked first, which gives a [`Change`] or a [`Refusal`]. A change is written to
//! the [store](super::store) and then applied. The store's file consists of changes only, so
//! applying all of them restores the registry.

#[cfg(test)]
pub(in crate::registry) mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    change::{Change, EntryEdit},
    entry::{Entry, Process},
    refusal::Refusal,
    select::Selector,
};
use crate::model::{ProcessKey, is_unsafe_to_print};

/// The most entries of a registry, including those of ended processes.
pub const ENTRIES_MAX: usize = 200_000;
/// The most tags that one entry can have, and the most groups.
const LABELS_MAX: usize = 64;
/// The most bytes of the command line of an entry that is loaded from a snapshot. A command line
/// that the daemon itself reads is shorter, even after escaping.
const COMMAND_BYTES_MAX: usize = 32 << 10;
/// The most bytes of a name, a tag or a group.
const LABEL_BYTES_MAX: usize = 128;

/// All entries of the registry, with an index for each condition that selects entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registry {
    entries: BTreeMap<u64, Entry>,
    /// The id of the newest entry, even if this entry was removed later. An id is never given to a
    /// second entry.
    last_id: u64,
    /// When the processes of all living entries were last known to be alive, in nanoseconds since
    /// 1970.
    living_seen_ns: u64,
    /// The id of the entry of each living process, by boot and process. Ended processes are not in
    /// this map, because their pids may be reused.
    living: HashMap<(u32, ProcessKey), u64>,
    by_pid: IdIndex<i32>,
    by_name: IdIndex<String>,
    by_tag: IdIndex<String>,
    by_group: IdIndex<String>,
}

type IdIndex<T> = HashMap<T, BTreeSet<u64>>;

/// A new entry, before it has an id.
#[derive(Debug, Clone, Default)]
pub struct NewEntry {
    /// The process to register.
    pub process: Process,
    /// The name of the entry; empty if it gets no name.
    pub name: String,
    /// The tags of the entry, in any order.
    pub tags: Vec<String>,
    /// The groups of the entry, in any order.
    pub groups: Vec<String>,
}

impl Registry {
    /// The number of entries in the registry.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the registry has no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The number of entries of living processes.
    #[must_use]
    pub fn living_count(&self) -> usize {
        self.living.len()
    }

    /// The id of the newest entry, even if this entry was removed later; 0 if there never was an
    /// entry.
    #[must_use]
    pub fn last_id(&self) -> u64 {
        self.last_id
    }

    /// When the processes of all living entries were last known to be alive, in nanoseconds since
    /// 1970; 0 if that was never recorded.
    #[must_use]
    pub fn living_seen_ns(&self) -> u64 {
        self.living_seen_ns
    }

    /// All entries of the registry, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The entry with this id; `None` if there is no such entry.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<&Entry> {
        self.entries.get(&id)
    }

    /// The entries that `selector` selects and that have a greater id than `after`, in the order of
    /// their ids.
    pub fn select<'a>(
        &'a self,
        selector: &'a Selector,
        after: u64,
    ) -> impl Iterator<Item = &'a Entry> {
        let ids: Box<dyn Iterator<Item = &u64>> = match self.narrowest_ids(selector) {
            Some(ids) => Box::new(ids.into_iter()),
            None => Box::new(self.entries.range(after.saturating_add(1)..).map(|(id, _)| id)),
        };
        ids.filter(move |id| **id > after)
            .filter_map(|id| self.entries.get(id))
            .filter(move |entry| selector.matches(entry))
    }

    /// The ids of the entries to which a change or a signal applies. Several entries are accepted
    /// only if they were given by id, or with `all`.
    ///
    /// # Errors
    ///
    /// [`Refusal::NothingToDo`] for an empty selector, [`Refusal::NoEntry`] for an id without an
    /// entry, [`Refusal::NoMatch`] if no entry matches, [`Refusal::SeveralMatch`] if several match
    /// that were not given by id and `all` is false.
    pub fn resolve_ids(&self, selector: &Selector, all: bool) -> Result<Vec<u64>, Refusal> {
        if selector.is_empty() {
            return Err(Refusal::NothingToDo);
        }
        if let Some(id) = selector.ids.iter().find(|id| !self.entries.contains_key(id)) {
            return Err(Refusal::NoEntry { id: *id });
        }
        let ids: Vec<u64> = self.select(selector, 0).map(|entry| entry.id).collect();
        match ids.len() {
            0 => Err(Refusal::NoMatch),
            1 => Ok(ids),
            _ if all || !selector.ids.is_empty() => Ok(ids),
            count => Err(Refusal::SeveralMatch { count, first: ids.into_iter().take(5).collect() }),
        }
    }

    /// Checks a new entry, and returns the change that adds it.
    ///
    /// # Errors
    ///
    /// [`Refusal`] if the process has an entry already, a text is not allowed, or the registry is
    /// full.
    pub fn plan_add(&self, new: NewEntry, now_ns: u64) -> Result<Change, Refusal> {
        let NewEntry { process, name, tags, groups } = new;
        if let Some(id) = self.living.get(&(process.boot, process.key())) {
            return Err(Refusal::Duplicate { pid: process.pid, id: *id });
        }
        if self.entries.len() >= ENTRIES_MAX {
            return Err(Refusal::Full { limit: ENTRIES_MAX });
        }
        let name = Some(name).filter(|name| !name.is_empty());
        name.iter().try_for_each(|name| check_label("name", name))?;
        Ok(Change::Add(Box::new(Entry {
            id: self.last_id + 1,
            name,
            tags: check_labels("tag", tags)?,
            groups: check_labels("group", groups)?,
            process,
            added_ns: now_ns,
            last_seen_ns: now_ns,
            end: None,
        })))
    }

    /// Checks an edit of tags, groups and names, and returns the change that applies it to the
    /// entries `ids`.
    ///
    /// # Errors
    ///
    /// [`Refusal`] if a text is not allowed, or an entry would have too many tags or groups.
    pub fn plan_edit(&self, ids: Vec<u64>, edit: EntryEdit) -> Result<Change, Refusal> {
        if edit.is_empty() {
            return Err(Refusal::NothingToDo);
        }
        let EntryEdit { add_tags, add_groups, name, .. } = &edit;
        add_tags.iter().try_for_each(|tag| check_label("tag", tag))?;
        add_groups.iter().try_for_each(|group| check_label("group", group))?;
        name.iter()
            .filter(|name| !name.is_empty())
            .try_for_each(|name| check_label("name", name))?;
        for entry in ids.iter().filter_map(|id| self.entries.get(id)) {
            let mut after = entry.clone();
            edit.apply_to(&mut after);
            if after.tags.len() > LABELS_MAX || after.groups.len() > LABELS_MAX {
                return Err(Refusal::TooMany { id: entry.id, limit: LABELS_MAX });
            }
        }
        Ok(Change::Edit { ids, edit })
    }

    /// Checks an entry of a snapshot, and returns the change that adds it under a new id. `planned`
    /// is the number of entries of the same snapshot that this method has accepted before.
    ///
    /// # Errors
    ///
    /// As [`plan_add`](Self::plan_add).
    pub fn plan_load(&self, entry: Entry, planned: u64) -> Result<Change, Refusal> {
        let Entry { name, tags, groups, process, added_ns, last_seen_ns, end, .. } = entry;
        if end.is_none()
            && let Some(id) = self.living.get(&(process.boot, process.key()))
        {
            return Err(Refusal::Duplicate { pid: process.pid, id: *id });
        }
        if self.entries.len() as u64 + planned >= ENTRIES_MAX as u64 {
            return Err(Refusal::Full { limit: ENTRIES_MAX });
        }
        name.iter().try_for_each(|name| check_label("name", name))?;
        let texts = process.command_args.iter().chain([&process.executable]);
        if texts.map(String::len).sum::<usize>() > COMMAND_BYTES_MAX {
            return Err(Refusal::TooLong { pid: process.pid, limit: COMMAND_BYTES_MAX });
        }
        let (tags, groups) = (check_labels("tag", tags)?, check_labels("group", groups)?);
        let id = self.last_id + 1 + planned;
        Ok(Change::Add(Box::new(Entry {
            id,
            name,
            tags,
            groups,
            process,
            added_ns,
            last_seen_ns,
            end,
        })))
    }

    /// Applies a change to the entries and the indexes. A change of an entry that does not exist
    /// does nothing: that happens if the line of the file that added the entry was damaged.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Begin { last_id, .. } => self.last_id = self.last_id.max(last_id),
            Change::Add(entry) => {
                self.remove_entry(entry.id);
                self.last_id = self.last_id.max(entry.id);
                self.insert_entry(*entry);
            }
            Change::Edit { ids, edit } => {
                for id in ids {
                    // The entry is removed and inserted again, because the edit may change its keys
                    // in the indexes.
                    if let Some(mut entry) = self.remove_entry(id) {
                        edit.apply_to(&mut entry);
                        self.insert_entry(entry);
                    }
                }
            }
            Change::Remove { ids } => {
                for id in ids {
                    self.remove_entry(id);
                }
            }
            // The last id stays, so that ids are not used again after a reset.
            Change::Reset => {
                *self = Self {
                    last_id: self.last_id,
                    living_seen_ns: self.living_seen_ns,
                    ..Self::default()
                }
            }
            Change::End { id, end, is_witnessed } => {
                if let Some(mut entry) = self.remove_entry(id) {
                    let seen = if is_witnessed { end.time_ns } else { self.living_seen_ns };
                    if entry.end.is_none() {
                        entry.last_seen_ns = entry.last_seen_ns.max(seen);
                    }
                    // The first report of an end has the right time. A second report may add the
                    // exit status, which becomes known when the process is reaped.
                    let time_ns = entry.end.map_or(end.time_ns, |before| before.time_ns);
                    entry.end = Some(crate::registry::entry::ProcessEnd { time_ns, ..end });
                    self.insert_entry(entry);
                }
            }
            Change::Seen { time_ns } => self.living_seen_ns = self.living_seen_ns.max(time_ns),
        }
    }

    fn insert_entry(&mut self, entry: Entry) {
        let id = entry.id;
        if entry.is_alive() {
            self.living.insert((entry.process.boot, entry.process.key()), id);
        }
        self.by_pid.entry(entry.process.pid).or_default().insert(id);
        for (index, words) in [(&mut self.by_tag, &entry.tags), (&mut self.by_group, &entry.groups)]
        {
            for word in words {
                index.entry(word.clone()).or_default().insert(id);
            }
        }
        if let Some(name) = &entry.name {
            self.by_name.entry(name.clone()).or_default().insert(id);
        }
        self.entries.insert(id, entry);
    }

    fn remove_entry(&mut self, id: u64) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        remove_from_index(&mut self.by_pid, &entry.process.pid, id);
        if entry.is_alive() {
            self.remove_living(&entry);
        }
        entry.tags.iter().for_each(|tag| remove_from_index(&mut self.by_tag, tag, id));
        entry.groups.iter().for_each(|group| remove_from_index(&mut self.by_group, group, id));
        entry.name.iter().for_each(|name| remove_from_index(&mut self.by_name, name, id));
        Some(entry)
    }

    /// Removes a living entry from the index of living processes. If the line of the file that
    /// removed or ended an entry was damaged, another entry can have the same process, which is
    /// then the one in the index.
    fn remove_living(&mut self, entry: &Entry) {
        let process = (entry.process.boot, entry.process.key());
        let same_pid = self.by_pid.get(&entry.process.pid).into_iter().flatten();
        let is_other = |other: &&Entry| {
            other.is_alive() && (other.process.boot, other.process.key()) == process
        };
        let others = same_pid.filter_map(|other| self.entries.get(other));
        match others.filter(is_other).map(|other| other.id).next_back() {
            Some(other) => self.living.insert(process, other),
            None => self.living.remove(&process),
        };
    }

    /// A superset of the ids of the entries that `selector` selects, from the index that gives the
    /// fewest ids. `None` if no index applies, so that all entries have to be compared.
    fn narrowest_ids<'a>(&'a self, selector: &'a Selector) -> Option<BTreeSet<&'a u64>> {
        let Selector { ids, pids, names, tags, all_tags, groups, all_groups, .. } = selector;
        let mut best: Option<BTreeSet<&u64>> = (!ids.is_empty()).then(|| ids.iter().collect());
        let mut consider = |found: BTreeSet<&'a u64>| {
            if best.as_ref().is_none_or(|best| found.len() < best.len()) {
                best = Some(found);
            }
        };
        if !pids.is_empty() {
            consider(pids.iter().filter_map(|pid| self.by_pid.get(pid)).flatten().collect());
        }
        for (index, words) in
            [(&self.by_name, names), (&self.by_tag, tags), (&self.by_group, groups)]
        {
            if !words.is_empty() {
                consider(words.iter().filter_map(|word| index.get(word)).flatten().collect());
            }
        }
        for (index, words) in [(&self.by_tag, all_tags), (&self.by_group, all_groups)] {
            for word in words {
                consider(index.get(word).into_iter().flatten().collect());
            }
        }
        best
    }
}

/// Removes an entry's id from an index. Also removes the key if no entry has it any more.
fn remove_from_index<T: std::hash::Hash + Eq>(index: &mut IdIndex<T>, key: &T, id: u64) {
    if let Some(ids) = index.get_mut(key) {
        ids.remove(&id);
        if ids.is_empty() {
            index.remove(key);
        }
    }
}

/// Checks the tags or the groups of an entry, and removes duplicates.
fn check_labels(
    what: &'static str,
    words: impl IntoIterator<Item = String>,
) -> Result<BTreeSet<String>, Refusal> {
    let words: BTreeSet<String> = words.into_iter().collect();
    words.iter().try_for_each(|text| check_label(what, text))?;
    if words.len() > LABELS_MAX {
        return Err(Refusal::TooMany { id: 0, limit: LABELS_MAX });
    }
    Ok(words)
}

/// Checks a name, a tag or a group of an entry. People type these texts and terminals show them, so
/// blanks at the ends and control characters are not allowed.
fn check_label(what: &'static str, text: &str) -> Result<(), Refusal> {
    let is_allowed = !text.is_empty() && text.len() <= LABEL_BYTES_MAX && text.trim() == text;
    if is_allowed && !text.contains(is_unsafe_to_print) {
        return Ok(());
    }
    Err(Refusal::InvalidLabel {
        what,
        text: text.chars().take(LABEL_BYTES_MAX).collect(),
        limit: LABEL_BYTES_MAX,
    })
}
