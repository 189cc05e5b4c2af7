//! The identity by which containerd names a process of a container: init, or an exec.

use std::sync::Arc;

/// A process that containerd can name. In containerd's messages an empty exec id means init; the
/// code that decodes a message converts the exec id to this type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ProcessId {
    /// The container's first process.
    Init,
    /// The first process of an exec. The value is the exec id, which is not empty. The text `init`
    /// is an ordinary exec id.
    Exec(Arc<str>),
}

impl ProcessId {
    /// Converts the exec id of a containerd message; an empty one means init.
    #[must_use]
    pub fn from_exec_id(exec_id: &str) -> Self {
        if exec_id.is_empty() { Self::Init } else { Self::Exec(exec_id.into()) }
    }

    /// The exec id; `None` for init.
    #[must_use]
    pub fn exec_id(&self) -> Option<&str> {
        match self {
            Self::Init => None,
            Self::Exec(exec_id) => Some(exec_id),
        }
    }
}
