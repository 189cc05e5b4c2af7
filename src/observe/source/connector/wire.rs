//! The messages between the node's listener and a shim.
//!
//! A packet of the `SOCK_SEQPACKET` socket consists of frames. A frame is a length of 32 bits
//! (little-endian), and that many bytes: one message, encoded by postcard. Both ends normally run
//! the same binary; the version shows if a listener that was started before an upgrade still runs.

use std::path::PathBuf;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::observe::{
    record::{Record, TargetId},
    source::{PidNamespace, Target},
};

/// The version of the protocol between the listener and a shim. It must change with every change of
/// the messages below, and of the types in [`Record`].
pub(super) const PROTOCOL_VERSION: u32 = 3;

/// The longest packet, in bytes. The longest image (arguments and paths) takes a quarter of it.
pub(super) const PACKET_LIMIT: usize = 64 << 10;

/// The size of the length at the beginning of a frame, in bytes.
const LENGTH_SIZE: usize = 4;

/// A message from a shim to the listener.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Request {
    /// The first message, which the listener answers with [`Answer::Ready`].
    Hello {
        // The handshake has the same bytes in every version, so that two versions can detect that
        // they differ. Therefore `Hello` stays the first variant, and its number has a fixed
        // length.
        #[serde(with = "postcard::fixint::le")]
        version: u32,
    },
    /// Starts to watch a target. The listener answers with [`Answer::Watched`] or
    /// [`Answer::Refused`].
    Watch {
        id: TargetId,
        #[serde(with = "TargetEncoding")]
        target: Target,
    },
    /// Ends the watch of a target. There is no answer.
    Unwatch { id: TargetId },
}

/// A message from the listener to a shim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Answer {
    /// The answer to [`Request::Hello`], with the listener's version.
    Ready {
        // See `Request::Hello`.
        #[serde(with = "postcard::fixint::le")]
        version: u32,
    },
    /// The target is watched: every later event of it is reported.
    Watched { id: TargetId },
    /// The target is not watched. `errno` is the reason.
    Refused { id: TargetId, errno: i32 },
    /// A record of a watched target, or a loss. Not an answer to a request.
    Record(Record),
}

/// The encoding of a [`Target`] with a path of any bytes: serde itself only encodes paths in UTF-8.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Target")]
enum TargetEncoding {
    Cgroup {
        #[serde(with = "path_bytes")]
        path: PathBuf,
        pid_namespace: Option<PidNamespace>,
    },
    Tree {
        pid: i32,
    },
}

mod path_bytes {
    use std::{
        ffi::OsString,
        os::unix::ffi::{OsStrExt as _, OsStringExt as _},
        path::{Path, PathBuf},
    };

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(super) fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
        path.as_os_str().as_bytes().serialize(to)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<PathBuf, D::Error> {
        Vec::deserialize(from).map(|bytes| OsString::from_vec(bytes).into())
    }
}

/// Encodes a message as a frame. `None` if the frame would be longer than a packet.
pub(super) fn encode(message: &impl Serialize) -> Option<Vec<u8>> {
    let mut frame = postcard::to_extend(message, vec![0; LENGTH_SIZE]).ok()?;
    if frame.len() > PACKET_LIMIT {
        return None;
    }
    let length = u32::try_from(frame.len() - LENGTH_SIZE).ok()?;
    frame[..LENGTH_SIZE].copy_from_slice(&length.to_le_bytes());
    Some(frame)
}

/// Decodes the message of a frame. `None` if the bytes are no such message, or more than one. Never
/// allocates more than a small multiple of the frame: postcard does not reserve memory for a length
/// that exceeds the remaining bytes.
pub(super) fn decode<T: DeserializeOwned>(frame: &[u8]) -> Option<T> {
    let (message, rest) = postcard::take_from_bytes(frame).ok()?;
    rest.is_empty().then_some(message)
}

/// The frames of a packet, up to the first that is cut off.
pub(super) fn frames(mut packet: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = packet.split_first_chunk::<LENGTH_SIZE>()?;
        let (frame, after) =
            rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        packet = after;
        Some(frame)
    })
}

#[cfg(test)]
mod tests;
