//! What happens to the registry: one line of the store has one command's changes.

use serde::{Deserialize, Serialize};

use super::entry::{End, Entry};

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A file begins.
    Begin {
        /// What the lines after it look like.
        schema: u32,
        /// No entry gets an id up to this.
        last_id: u64,
    },
    /// A new entry.
    Add(Box<Entry>),
    /// Tags, groups or the name of entries.
    Edit {
        /// Which.
        ids: Vec<u64>,
        /// What.
        #[serde(flatten)]
        edit: Edit,
    },
    /// Entries are gone.
    Remove {
        /// Which.
        ids: Vec<u64>,
    },
    /// All entries are gone.
    Reset,
    /// A process has ended; or more is known of how.
    End {
        /// Whose entry.
        id: u64,
        /// How.
        end: End,
        /// The daemon was there: it lived until then.
        is_witnessed: bool,
    },
    /// Everything that lives was known to live then.
    Seen {
        /// Nanoseconds since 1970.
        time_ns: u64,
    },
}

/// What is changed of an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    /// Added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add_tags: Vec<String>,
    /// Removed; one that is not there is no error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove_tags: Vec<String>,
    /// Added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add_groups: Vec<String>,
    /// Removed; one that is not there is no error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove_groups: Vec<String>,
    /// The new name; empty takes it away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Edit {
    /// Whether it changes nothing.
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
