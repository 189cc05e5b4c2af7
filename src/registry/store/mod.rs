//! The registry on disk: one file of JSON lines, each with the changes of one command.
//!
//! ```text
//!  registry.jsonl      [{"begin":{"schema":1,"last_id":7}},{"crc32":"c236d3c7"}]
//!                      [{"add":{"id":8,…}},{"crc32":"…"}]
//!                      [{"edit":{"ids":[8],"add_tags":["db"]}},{"crc32":"9933646c"}]
//! ```
//!
//! A line is appended before its command is applied, and the file is synced before the command is
//! answered. A line has all changes of its command. Bytes after the last newline belong to a
//! command that was never answered, and are cut off. When the file has many more lines than
//! entries, it is rewritten under a temporary name and renamed.
//!
//! The last element of a line is its checksum: eight lower-case hexadecimal digits of the CRC-32 of
//! the bytes before its comma (`[{"add":{"id":8,…}}`), the CRC that gzip and Ethernet use. Daemons
//! before this checksum wrote lines without one. Such a line is still read, so a person who edits a
//! line by hand may remove its checksum.
//!
//! A line with a wrong checksum, or that cannot be parsed, is damaged: the file is kept under
//! another name, and the registry is built from the other lines. If the disk is full, a command is
//! refused and no part of it stays in the file.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufWriter, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::{Change, Registry};
use crate::platform::lock::{Lock, try_lock};

/// The version of the format of the registry's file.
const FILE_SCHEMA: u32 = 1;

/// The registry's file is rewritten when it has this many lines more than twice the number of
/// entries.
const EXTRA_LINES_MAX: usize = 10_000;

/// The registry's file, locked for this process.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    path: PathBuf,
    /// The registry's file, open for appending.
    file: File,
    /// The lock by which one daemon uses the directory. The file itself is not locked, because a
    /// rewrite replaces it.
    _lock: Lock,
    /// The length of the file in bytes.
    length: u64,
    /// How many bytes of the file are synced to disk.
    synced_length: u64,
    /// The number of lines in the file.
    lines: usize,
    /// The number of lines at which a failed rewrite is tried again.
    rewrite_retry_at: usize,
    /// Whether the registry has changes that are not in the file.
    lacks_changes: bool,
}

/// The result of [`Store::open`].
#[derive(Debug)]
pub struct OpenedStore {
    /// The store, which keeps the file open.
    pub store: Store,
    /// The registry that results from applying the lines of the file in order.
    pub registry: Registry,
    /// The path of the copy of a damaged file, and how many of its lines are damaged; `None` if the
    /// file was not damaged.
    pub damaged: Option<(PathBuf, usize)>,
}

/// Why the registry's file could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another daemon has locked the directory.
    #[error("another daemon uses {}", directory.display())]
    InUse {
        /// The directory that another daemon uses.
        directory: PathBuf,
    },
    /// A system call failed while the registry was opened.
    #[error("failed to {action} {}", path.display())]
    System {
        /// The step that failed, as a verb.
        action: &'static str,
        /// The file or directory of the failed step.
        path: PathBuf,
        /// The error of the system call.
        #[source]
        source: io::Error,
    },
}

impl Store {
    /// Reads the registry's file in `directory`, and creates both if they are missing. `now_ns`
    /// (since 1970) becomes part of the name under which a damaged file is kept.
    ///
    /// # Errors
    ///
    /// [`StoreError`]. A damaged file is no error.
    pub fn open(directory: &Path, now_ns: u64) -> Result<OpenedStore, StoreError> {
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::System { action, path, source }
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(failed("create", directory))?;
        let opened = File::open(directory).map_err(failed("open", directory))?;
        let lock = try_lock(opened).map_err(failed("lock", directory))?;
        let lock = lock.ok_or_else(|| StoreError::InUse { directory: directory.to_owned() })?;
        let path = directory.join("registry.jsonl");
        let file = open_for_append(&path).map_err(failed("open", &path))?;
        let mut store = Self {
            directory: directory.to_owned(),
            path: path.clone(),
            file,
            _lock: lock,
            length: 0,
            synced_length: 0,
            lines: 0,
            rewrite_retry_at: 0,
            lacks_changes: false,
        };
        let ReadRegistry { registry, damaged_lines } =
            store.read_file().map_err(failed("read", &path))?;
        let mut damaged = None;
        if damaged_lines > 0 {
            damaged = Some((
                keep_damaged_file(&path, now_ns).map_err(failed("set aside", &path))?,
                damaged_lines,
            ));
        }
        // The damaged file is replaced by the undamaged lines, so that the next start finds no
        // damage.
        if damaged_lines > 0 || store.lines == 0 {
            store.rewrite_file(&registry).map_err(failed("write", &path))?;
        }
        Ok(OpenedStore { store, registry, damaged })
    }

