use std::{ffi::OsString, num::NonZeroU64, os::unix::ffi::OsStringExt as _, sync::Arc};

use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;
use crate::{
    model::{Args, FileId, Grade, Image, Lineage, ProcessKey, Stage, Text, UnknownReason},
    observe::record::{CallId, Provenance, ScanStep, What},
};

const GRADES: [Grade; 4] = [Grade::Exact, Grade::Late, Grade::Partial, Grade::Snapshot];

const UNKNOWNS: [UnknownReason; 5] = [
    UnknownReason::Gone,
    UnknownReason::Replaced,
    UnknownReason::Denied,
    UnknownReason::Faulted,
    UnknownReason::NotSeen,
];

fn text() -> impl Strategy<Value = Option<Text>> {
    let bytes = vec(any::<u8>(), 0..40);
    proptest::option::of(bytes.prop_map(|bytes| bytes.into_boxed_slice().into()))
}

fn image() -> impl Strategy<Value = Arc<Image>> {
    let args = proptest::option::of((vec(any::<u8>(), 0..60), any::<u64>(), any::<u32>()));
    let ids = (any::<Option<u32>>(), any::<Option<u32>>(), proptest::option::of(0..UNKNOWNS.len()));
    (text(), args, text(), text(), ids).prop_map(
        |(executable, args, working_directory, comm, (uid, gid, unknown))| {
            let args = args.map(|(bytes, total_bytes, count)| Args {
                bytes: bytes.into(),
                total_bytes,
                count,
                redacted: false,
            });
            let unknown = unknown.map(|code| UNKNOWNS[code]);
            Arc::new(Image {
                executable,
                executable_deleted: uid == Some(0),
                args,
                working_directory,
                comm,
                uid,
                gid,
                charge: None,
                stack: uid.and_then(|uid| NonZeroU64::new(uid.into())),
                unknown,
            })
        },
    )
}

fn lineage() -> impl Strategy<Value = Lineage> {
    any::<(Option<i32>, Option<(i32, u64)>, Option<i32>)>().prop_map(
        |(vpid, parent, grandparent_pid)| Lineage {
            vpid,
            parent: parent.map(|(pid, start_ticks)| ProcessKey::new(pid, start_ticks)),
            grandparent_pid,
        },
    )
}

