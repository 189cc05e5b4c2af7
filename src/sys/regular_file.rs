//! Regular files in places where others may have put something else: a link, a FIFO or a device
//! under the expected name.
//!
//! No function waits for the other end of a FIFO or reads more than the caller allows, and only
//! [`read_linked`] follows a symbolic link at the end of the path.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

/// The flags of every open. `O_NONBLOCK` has no effect on a regular file, and without it open(2)
/// waits for the other end of a FIFO.
const FLAGS: i32 = libc::O_NONBLOCK | libc::O_NOCTTY;

/// Reads a file of at most `max` bytes.
///
/// # Errors
///
/// [`io::ErrorKind::FileTooLarge`] if the file is longer, an error without a code if it is not a
/// regular file, or the error of the system call.
pub fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    bounded(open(path, libc::O_NOFOLLOW)?, max)
}

/// Does the same as [`read`], but the path may be a symbolic link: for a path that an administrator
/// gives.
///
/// # Errors
///
/// As [`read`].
pub fn read_linked(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    bounded(open(path, 0)?, max)
}

fn bounded((file, length): (File, u64), max: u64) -> io::Result<Vec<u8>> {
    // The length is checked first, so that a large file costs nothing, and the bytes are counted
    // too, because the file may grow.
    let mut bytes = Vec::new();
    if length <= max {
        file.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    }
    if length > max || bytes.len() as u64 > max {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// Reads the last `max` bytes of a file, or all of a shorter file.
///
/// # Errors
///
/// As [`read`], but no length is an error.
pub fn read_end(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let (mut file, length) = open(path, libc::O_NOFOLLOW)?;
    file.seek(SeekFrom::Start(length.saturating_sub(max)))?;
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes a file. A new file gets mode 0600, and an existing one is overwritten.
///
/// # Errors
///
/// An error without a code if there is something that is not a regular file, or the error of the
/// system call.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    create(path)?.write_all(bytes)
}

/// Opens a file for reading and writing, and truncates it. A new file gets mode 0600.
///
/// # Errors
///
/// As [`write()`].
pub fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    options.custom_flags(FLAGS | libc::O_NOFOLLOW);
    let file = options.open(path)?;
    length_of_regular(&file)?;
    file.set_len(0)?;
    Ok(file)
}

/// Opens a file for reading, and returns its length in bytes.
fn open(path: &Path, flags: i32) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().read(true).custom_flags(FLAGS | flags).open(path)?;
    let length = length_of_regular(&file)?;
    Ok((file, length))
}

fn length_of_regular(file: &File) -> io::Result<u64> {
    let attributes = file.metadata()?;
    match attributes.is_file() {
        true => Ok(attributes.len()),
        false => Err(io::Error::other(format!(
            "not a regular file (mode {:o})",
            attributes.permissions().mode()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    /// Check that what is no regular file is neither read, written nor waited for.
    #[test]
    fn only_a_regular_file_is_opened() {
        let directory = tempfile::tempdir().unwrap();
        let [plain, link, fifo] = ["plain", "link", "fifo"].map(|name| directory.path().join(name));
        fs::write(&plain, "content").unwrap();
        symlink(&plain, &link).unwrap();
        mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        for path in [&link, &fifo, Path::new("/dev/zero"), directory.path()] {
            assert!(read(path, 100).is_err(), "{}", path.display());
            assert!(read_end(path, 100).is_err(), "{}", path.display());
            assert!(write(path, b"x").is_err(), "{}", path.display());
        }
        assert!(read_linked(&fifo, 100).is_err());
        assert_eq!(read_linked(&link, 100).unwrap(), b"content");
        assert_eq!(read(&plain, 100).unwrap(), b"content");
    }

    /// Check the limits of both ways to read, and that a write replaces the content.
    #[test]
    fn no_more_is_read_than_allowed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        write(&path, b"0123456789").unwrap();
        assert_eq!(read(&path, 10).unwrap(), b"0123456789");
        assert_eq!(read(&path, 9).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read_end(&path, 4).unwrap(), b"6789");
        assert_eq!(read_end(&path, 100).unwrap(), b"0123456789");
        write(&path, b"new").unwrap();
        assert_eq!(read(&path, 10).unwrap(), b"new");
        // A terabyte without blocks on disk.
        File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(read(&path, 100).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read_end(&path, 2).unwrap(), [0, 0]);
    }
}