    /// The path of the registry's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends the changes of one command to the file, all of them or none. They are durable after
    /// [`sync`](Self::sync).
    ///
    /// # Errors
    ///
    /// The error of the failed system call. No part of the command stays in the file.
    pub fn append(&mut self, changes: &[Change]) -> io::Result<()> {
        // A line needs at least one change, after which the checksum is put.
        if changes.is_empty() {
            return Ok(());
        }
        let mut line = Vec::new();
        encode_line(changes, &mut line)?;
        if self.file.metadata()?.len() != self.length {
            // The file ends with a part of an earlier command: its write failed, and so did cutting
            // off the part that was written.
            self.file.set_len(self.length)?;
        }
        if let Err(error) = (&self.file).write_all(&line) {
            let _ = self.file.set_len(self.length);
            return Err(error);
        }
        self.length += line.len() as u64;
        self.lines += 1;
        Ok(())
    }

    /// Syncs everything that was appended to the file to disk.
    ///
    /// # Errors
    ///
    /// The error of the failed system call. The lines since the last sync are removed, and the
    /// registry has to be [read again](Self::reread).
    pub fn sync(&mut self) -> io::Result<()> {
        if self.synced_length == self.length {
            return Ok(());
        }
        // After a failed fsync(2) the kernel may drop the pages and report success next time, so
        // the lines cannot be kept for a second attempt.
        self.file.sync_data().inspect_err(|_| {
            self.length = self.synced_length;
            let _ = self.file.set_len(self.length);
        })?;
        self.synced_length = self.length;
        Ok(())
    }

    /// Reads the registry again from the synced part of the file. The part that was not synced is
    /// cut off.
    ///
    /// # Errors
    ///
    /// The error of the failed system call.
    pub fn reread(&mut self) -> io::Result<Registry> {
        self.file = open_for_append(&self.path)?;
        self.file.set_len(self.synced_length)?;
        self.read_file().map(|read| read.registry)
    }

    /// Notes that a change was applied that could not be appended to the file, so that the file has
    /// to be rewritten.
    pub fn note_missing_change(&mut self) {
        self.lacks_changes = true;
    }

    /// Whether the registry has changes that are not in the file.
    #[must_use]
    pub fn lacks_changes(&self) -> bool {
        self.lacks_changes
    }

    /// Rewrites the file if it has many more lines than entries; with `catch_up`, also if changes
    /// are missing in the file.
    ///
    /// # Errors
    ///
    /// The error of the failed system call. The file is unchanged, and the rewrite is tried again
    /// after another 10 000 lines, or at the next call with `catch_up`.
    pub fn compact(&mut self, registry: &Registry, catch_up: bool) -> io::Result<()> {
        let is_long =
            self.lines > registry.len() * 2 + EXTRA_LINES_MAX && self.lines > self.rewrite_retry_at;
        if !(is_long || self.lacks_changes && catch_up) {
            return Ok(());
        }
        self.rewrite_retry_at = self.lines + EXTRA_LINES_MAX;
        self.rewrite_file(registry)
    }

    fn rewrite_file(&mut self, registry: &Registry) -> io::Result<()> {
        let new = self.directory.join("registry.jsonl.new");
        let written = self.write_new_file(registry, &new);
        let (file, length, lines) = written.inspect_err(|_| {
            let _ = fs::remove_file(&new);
        })?;
        // The new file is renamed only after it is synced: a crash must not leave half a file under
        // the name of the registry's file.
        fs::rename(&new, &self.path)?;
        (self.file, self.length, self.synced_length, self.lines) = (file, length, length, lines);
        (self.lacks_changes, self.rewrite_retry_at) = (false, 0);
        // The directory is synced after the rename: otherwise a crash of the node may bring back
        // the old file.
        File::open(&self.directory)?.sync_all()
    }