fn what() -> impl Strategy<Value = What> {
    let file = || {
        proptest::option::of(
            any::<(u64, u64)>().prop_map(|(device, inode)| FileId { device, inode }),
        )
    };
    prop_oneof![
        lineage().prop_map(What::Fork),
        (lineage(), image(), any::<Option<u64>>(), any::<Option<bool>>()).prop_map(
            |(lineage, image, cgroup, in_host_mounts)| What::Exec {
                lineage,
                image,
                cgroup,
                in_host_mounts
            }
        ),
        (any::<Option<u32>>(), any::<bool>(), file(), file()).prop_map(
            |(wait_status, oom_killed, a, b)| What::Exit {
                wait_status,
                oom_killed,
                outputs: [a, b]
            }
        ),
        (lineage(), image(), any::<Option<u64>>())
            .prop_map(|(lineage, image, cgroup)| What::Alive { lineage, image, cgroup }),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    let provenance = any::<Option<(u64, Option<u32>, bool, bool)>>().prop_map(|provenance| {
        provenance.map(|(start_ns, call, is_born, is_inside)| Provenance {
            start_ns,
            call: call.map(CallId),
            is_born,
            is_inside,
        })
    });
    let record = (any::<(u64, u64, i32, u64)>(), 0..GRADES.len(), provenance, what()).prop_map(
        |((target, at_ns, pid, start), grade, provenance, what)| {
            Answer::Record(Record::Process {
                target: TargetId(target),
                at_ns,
                grade: GRADES[grade],
                key: ProcessKey::new(pid, start),
                provenance,
                what,
            })
        },
    );
    let lost = any::<(Option<u64>, u64, Option<u64>, bool)>().prop_map(
        |(target, at_ns, count, kernel)| {
            let stage = if kernel { Stage::Kernel } else { Stage::Source };
            Answer::Record(Record::Lost { target: target.map(TargetId), at_ns, count, stage })
        },
    );
    let scan = any::<(u64, u64, bool)>().prop_map(|(target, at_ns, began)| {
        let step = if began { ScanStep::Began } else { ScanStep::Ended };
        Answer::Record(Record::Scan { target: TargetId(target), at_ns, step })
    });
    prop_oneof![
        any::<u32>().prop_map(|version| Answer::Ready { version }),
        any::<u64>().prop_map(|id| Answer::Watched { id: TargetId(id) }),
        any::<(u64, i32)>().prop_map(|(id, errno)| Answer::Refused { id: TargetId(id), errno }),
        record,
        scan,
        lost,
    ]
}

fn request() -> impl Strategy<Value = Request> {
    let path = vec(any::<u8>(), 0..40).prop_map(|bytes| OsString::from_vec(bytes).into());
    let namespace = any::<(u32, i32)>().prop_map(|(inode, pid)| PidNamespace { inode, pid });
    let cgroup = (path, proptest::option::of(namespace))
        .prop_map(|(path, pid_namespace)| Target::Cgroup { path, pid_namespace });
    let tree = any::<i32>().prop_map(|pid| Target::Tree { pid });
    prop_oneof![
        any::<u32>().prop_map(|version| Request::Hello { version }),
        (any::<u64>(), prop_oneof![cgroup, tree])
            .prop_map(|(id, target)| Request::Watch { id: TargetId(id), target }),
        any::<u64>().prop_map(|id| Request::Unwatch { id: TargetId(id) }),
    ]
}

/// A packet of all messages.
fn packet(messages: &[impl Serialize]) -> Vec<u8> {
    messages.iter().flat_map(|message| encode(message).unwrap()).collect()
}

proptest! {
    /// Check that answers that are encoded into one packet are decoded unchanged and in order.
    #[test]
    fn answers_in_a_packet_are_decoded_unchanged(answers in vec(answer(), 0..6)) {
        let decoded: Option<Vec<_>> = frames(&packet(&answers)).map(decode).collect();
        prop_assert_eq!(decoded, Some(answers));
    }

    /// Check the same of requests, with paths in any encoding.
    #[test]
    fn requests_in_a_packet_are_decoded_unchanged(requests in vec(request(), 0..6)) {
        let decoded: Option<Vec<_>> = frames(&packet(&requests)).map(decode).collect();
        prop_assert_eq!(decoded, Some(requests));
    }

    /// Check that arbitrary bytes are decoded or refused, and never cause a panic.
    #[test]
    fn arbitrary_bytes_cause_no_panic(bytes in vec(any::<u8>(), 0..200)) {
        for frame in frames(&bytes) {
            let _ = (decode::<Answer>(frame), decode::<Request>(frame));
        }
        let _ = (decode::<Answer>(&bytes), decode::<Request>(&bytes));
    }

    /// Check the same of a message with some changed bytes, which gets past the first fields.
    #[test]
    fn damaged_messages_cause_no_panic(
        answer in answer(),
        changes in vec((any::<Index>(), any::<u8>()), 1..4),
        length in any::<Index>(),
    ) {
        let mut bytes = encode(&answer).unwrap().split_off(LENGTH_SIZE);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = decode::<Answer>(&bytes);
        let _ = decode::<Answer>(&bytes[..length.index(bytes.len())]);
    }

    /// Check that a message that is cut off, or followed by another byte, is refused.
    #[test]
    fn messages_of_another_length_are_refused(answer in answer(), length in any::<Index>()) {
        let mut bytes = encode(&answer).unwrap().split_off(LENGTH_SIZE);
        prop_assert_eq!(decode::<Answer>(&bytes[..length.index(bytes.len())]), None);
        bytes.push(0);
        prop_assert_eq!(decode::<Answer>(&bytes), None);
    }
}

/// Check that a length that exceeds the frame is refused, however large it is.
#[test]
fn lengths_beyond_the_frame_are_refused() {
    // A watch of a cgroup: the variant, the id, the target's variant, and the path's length.
    for length in [&[9][..], &[0xff, 0xff, 0xff, 0xff, 0x0f], &[0xff; 10]] {
        let frame = [&[1, 7, 0], length, b"/path"].concat();
        assert_eq!(decode::<Request>(&frame), None, "{length:?}");
    }
}

/// Check that a message that does not fit into a packet is not encoded.
#[test]
fn messages_longer_than_a_packet_are_not_encoded() {
    let watch = |length| {
        let path = "x".repeat(length).into();
        encode(&Request::Watch {
            id: TargetId(1),
            target: Target::Cgroup { path, pid_namespace: None },
        })
    };
    assert!(watch(PACKET_LIMIT - 64).is_some_and(|frame| frame.len() <= PACKET_LIMIT));
    assert_eq!(watch(PACKET_LIMIT), None);
}

/// Check that the handshake has the bytes that version 1 had, so that each end can decode the
/// version of the other.
#[test]
fn the_handshake_has_the_same_bytes_in_every_version() {
    let bytes = [5, 0, 0, 0, 0, 0x44, 0x33, 0x22, 0x11];
    assert_eq!(encode(&Request::Hello { version: 0x1122_3344 }).unwrap(), bytes);
    assert_eq!(encode(&Answer::Ready { version: 0x1122_3344 }).unwrap(), bytes);
}
