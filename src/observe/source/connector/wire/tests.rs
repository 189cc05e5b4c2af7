use proptest::{collection::vec, prelude::*};

use super::*;

fn bytes() -> impl Strategy<Value = Option<Box<[u8]>>> {
    proptest::option::of(vec(any::<u8>(), 0..40).prop_map(Into::into))
}

fn image() -> impl Strategy<Value = Arc<Image>> {
    let args = proptest::option::of((vec(any::<u8>(), 0..60), any::<u64>(), any::<u32>()));
    let ids = (any::<Option<u32>>(), any::<Option<u32>>(), proptest::option::of(0..UNKNOWNS.len()));
    (bytes(), args, bytes(), bytes(), ids).prop_map(
        |(executable, args, working_directory, comm, (uid, gid, unknown))| {
            let args = args.map(|(bytes, total_bytes, count)| Args {
                bytes: bytes.into(),
                total_bytes,
                count,
                redacted: false,
            });
            let unknown = unknown.map(|code| UNKNOWNS[code]);
            Arc::new(Image { executable, args, working_directory, comm, uid, gid, unknown })
        },
    )
}

fn lineage() -> impl Strategy<Value = Lineage> {
    any::<(Option<i32>, i32, u64, i32)>().prop_map(
        |(vpid, parent_pid, parent_start_ticks, grandparent_pid)| Lineage {
            vpid,
            parent_pid,
            parent_start_ticks,
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
        Just(What::ScanBegan),
        Just(What::ScanEnded),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    let record = (any::<(u64, u64, i32, u64)>(), 0_u8..4, what()).prop_map(
        |((target, at_ns, pid, start), grade, what)| {
            Answer::Record(Record::Process {
                target: TargetId(target),
                at_ns,
                grade: grade_of(grade).unwrap(),
                key: ProcessKey { pid, start_ticks: start },
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
    prop_oneof![
        any::<u32>().prop_map(|version| Answer::Ready { version }),
        any::<u64>().prop_map(|id| Answer::Watched { id: TargetId(id) }),
        any::<(u64, i32)>().prop_map(|(id, errno)| Answer::Refused { id: TargetId(id), errno }),
        record,
        lost,
    ]
}

proptest! {
    /// Check that answers that are encoded into one packet are decoded unchanged and in order.
    #[test]
    fn answers_in_a_packet_are_decoded_unchanged(answers in vec(answer(), 0..6)) {
        let packet: Vec<u8> = answers.iter().flat_map(Answer::encode).collect();
        let decoded: Option<Vec<_>> = frames(&packet).map(Answer::decode).collect();
        prop_assert_eq!(decoded, Some(answers));
    }

    /// Check that arbitrary bytes are decoded or refused, and never cause a panic.
    #[test]
    fn arbitrary_bytes_cause_no_panic(bytes in vec(any::<u8>(), 0..200)) {
        for frame in frames(&bytes) {
            let _ = (Answer::decode(frame), Request::decode(frame));
        }
        let _ = (Answer::decode(&bytes), Request::decode(&bytes));
    }
}

/// Check that every kind of request is decoded unchanged.
#[test]
fn requests_are_decoded_unchanged() {
    let cgroup =
        Target::Cgroup { path: "/sys/fs/cgroup/pids/\u{fc}".into(), pid_namespace: Some(7) };
    let requests = [
        Request::Hello { version: VERSION },
        Request::Watch { id: TargetId(5), target: cgroup },
        Request::Watch { id: TargetId(6), target: Target::Tree { pid: 9 } },
        Request::Unwatch { id: TargetId(u64::MAX) },
    ];
    for request in requests {
        let packet = request.encode();
        assert_eq!(frames(&packet).map(Request::decode).collect::<Vec<_>>(), [Some(request)]);
    }
}
