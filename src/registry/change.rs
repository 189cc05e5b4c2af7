//! The changes of the registry. One line of the store has the changes of one command.

use serde::{Deserialize, Serialize};

use super::entry::{End, Entry};

/// One change of the registry. Its JSON form is an element of a line of the store's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The first change of a file.
    Begin {
        /// The version of the file's format.
        schema: u32,
        /// The highest id that was used before this file. A new entry gets a higher id.
        last_id: u64,
    },
    /// Adds an entry with the id that is in it.
    Add(Box<Entry>),
    /// Changes tags, groups or the name of entries.
    Edit {
        /// The ids of the entries.
        ids: Vec<u64>,
        /// The changes to each of these entries.
        #[serde(flatten)]
        edit: Edit,
    },
    /// Removes entries.
    Remove {
        /// The ids of the entries.
        ids: Vec<u64>,
    },
    /// Removes all entries.
    Reset,
    /// A process has ended, or its exit status has become known after its end.
    End {
        /// The id of its entry.
        id: u64,
        /// When and how it ended.
        end: End,
        /// Whether the daemon ran when the process ended, so that the process is known to have been
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
pub struct Edit {
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
    /// The new name; an empty one removes the name. `None` leaves the name as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Edit {
    /// Whether this edit changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn apply(&self, entry: &mut Entry) {
        entry.tags.extend(self.add_tags.iter().cloned());
        entry.groups.extend(self.add_groups.iter().cloned());
        entry.tags.retain(|tag| !self.remove_tags.contains(tag));
        entry.groups.retain(|group| !self.remove_groups.contains(group));
        if let Some(name) = &self.name {
            entry.name = Some(name.clone()).filter(|name| !name.is_empty());
        }
    }
}