    fn write_new_file(&self, registry: &Registry, new: &Path) -> io::Result<(File, u64, usize)> {
        // A daemon that was killed while it rewrote the file may have left a file with this name.
        match fs::remove_file(new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = open_for_append(new)?;
        let mut writer = BufWriter::with_capacity(1 << 20, &file);
        let mut text = Vec::new();
        let mut line = |change: Change| {
            text.clear();
            encode_line(&[change], &mut text)?;
            writer.write_all(&text)
        };
        line(Change::Begin { schema: FILE_SCHEMA, last_id: registry.last_id() })?;
        line(Change::Seen { time_ns: registry.living_seen_ns() })?;
        for entry in registry.iter() {
            line(Change::Add(Box::new(entry.clone())))?;
        }
        writer.flush()?;
        drop(writer);
        file.sync_all()?;
        let length = file.metadata()?.len();
        Ok((file, length, registry.len() + 2))
    }

    /// Reads the registry's file, and cuts off a last line that has no newline.
    fn read_file(&mut self) -> io::Result<ReadRegistry> {
        let mut text = Vec::new();
        let mut file = File::open(&self.path)?;
        file.read_to_end(&mut text)?;
        let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if end < text.len() {
            self.file.set_len(end as u64)?;
        }
        let (read, lines) = parse_file(&mut text[..end]);
        (self.length, self.synced_length, self.lines) = (end as u64, end as u64, lines);
        Ok(read)
    }
}

#[derive(Debug, Default)]
struct ReadRegistry {
    registry: Registry,
    /// How many lines of the file are damaged.
    damaged_lines: usize,
}

/// The registry in the lines of its file, and the number of these lines. Overwrites bytes of
/// `text`.
fn parse_file(text: &mut [u8]) -> (ReadRegistry, usize) {
    let mut read = ReadRegistry::default();
    let mut lines = 0;
    // The first line must be a `Begin` of the known schema. Without it, the ids that were used
    // before are not known.
    let has_begun = |line: &[Change]| matches!(line, [Change::Begin { schema: FILE_SCHEMA, .. }]);
    for line in text.split_inclusive_mut(|byte| *byte == b'\n') {
        lines += 1;
        match decode_line(line) {
            Some(changes) if lines > 1 || has_begun(&changes) => {
                changes.into_iter().for_each(|change| read.registry.apply(change));
            }
            _ => read.damaged_lines += 1,
        }
    }
    (read, lines)
}

/// The bytes of a line before the digits of its checksum, and those after these digits.
const CHECKSUM_FRAME: (&[u8], &[u8]) = (b",{\"crc32\":\"", b"\"}]\n");

/// The number of hexadecimal digits of a CRC-32.
const CHECKSUM_DIGITS: usize = 8;

/// Appends to `text` the line that has `changes`, of which there is at least one.
fn encode_line(changes: &[Change], text: &mut Vec<u8>) -> io::Result<()> {
    let start = text.len();
    serde_json::to_writer(&mut *text, changes)?;
    // The bracket that ends the array is removed: the checksum becomes the array's last element.
    text.pop();
    let checksum = checksum_digits(&text[start..]);
    text.extend_from_slice(CHECKSUM_FRAME.0);
    text.extend_from_slice(checksum.as_bytes());
    text.extend_from_slice(CHECKSUM_FRAME.1);
    Ok(())
}

/// The changes in a line of the file; `None` if the line is damaged. Overwrites a byte of `line`,
/// so that it is parsed without a copy.
fn decode_line(line: &mut [u8]) -> Option<Vec<Change>> {
    let Some((changes, digits)) = split_checksum(line) else {
        // A line of an older daemon, or a line with a damaged checksum. In the latter, the element
        // of the checksum is still there. It is not a change, so parsing fails.
        return serde_json::from_slice(line).ok();
    };
    // The checksums are compared as text: a flipped bit that turns `a` into `A` is damage too.
    if digits != checksum_digits(&line[..changes]).as_bytes() {
        return None;
    }
    // A bracket in the place of the checksum ends the array, so that the changes are parsed without
    // a copy.
    line[changes] = b']';
    serde_json::from_slice(&line[..=changes]).ok()
}

/// The length of a line's part before its checksum, and the checksum; `None` if the line has no
/// checksum.
fn split_checksum(line: &[u8]) -> Option<(usize, &[u8])> {
    let rest = line.strip_suffix(CHECKSUM_FRAME.1)?;
    let (rest, digits) = rest.split_at_checked(rest.len().checked_sub(CHECKSUM_DIGITS)?)?;
    Some((rest.strip_suffix(CHECKSUM_FRAME.0)?.len(), digits))
}

fn checksum_digits(bytes: &[u8]) -> String {
    format!("{:08x}", crc32fast::hash(bytes))
}

/// Keeps a damaged file under a second, unused name, which is returned.
fn keep_damaged_file(path: &Path, now_ns: u64) -> io::Result<PathBuf> {
    for time in now_ns / 1_000_000_000.. {
        let aside = path.with_added_extension(format!("damaged-{time}"));
        // The second name is made by a hard link and not by a rename, so that the registry has a
        // file at every moment.
        match fs::hard_link(path, &aside) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other.map(|()| aside),
        }
    }
    unreachable!("there are more numbers than files")
}

fn open_for_append(path: &Path) -> io::Result<File> {
    let mut open = OpenOptions::new();
    open.append(true).create(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
    open.open(path)
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;

#[cfg(test)]
mod tests;
