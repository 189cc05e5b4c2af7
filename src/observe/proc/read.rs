//! Bounded reads of small files.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, ErrorKind, Read as _},
    os::unix::ffi::OsStringExt as _,
};

/// Reads a file of at most `limit` bytes of `/proc`; what is longer is cut there.
pub(super) fn read(path: &str, limit: usize) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut content = vec![0; limit];
    let mut filled = 0;
    while filled < limit {
        match file.read(&mut content[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    content.truncate(filled);
    Ok(content)
}

/// The text of a link of `/proc`: at most a page, by the kernel's own limit (`do_proc_readlink`,
/// fs/proc/base.c).
pub(super) fn link(path: &str) -> io::Result<Box<[u8]>> {
    Ok(OsString::into_vec(fs::read_link(path)?.into_os_string()).into())
}
