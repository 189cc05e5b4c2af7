//! Which living processes descend from which, by the forks that a shim has reported. This module is
//! pure: no I/O, no clock.
//!
//! The kernel forgets this: a process that daemonizes gets init as its parent when the process
//! between ends. Here the children of a process that ends go to its own parent, so each process is
//! linked to its nearest ancestor that lives.

use std::collections::{BTreeSet, HashMap};

/// The lineages of one shim's processes, by entity id.
///
/// It has the living processes, and those of which the end was missed: they are dropped at the
/// second list of living processes that does not have them.
#[derive(Debug, Default)]
pub(super) struct Lineages {
    links: HashMap<String, Links>,
}

#[derive(Debug, Default)]
struct Links {
    /// The nearest ancestor; empty if it is not known. It may be outside of the container.
    parent: String,
    children: BTreeSet<String>,
    /// Whether the last list of living processes did not have the process. Its exit may be among
    /// the events that are still to come, and forks by it too.
    is_unlisted: bool,
}

impl Lineages {
    /// Records the forker of a process. An empty `parent` changes nothing.
    pub(super) fn record_fork(&mut self, child: &str, parent: &str) {
        if parent.is_empty() || child == parent {
            return;
        }
        let links = self.links.entry(child.to_owned()).or_default();
        let before = std::mem::replace(&mut links.parent, parent.to_owned());
        if let Some(before) = self.links.get_mut(&before) {
            before.children.remove(child);
        }
        self.links.entry(parent.to_owned()).or_default().children.insert(child.to_owned());
    }

    /// Records a process of which the fork is not reported, or was reported before. `parent` is its
    /// current parent, which may have adopted it: it counts only if no forker is known.
    pub(super) fn record_seen(&mut self, child: &str, parent: &str) {
        if self.links.get(child).is_none_or(|links| links.parent.is_empty()) {
            self.record_fork(child, parent);
        }
    }

    /// Records the end of a process: its children descend from its own parent.
    pub(super) fn record_exit(&mut self, entity_id: &str) {
        let Some(Links { parent, children, .. }) = self.links.remove(entity_id) else { return };
        for child in &children {
            if let Some(links) = self.links.get_mut(child) {
                links.parent.clone_from(&parent);
            }
        }
        if let Some(parent) = self.links.get_mut(&parent) {
            parent.children.remove(entity_id);
            parent.children.extend(children);
        }
    }

    /// Compares with the living processes as the shim has listed them, and drops those of which the
    /// end was missed.
    pub(super) fn compare_with_list<'a>(&mut self, listed: impl Iterator<Item = &'a str>) {
        let listed: BTreeSet<&str> = listed.collect();
        let mut missed = Vec::new();
        for (entity_id, links) in &mut self.links {
            let is_unlisted = !listed.contains(entity_id.as_str());
            if is_unlisted && links.is_unlisted {
                missed.push(entity_id.clone());
            }
            links.is_unlisted = is_unlisted;
        }
        missed.iter().for_each(|entity_id| self.record_exit(entity_id));
    }

    /// All processes that descend from a process, in the order of generations. Empty if the process
    /// is not known.
    #[must_use]
    pub(super) fn descendants(&self, entity_id: &str) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        let mut seen = BTreeSet::from([entity_id.to_owned()]);
        let mut next = Some(entity_id.to_owned());
        let mut index = 0;
        while let Some(entity_id) = next {
            for child in self.links.get(&entity_id).into_iter().flat_map(|links| &links.children) {
                if seen.insert(child.clone()) {
                    found.push(child.clone());
                }
            }
            next = found.get(index).cloned();
            index += 1;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lineages(forks: &[(&str, &str)]) -> Lineages {
        let mut lineages = Lineages::default();
        forks.iter().for_each(|(child, parent)| lineages.record_fork(child, parent));
        lineages
    }

    /// Check that a process that daemonizes stays a descendant, over any number of ends between,
    /// and that its new parent does not replace its forker.
    #[test]
    fn a_daemonized_process_stays_a_descendant() {
        let mut of = lineages(&[("b", "a"), ("c", "b"), ("d", "c"), ("other", "init")]);
        of.record_exit("b");
        of.record_exit("c");
        of.record_seen("d", "init");
        assert_eq!(of.descendants("a"), ["d"]);
        assert_eq!(of.descendants("init"), ["other"]);
        of.record_exit("d");
        assert!(of.descendants("a").is_empty());
    }

    /// Check that a process without a known forker has the parent of the list, until its fork is
    /// reported.
    #[test]
    fn a_fork_replaces_the_parent_of_a_list() {
        let mut of = Lineages::default();
        of.record_seen("c", "init");
        assert_eq!(of.descendants("init"), ["c"]);
        of.record_fork("b", "a");
        of.record_fork("c", "b");
        assert_eq!(
            (of.descendants("init"), of.descendants("a")),
            (vec![], ["b", "c"].map(str::to_owned).to_vec())
        );
    }

    /// Check that a process of which the end was missed is dropped at the second list without it,
    /// and not before: events of it may still come.
    #[test]
    fn a_missed_end_is_noticed_at_the_second_list() {
        let mut of = lineages(&[("b", "a"), ("c", "b")]);
        of.compare_with_list(["a", "c"].into_iter());
        of.record_fork("d", "b");
        assert_eq!(of.descendants("a"), ["b", "c", "d"]);
        of.compare_with_list(["a", "c", "d"].into_iter());
        assert_eq!(of.descendants("a"), ["c", "d"]);
        assert_eq!(of.links.len(), 3);
        of.compare_with_list(std::iter::empty());
        of.compare_with_list(std::iter::empty());
        assert!(of.links.is_empty());
    }
}
