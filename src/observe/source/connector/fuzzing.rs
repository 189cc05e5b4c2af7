//! The fuzz targets of the proc connector's messages, and of those between the listener and a shim.

use std::hint::black_box;

use serde::{Serialize, de::DeserializeOwned};

use super::{
    netlink,
    wire::{self, Answer, Request},
};

/// Parses a message of the kernel.
pub(crate) fn netlink_message(bytes: &[u8]) {
    black_box(netlink::parse(bytes));
}

/// Reads the frames of a packet, each as a request and as an answer.
pub(crate) fn packet(bytes: &[u8]) {
    for frame in wire::frames(bytes) {
        check::<Request>(frame);
        check::<Answer>(frame);
    }
}

/// Checks that a message that was decoded is the same after it was encoded and decoded again.
fn check<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(frame: &[u8]) {
    let Some(message) = wire::decode::<T>(frame) else { return };
    let Some(encoded) = wire::encode(&message) else { return };
    let mut frames = wire::frames(&encoded);
    let again = frames.next().and_then(wire::decode::<T>);
    assert!(again == Some(message) && frames.next().is_none());
}
