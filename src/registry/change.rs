//! The changes to the registry. One line of the registry's file has the changes of one command.

use serde::{Deserialize, Serialize};

use super::entry::{Entry, ProcessEnd};

/// One change to the registry. In JSON it is an element of a line of the registry's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The first change in the registry's file, which describes the file.
    Begin {
        /// The version of the format of the registry's file.
        schema: u32,
        /// The highest id that was used before this file was written. A new entry gets a higher id.
        last_id: u64,
    },
    /// Adds an entry, under the id that the entry has.
    Add(Box<Entry>),
    /// Changes tags, groups or the name of entries.
    Edit {
        /// The ids of the entries that are changed.
        ids: Vec<u64>,
        /// The changes to the tags, the groups and the name of each of these entries.
        #[serde(flatten)]
        edit: EntryEdit,
    },
    /// Removes entries.
    Remove {
        /// The ids of the entries that are changed.
        ids: Vec<u64>,
    },
    /// Removes all entries.
    Reset,
    /// A process has ended, or its exit status has become known after its end.
    End {
        /// The id of the entry of the process.
        id: u64,
        /// When and how the process ended.
        end: ProcessEnd,
        /// Whether a daemon ran when the process ended. If so, the process is known to have been
        /// alive until then.
        is_witnessed: bool,
    },
    /// The processes of all entries without an end were known to be alive at this time.
    Seen {
        /// The time, in nanoseconds since 1970.
        time_ns: u64,
    },
}

/// The changes to the tags, the groups and the name of an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryEdit {
    /// Tags to add. A tag that the entry has already is no error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add_tags: Vec<String>,
    /// Tags to remove, after `add_tags` were added. A tag that the entry does not have is no error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove_tags: Vec<String>,
    /// Groups to add. A group that the entry is in already is no error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add_groups: Vec<String>,
    /// Groups to remove, after `add_groups` were added. A group that the entry is not in is no
    /// error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove_groups: Vec<String>,
    /// The new name of the entry; an empty one removes the name. `None` leaves the name as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl EntryEdit {
    /// Whether this edit changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn apply_to(&self, entry: &mut Entry) {
        entry.tags.extend(self.add_tags.iter().cloned());
        entry.groups.extend(self.add_groups.iter().cloned());
        // By the sets, because a request may have many of them.
        for tag in &self.remove_tags {
            entry.tags.remove(tag);
        }
        for group in &self.remove_groups {
            entry.groups.remove(group);
        }
        if let Some(name) = &self.name {
            entry.name = Some(name.clone()).filter(|name| !name.is_empty());
        }
    }
}
