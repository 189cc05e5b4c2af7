use proptest::prelude::*;

use super::*;

const HEADER: Header = Header {
    kind: kind::EXEC,
    length: 0,
    target: 77,
    at_ns: 5,
    start_ns: 30_000_000,
    lost: 3,
    tgid: 40,
    vpid: 4,
    call: 6,
    flags: header_flag::INSIDE,
};

const LINEAGE: layout::Lineage =
    layout::Lineage { parent_start_ns: 20_000_000, parent_tgid: 39, grandparent_tgid: 38 };

fn exec_bytes(flags: u32, args: &[u8], executable: &[u8], directory: &[u8]) -> Vec<u8> {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
    let mut exec = Exec {
        header: HEADER,
        lineage: LINEAGE,
        cgroup: 78,
        args_total: 9000,
        stack: 0x7ffe_1000,
        args_count: 2,
        mount_namespace: 11,
        uid: 1,
        gid: 2,
        args_length: length(args),
        executable_length: length(executable),
        directory_length: length(directory),
        flags,
        comm: *b"sleep\0garbage\0\0\0",
    };
    exec.header.length =
        length(args) + length(executable) + length(directory) + u32::try_from(Exec::SIZE).unwrap();
    let mut bytes = exec.to_bytes();
    bytes.extend([args, executable, directory].concat());
    bytes
}

fn image(bytes: &[u8]) -> (Grade, Image) {
    match decode(bytes, Some(11)).unwrap().record {
        Record::Process { grade, what: What::Exec { image, .. }, .. } => {
            (grade, Image::clone(&image))
        }
        other => panic!("{other:?}"),
    }
}

/// Check that all parts of an exec are decoded, and that paths are in the usual order.
#[test]
fn an_exec_is_decoded_completely() {
    let bytes = exec_bytes(0, b"a\0b\0", b"sleep\0bin\0usr\0", b"");
    let decoded = decode(&bytes, Some(11)).unwrap();
    assert_eq!((decoded.target, decoded.at_ns, decoded.lost), (TargetId(77), 5, 3));
    let Record::Process {
        key,
        grade,
        provenance,
        what: What::Exec { lineage, image, cgroup, in_host_mounts },
        ..
    } = decoded.record
    else {
        panic!("not an exec");
    };
    assert_eq!((key, grade), (ProcessKey::new(40, 3), Grade::Exact));
    let of_call =
        Provenance { start_ns: 30_000_000, call: Some(CallId(6)), is_born: false, is_inside: true };
    assert_eq!(provenance, Some(of_call));
    let expected =
        Lineage { vpid: Some(4), parent: Some(ProcessKey::new(39, 2)), grandparent_pid: Some(38) };
    assert_eq!((lineage, cgroup, in_host_mounts), (expected, Some(78), Some(true)));
    assert_eq!(image.executable.as_deref(), Some(&b"/usr/bin/sleep"[..]));
    assert_eq!(image.working_directory.as_deref(), Some(&b"/"[..]));
    assert_eq!(image.comm.as_deref(), Some(&b"sleep"[..]));
    let args = image.args.as_ref().unwrap();
    assert_eq!(
        (&*args.bytes, args.total_bytes, args.count, args.truncated()),
        (&b"a\0b\0"[..], 9000, 2, true)
    );
}

/// Check that a part that the kernel could not read is absent, and that the image has the reason.
#[test]
fn a_part_that_faulted_is_absent_and_marked() {
    let (grade, faulted) = image(&exec_bytes(flag::ARGS_FAULTED, b"", b"x\0", b"y\0"));
    assert_eq!(
        (grade, faulted.unknown, faulted.args),
        (Grade::Partial, Some(UnknownReason::Faulted), None)
    );
    assert_eq!(faulted.executable.as_deref(), Some(&b"/x"[..]));
    let (grade, cut) = image(&exec_bytes(flag::DIRECTORY_CUT, b"x\0", b"x\0", b"y\0z\0"));
    assert_eq!(
        (grade, cut.unknown, cut.working_directory),
        (Grade::Partial, Some(UnknownReason::NotSeen), None)
    );
}

/// Check that an output with device 0 and inode 0 is absent, and that the OOM killer's flag is
/// decoded.
#[test]
fn an_exit_has_its_outputs() {
    let length = u32::try_from(Exit::SIZE).unwrap();
    let header = Header { kind: kind::EXIT, length, ..HEADER };
    let outputs = [OpenFile { device: 8, inode: 9 }, OpenFile::default()];
    let exit = Exit { header, wait_status: 9, flags: flag::OOM_KILLED, outputs };
    let Record::Process { what, .. } = decode(&exit.to_bytes(), None).unwrap().record else {
        panic!("no process")
    };
    let outputs = [Some(FileId { device: 8, inode: 9 }), None];
    assert_eq!(what, What::Exit { wait_status: Some(9), oom_killed: true, outputs });
}

/// Check that a record of an unknown kind, and a record with a wrong length, are refused.
#[test]
fn malformed_records_are_refused() {
    let length = u32::try_from(Header::SIZE).unwrap();
    let future = Header { kind: 99, length, ..HEADER };
    assert_eq!(decode(&future.to_bytes(), None), Err(Malformed::Kind { kind: 99 }));
    let wrong = Header { length: 7, ..HEADER };
    assert_eq!(
        decode(&wrong.to_bytes(), None),
        Err(Malformed::Length { length: Header::SIZE, claimed: 7 })
    );
    assert_eq!(decode(&[1, 2, 3], None), Err(Malformed::Short { length: 3 }));
    let mut cut = exec_bytes(0, b"abc\0", b"", b"");
    cut.truncate(Exec::SIZE + 1);
    let length = u32::try_from(cut.len()).unwrap().to_ne_bytes();
    cut[4..8].copy_from_slice(&length);
    assert_eq!(decode(&cut, None), Err(Malformed::Short { length: cut.len() }));
}

proptest! {
    /// Check that decoding does not panic, whatever the bytes are.
    #[test]
    fn decoding_never_panics(
        mut bytes in prop::collection::vec(any::<u8>(), 0..400),
        kind in 0u32..5,
        has_header: bool,
    ) {
        // Random bytes almost never have a valid kind and length, so half of the cases get them.
        if bytes.len() >= 8 && has_header {
            bytes[..4].copy_from_slice(&kind.to_ne_bytes());
            let length = u32::try_from(bytes.len()).unwrap().to_ne_bytes();
            bytes[4..8].copy_from_slice(&length);
        }
        let _ = decode(&bytes, Some(1));
    }

    /// Check that a path has its components in reverse order, whatever bytes they have.
    #[test]
    fn a_path_is_its_components_reversed(
        components in prop::collection::vec("[^/\\x00]{1,9}", 1..9),
    ) {
        let leaf_first: Vec<u8> = components
            .iter()
            .rev()
            .flat_map(|part| [part.as_bytes(), &[0]].concat())
            .collect();
        let expected = format!("/{}", components.join("/"));
        let path = path(&leaf_first);
        prop_assert_eq!(&*path, expected.as_bytes());
    }
}
