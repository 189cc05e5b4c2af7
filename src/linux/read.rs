//! Bounded reads of small files.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read as _},
    os::unix::ffi::OsStringExt as _,
};

/// The initial size of the buffer, in bytes: enough for a usual file of `/proc`, so that the file
/// is read in one call and its content is consistent.
const USUAL_SIZE: usize = 2048;

/// Reads a file, at most `limit` bytes of it.
pub(super) fn read(path: &str, limit: usize) -> io::Result<Vec<u8>> {
    let mut content = Vec::with_capacity(USUAL_SIZE.min(limit));
    File::open(path)?.take(limit as u64).read_to_end(&mut content)?;
    Ok(content)
}

/// The target of a link in `/proc`: at most a page, by the kernel's own limit (`do_proc_readlink`,
/// fs/proc/base.c).
pub(super) fn link(path: &str) -> io::Result<Box<[u8]>> {
    Ok(OsString::into_vec(fs::read_link(path)?.into_os_string()).into())
}
