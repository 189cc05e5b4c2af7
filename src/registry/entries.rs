//! The entries of the registry and the rules for changing them. This module is pure: no I/O, no
//! clock.
//!
//! A request is planned first, as a [`Change`] or a [`Refusal`]. A change is written to the
//! [store](super::store) and then applied. The store's file consists of changes only, so applying
//! all of them restores the registry.

#[cfg(test)]
pub(in crate::registry) mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    change::{Change, Edit},
    entry::{Entry, Process},
    refusal::Refusal,
    select::Selector,
};
use crate::model::{ProcessKey, is_hostile};

/// The most entries of a registry, including those of ended processes.
pub const ENTRIES_MAX: usize = 200_000;
/// The most tags of one entry, and the most groups.
const WORDS_MAX: usize = 64;
/// The most bytes of the command line of an entry that is loaded from a snapshot. The daemon's own
/// capture is shorter, even if it is escaped.
const COMMAND_MAX: usize = 32 << 10;
/// The most bytes of a name, a tag or a group.
const WORD_BYTES_MAX: usize = 128;

/// All entries, with an index for each kind of selection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registry {
    entries: BTreeMap<u64, Entry>,
    /// The id of the newest entry, even if this entry was removed later. Ids are not used again.
    last_id: u64,
    /// When all living entries were last known to be alive, in nanoseconds since 1970.
    seen_ns: u64,
    /// The ids of the entries of living processes, by boot and process. Entries of ended processes
    /// are not in it, because the pid of an ended process may be reused.
    living: HashMap<(u32, ProcessKey), u64>,
    by_pid: Index<i32>,
    by_name: Index<String>,
    by_tag: Index<String>,
    by_group: Index<String>,
}

type Index<T> = HashMap<T, BTreeSet<u64>>;

/// A new entry, before it has an id.
#[derive(Debug, Clone, Default)]
pub struct New {
    /// The process to register.
    pub process: Process,
    /// The name; empty if the entry gets no name.
    pub name: String,
    /// The tags, in any order.
    pub tags: Vec<String>,
    /// The groups, in any order.
    pub groups: Vec<String>,
}

impl Registry {
    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The number of entries of living processes.
    #[must_use]
    pub fn living(&self) -> usize {
        self.living.len()
    }

    /// The id of the newest entry, even if this entry was removed later; 0 if there never was an
    /// entry.
    #[must_use]
    pub fn last_id(&self) -> u64 {
        self.last_id
    }

    /// When all living entries were last known to be alive, in nanoseconds since 1970; 0 if that
    /// was never recorded.
    #[must_use]
    pub fn seen_ns(&self) -> u64 {
        self.seen_ns
    }

