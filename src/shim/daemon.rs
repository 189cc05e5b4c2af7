//! Detects the major version of the calling containerd, 1 or 2.
//!
//! containerd does not report its version (`MAX_SHIM_VERSION` is 2 in 1.7 and in 2.x). But
//! containerd is a Go program, and a Go program contains the path of its main package, which is
//! `github.com/containerd/containerd/v2/…` since 2.0. The path is in the ELF section
//! `.go.buildinfo`, in the form that Go's `debug/buildinfo` documents (Go 1.18 and later: a 32-byte
//! header, then two strings, each a varint length and that many bytes; the second string is the
//! module information, between two marks).
//!
//! If a part of the file cannot be read, version 1 is assumed, because every containerd accepts the
//! answer for version 1.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};

/// The largest size in bytes of a table or section of the binary that is read. A binary with a
/// larger one counts as version 1.
const PART_MAX: u64 = 1 << 20;

/// Length in bytes of the marks before and after the module information
/// (`cmd/go/internal/modload`, `infoStart` and `infoEnd`).
const MARK_LENGTH: usize = 16;

/// Whether the program in the file `binary` is containerd 2.0 or later.
pub(super) fn is_version_2(binary: &Path) -> bool {
    let module = File::open(binary).and_then(|file| module_information(&file));
    module.is_ok_and(|module| {
        String::from_utf8_lossy(&module)
            .lines()
            .any(|line| line.starts_with("path\tgithub.com/containerd/containerd/v2/"))
    })
}

/// The module information: the second string of `.go.buildinfo`.
pub(super) fn module_information(file: &File) -> io::Result<Vec<u8>> {
    /// Bit of the flags in the header of `.go.buildinfo`: strings follow the header. Without it,
    /// pointers to strings follow (Go before 1.18).
    const STRINGS_INLINE: u8 = 2;
    let section = section(file, b".go.buildinfo")?;
    let header = section.get(..32).ok_or(io::ErrorKind::InvalidData)?;
    if !header.starts_with(b"\xff Go buildinf:") || header[15] & STRINGS_INLINE == 0 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let rest = section.get(32..).unwrap_or_default();
    let (_go_version, rest) = split_string(rest).ok_or(io::ErrorKind::InvalidData)?;
    let (module, _) = split_string(rest).ok_or(io::ErrorKind::InvalidData)?;
    Ok(module.get(MARK_LENGTH..).unwrap_or_default().to_vec())
}

/// Splits off a string: a varint length and that many bytes. Returns the string and the rest.
fn split_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length = 0_usize;
    for (index, byte) in bytes.iter().enumerate().take(4) {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let rest = bytes.get(index + 1..)?;
            return Some((rest.get(..length)?, rest.get(length..)?));
        }
    }
    None
}

/// The content of a section of a 64-bit ELF file in this machine's byte order.
fn section(file: &File, name: &[u8]) -> io::Result<Vec<u8>> {
    let header = read_at(file, 0, 64)?;
    let is_elf64 = header.starts_with(b"\x7fELF\x02");
    if !is_elf64 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    // elf(5): e_shoff, e_shentsize, e_shnum, e_shstrndx.
    let table_at = u64_at(&header, 0x28)?;
    let [entry_size, entries, names] =
        [0x3a, 0x3c, 0x3e].map(|at| u64::from(u16::from_ne_bytes([header[at], header[at + 1]])));
    let table = read_at(file, table_at, entry_size * entries)?;
    let entry = |index: u64| {
        let start = usize::try_from(index * entry_size).ok()?;
        table.get(start..start + usize::try_from(entry_size).ok()?)
    };
    let content = |entry: &[u8]| read_at(file, u64_at(entry, 0x18)?, u64_at(entry, 0x20)?);
    let names = content(entry(names).ok_or(io::ErrorKind::InvalidData)?)?;
    for index in 0..entries {
        let Some(entry) = entry(index).filter(|entry| entry.len() >= 64) else { break };
        let name_at = u32::from_ne_bytes([entry[0], entry[1], entry[2], entry[3]]) as usize;
        // Only as many bytes are compared as the name has: there may be many sections.
        let after = names.get(name_at..).and_then(|rest| rest.strip_prefix(name));
        if after.is_some_and(|after| after.first().is_none_or(|byte| *byte == 0)) {
            return content(entry);
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

/// The number of 64 bits at the offset `at`.
fn u64_at(bytes: &[u8], at: usize) -> io::Result<u64> {
    let number = bytes
        .get(at..at + 8)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(io::ErrorKind::InvalidData)?;
    Ok(u64::from_ne_bytes(number))
}

/// The `length` bytes at the offset `at` of a file.
fn read_at(file: &File, at: u64, length: u64) -> io::Result<Vec<u8>> {
    if length > PART_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}
