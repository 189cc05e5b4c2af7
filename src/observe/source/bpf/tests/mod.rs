use libbpf_rs::btf::{Btf, types};
use sha2::{Digest as _, Sha256};

use super::layout::*;

mod root;
mod stage;

/// The number of the ABI, and the hash of the header and the maps that belongs to it.
const ABI_AND_HASH: (u32, &str) = (9, "ef6f3e633762abf1");

/// Check that each structure of record.h has the same fields at the same offsets in Rust.
#[test]
fn the_mirror_has_the_layout_of_the_compiled_header() {
    // From the compiled object, because only BTF has the layout that the compiler chose.
    let object = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(object.path(), super::loader::object()).unwrap();
    let btf = Btf::from_path(object.path()).unwrap();
    let mirrored = [
        (Header::MIRRORED, Header::SIZE),
        (Lineage::MIRRORED, Lineage::SIZE),
        (Fork::MIRRORED, Fork::SIZE),
        (Exec::MIRRORED, Exec::SIZE),
        (OpenFile::MIRRORED, OpenFile::SIZE),
        (Exit::MIRRORED, Exit::SIZE),
        (Port::MIRRORED, Port::SIZE),
        (Connected::MIRRORED, Connected::SIZE),
        (ConnectionsValue::MIRRORED, ConnectionsValue::SIZE),
        (TargetValue::MIRRORED, TargetValue::SIZE),
        (Listener::MIRRORED, Listener::SIZE),
        (Member::MIRRORED, Member::SIZE),
        (CallContext::MIRRORED, CallContext::SIZE),
        (Owner::MIRRORED, Owner::SIZE),
        (Config::MIRRORED, Config::SIZE),
    ];
    for ((name, fields), size) in mirrored {
        let compiled = btf
            .type_by_name::<types::Struct<'_>>(name)
            .unwrap_or_else(|| panic!("{name} is not in BTF"));
        assert_eq!(libbpf_rs::btf::HasSize::size(&compiled), size, "{name}");
        assert_eq!(compiled.len(), fields.len(), "{name}");
        // Rust has no padding between fields, so each offset is the sum of the sizes before it.
        let mut offset = 0;
        for (member, (field, size)) in compiled.iter().zip(fields) {
            assert_eq!(member.name.unwrap().to_str(), Some(*field), "{name}");
            let types::MemberAttr::Normal { offset: bits } = member.attr else {
                panic!("{name}.{field} is a bit field")
            };
            assert_eq!(bits as usize, offset * 8, "{name}.{field}");
            offset += size;
        }
    }
}

/// Check that the kinds, flags and limits in Rust are those of the header.
#[test]
fn the_constants_are_those_of_the_header() {
    let header = include_str!("../../../../../bpf/record.h");
    let constants = [
        ("FORK", kind::FORK),
        ("EXEC", kind::EXEC),
        ("EXIT", kind::EXIT),
        ("LISTEN", kind::LISTEN),
        ("UNLISTEN", kind::UNLISTEN),
        ("CONNECTED", kind::CONNECTED),
        ("ARGS_FAULTED", flag::ARGS_FAULTED),
        ("EXECUTABLE_CUT", flag::EXECUTABLE_CUT),
        ("DIRECTORY_CUT", flag::DIRECTORY_CUT),
        ("OOM_KILLED", flag::OOM_KILLED),
        ("INET6", flag::INET6),
        ("INET6_ONLY", flag::INET6_ONLY),
        ("UDP", flag::UDP),
        ("EXECUTABLE_DELETED", flag::EXECUTABLE_DELETED),
        ("BORN", header_flag::BORN),
        ("INSIDE", header_flag::INSIDE),
        ("SLOTS", SLOTS),
        ("TARGETS", TARGETS),
        ("MEMBERS", MEMBERS),
        ("LISTENERS", LISTENERS),
        ("SHARED_MEMBERS", SHARED_MEMBERS),
        ("SHARED_LISTENERS", SHARED_LISTENERS),
        ("IN_ENTRIES", member_flag::IN_ENTRIES),
        ("IN_TARGET", member_flag::IN_TARGET),
        ("SPAWNS", member_flag::SPAWNS),
        ("BORN_MEMBER", member_flag::BORN_MEMBER),
        ("ARGS_MAX", ARGS_MAX),
        ("PATH_MAX", PATH_MAX),
        ("COLLECT_NS", COLLECT_NS),
    ];
    for (name, value) in constants {
        let line = format!("\tLOOKOUT_{name} = {value},\n");
        assert!(header.contains(&line), "record.h has no {line}");
    }
    // Each constant of the header has a line above.
    assert_eq!(header.matches(" = ").count(), constants.len());
}

/// Check that a change of the interface between a pinned set and a shim comes with a new ABI
/// number.
#[test]
fn a_change_of_the_shared_layout_has_a_new_abi() {
    let shared =
        [include_str!("../../../../../bpf/record.h"), include_str!("../../../../../bpf/maps.h")]
            .concat();
    let hash: String =
        Sha256::digest(shared.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((super::ABI, &hash[..16]), ABI_AND_HASH, "increase ABI, and update ABI_AND_HASH");
}