    /// All entries, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The entry with this id; `None` if there is no such entry.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<&Entry> {
        self.entries.get(&id)
    }

    /// The entries that match and have a greater id than `after`, in the order of their ids.
    pub fn select<'a>(
        &'a self,
        selector: &'a Selector,
        after: u64,
    ) -> impl Iterator<Item = &'a Entry> {
        let ids: Box<dyn Iterator<Item = &u64>> = match self.narrowest(selector) {
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
    /// [`Refusal::Nothing`] for an empty selector, [`Refusal::NoEntry`] for an id without an entry,
    /// [`Refusal::NoMatch`] if no entry matches, [`Refusal::Several`] if several match that were
    /// not given by id and `all` is false.
    pub fn resolve(&self, selector: &Selector, all: bool) -> Result<Vec<u64>, Refusal> {
        if selector.is_empty() {
            return Err(Refusal::Nothing);
        }
        if let Some(id) = selector.ids.iter().find(|id| !self.entries.contains_key(id)) {
            return Err(Refusal::NoEntry { id: *id });
        }
        let ids: Vec<u64> = self.select(selector, 0).map(|entry| entry.id).collect();
        match ids.len() {
            0 => Err(Refusal::NoMatch),
            1 => Ok(ids),
            _ if all || !selector.ids.is_empty() => Ok(ids),
            count => Err(Refusal::Several { count, first: ids.into_iter().take(5).collect() }),
        }
    }

    /// Plans a new entry.
    ///
    /// # Errors
    ///
    /// [`Refusal`] if the process has an entry already, a text is not allowed, or the registry is
    /// full.
    pub fn add(&self, new: New, now_ns: u64) -> Result<Change, Refusal> {
        let New { process, name, tags, groups } = new;
        if let Some(id) = self.living.get(&(process.boot, process.key())) {
            return Err(Refusal::Duplicate { pid: process.pid, id: *id });
        }
        if self.entries.len() >= ENTRIES_MAX {
            return Err(Refusal::Full { limit: ENTRIES_MAX });
        }
        let name = Some(name).filter(|name| !name.is_empty());
        name.iter().try_for_each(|name| word("name", name))?;
        Ok(Change::Add(Box::new(Entry {
            id: self.last_id + 1,
            name,
            tags: words("tag", tags)?,
            groups: words("group", groups)?,
            process,
            added_ns: now_ns,
            last_seen_ns: now_ns,
            end: None,
        })))
    }

    /// Plans to change tags, groups and the name of entries.
    ///
    /// # Errors
    ///
    /// [`Refusal`] if a text is not allowed, or an entry would have too many tags or groups.
    pub fn edit(&self, ids: Vec<u64>, edit: Edit) -> Result<Change, Refusal> {
        if edit.is_empty() {
            return Err(Refusal::Nothing);
        }
        let Edit { add_tags, add_groups, name, .. } = &edit;
        add_tags.iter().try_for_each(|tag| word("tag", tag))?;
        add_groups.iter().try_for_each(|group| word("group", group))?;
        name.iter().filter(|name| !name.is_empty()).try_for_each(|name| word("name", name))?;
        for entry in ids.iter().filter_map(|id| self.entries.get(id)) {
            let mut after = entry.clone();
            edit.apply(&mut after);
            if after.tags.len() > WORDS_MAX || after.groups.len() > WORDS_MAX {
                return Err(Refusal::TooMany { id: entry.id, limit: WORDS_MAX });
            }
        }
        Ok(Change::Edit { ids, edit })
    }

    /// Plans to load an entry of a snapshot, under a new id. `planned` is the number of entries of
    /// the same snapshot that are planned already.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add).
    pub fn load(&self, entry: Entry, planned: u64) -> Result<Change, Refusal> {
        let Entry { name, tags, groups, process, added_ns, last_seen_ns, end, .. } = entry;
        if end.is_none()
            && let Some(id) = self.living.get(&(process.boot, process.key()))
        {
            return Err(Refusal::Duplicate { pid: process.pid, id: *id });
        }
        if self.entries.len() as u64 + planned >= ENTRIES_MAX as u64 {
            return Err(Refusal::Full { limit: ENTRIES_MAX });
        }
        name.iter().try_for_each(|name| word("name", name))?;
        let texts = process.command_args.iter().chain([&process.executable]);
        if texts.map(String::len).sum::<usize>() > COMMAND_MAX {
            return Err(Refusal::TooLong { pid: process.pid, limit: COMMAND_MAX });
        }
        let (tags, groups) = (words("tag", tags)?, words("group", groups)?);
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

    /// Applies a change. A change of an entry that does not exist does nothing: that happens if the
    /// line that added the entry was damaged.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Begin { last_id, .. } => self.last_id = self.last_id.max(last_id),
            Change::Add(entry) => {
                self.remove(entry.id);
                self.last_id = self.last_id.max(entry.id);
                self.insert(*entry);
            }
            Change::Edit { ids, edit } => {
                for id in ids {
                    // Removed from the indexes and inserted again, because the edit may change the
                    // entry's keys in them.
                    if let Some(mut entry) = self.remove(id) {
                        edit.apply(&mut entry);
                        self.insert(entry);
                    }
                }
            }
            Change::Remove { ids } => {
                for id in ids {
                    self.remove(id);
                }
            }
            // Ids are not used again, even after a reset.
            Change::Reset => {
                *self = Self { last_id: self.last_id, seen_ns: self.seen_ns, ..Self::default() }
            }
            Change::End { id, end, is_witnessed } => {
                if let Some(mut entry) = self.remove(id) {
                    let seen = if is_witnessed { end.time_ns } else { self.seen_ns };
                    if entry.end.is_none() {
                        entry.last_seen_ns = entry.last_seen_ns.max(seen);
                    }
                    // The first report has the right time. A second report may add the exit status,
                    // which becomes known when the process is reaped.
                    let time_ns = entry.end.map_or(end.time_ns, |before| before.time_ns);
                    entry.end = Some(crate::registry::entry::End { time_ns, ..end });
                    self.insert(entry);
                }
            }
            Change::Seen { time_ns } => self.seen_ns = self.seen_ns.max(time_ns),
        }
    }

    fn insert(&mut self, entry: Entry) {
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

    fn remove(&mut self, id: u64) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        if entry.is_alive() {
            self.living.remove(&(entry.process.boot, entry.process.key()));
        }
        remove_from_index(&mut self.by_pid, &entry.process.pid, id);
        entry.tags.iter().for_each(|tag| remove_from_index(&mut self.by_tag, tag, id));
        entry.groups.iter().for_each(|group| remove_from_index(&mut self.by_group, group, id));
        entry.name.iter().for_each(|name| remove_from_index(&mut self.by_name, name, id));
        Some(entry)
    }

    /// A superset of the ids that match, from the index that gives the fewest; `None` if no index
    /// applies, so that all entries have to be compared.
    fn narrowest<'a>(&'a self, selector: &'a Selector) -> Option<BTreeSet<&'a u64>> {
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

/// Removes an id from an index, and also the key if it has no ids any more.
fn remove_from_index<T: std::hash::Hash + Eq>(index: &mut Index<T>, key: &T, id: u64) {
    if let Some(ids) = index.get_mut(key) {
        ids.remove(&id);
        if ids.is_empty() {
            index.remove(key);
        }
    }
}

fn words(
    what: &'static str,
    words: impl IntoIterator<Item = String>,
) -> Result<BTreeSet<String>, Refusal> {
    let words: BTreeSet<String> = words.into_iter().collect();
    words.iter().try_for_each(|text| word(what, text))?;
    if words.len() > WORDS_MAX {
        return Err(Refusal::TooMany { id: 0, limit: WORDS_MAX });
    }
    Ok(words)
}

/// Checks a name, a tag or a group. People type them and terminals show them, so blanks at the ends
/// and control characters are not allowed.
fn word(what: &'static str, text: &str) -> Result<(), Refusal> {
    let is_allowed = !text.is_empty() && text.len() <= WORD_BYTES_MAX && text.trim() == text;
    if is_allowed && !text.contains(is_hostile) {
        return Ok(());
    }
    Err(Refusal::Word {
        what,
        text: text.chars().take(WORD_BYTES_MAX).collect(),
        limit: WORD_BYTES_MAX,
    })
}
