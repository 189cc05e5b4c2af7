//! The file with every event of the node's shims: one JSON object a line, in the form of
//! `lookout events -o jsonl`.
//!
//! Two types of lines in the file are no events. `stream.begin` is the first line of a file after a
//! rotation and has the sequence number of each shim's last event before the rotation. `shim.left`
//! means that a shim has ended after all its events were written. A rotation renames the full file,
//! which replaces the previous full file.
//!
//! The cursors are read from the file when it is opened, so they always agree with the events in
//! the file.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    api::{Event, Gap, event::Body},
    client::json,
    clock::realtime_ns,
};

/// The stream's file is rotated when it has more bytes than this. The previous file is kept, so the
/// two take up to twice this space on the disk.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The file to which the daemon appends the events of all shims.
#[derive(Debug)]
pub struct StreamFile {
    path: PathBuf,
    file: File,
    length: u64,
    /// The sequence number of the last event of each shim that has not left, by epoch.
    cursors: HashMap<String, u64>,
    /// How many events could not be written, for example because the disk is full, and are not yet
    /// reported by a gap.
    lost: u64,
}

/// The fields of a line of the stream's file from which the cursors are read.
#[derive(Deserialize)]
struct StreamLine {
    r#type: String,
    #[serde(default)]
    epoch: String,
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    cursors: HashMap<String, u64>,
}

#[derive(Serialize)]
struct BeginLine<'a> {
    r#type: &'static str,
    cursors: &'a HashMap<String, u64>,
}

#[derive(Serialize)]
struct ShimLeftLine<'a> {
    r#type: &'static str,
    epoch: &'a str,
}

impl StreamFile {
    /// Opens the stream's file in `directory`, creates it if there is none, and reads the cursors
    /// from it.
    ///
    /// # Errors
    ///
    /// The error of the failed system call.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let path = directory.join("stream.jsonl");
        let file = open_for_append(&path)?;
        let mut stream = Self { path, file, length: 0, cursors: HashMap::new(), lost: 0 };
        let mut text = Vec::new();
        File::open(&stream.path)?.read_to_end(&mut text)?;
        let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        // A daemon that was killed may have left a part of a line. The event of this line is not in
        // the cursors, so the shim sends it again.
        if end < text.len() {
            stream.file.set_len(end as u64)?;
        }
        stream.length = end as u64;
        for line in text[..end].split(|byte| *byte == b'\n') {
            // A line that cannot be parsed changes no cursor. The next line of the same shim has a
            // later cursor.
            let Ok(line) = serde_json::from_slice::<StreamLine>(line) else { continue };
            match line.r#type.as_str() {
                "stream.begin" => stream.cursors = line.cursors,
                "shim.left" => drop(stream.cursors.remove(&line.epoch)),
                _ if !line.epoch.is_empty() => {
                    let seq = stream.cursors.entry(line.epoch).or_default();
                    *seq = line.seq.max(*seq);
                }
                _ => {}
            }
        }
        Ok(stream)
    }

    /// The sequence number of a shim's last event in the stream's file; `None` if the file has no
    /// event of the shim. Then the shim is asked for all its events.
    #[must_use]
    pub fn cursor(&self, epoch: &str) -> Option<u64> {
        self.cursors.get(epoch).copied().filter(|seq| *seq > 0)
    }

    /// The epochs of the shims for which `shim.left` has not been written.
    pub fn open_epochs(&self) -> impl Iterator<Item = &str> {
        self.cursors.keys().map(String::as_str)
    }

    /// The length of the stream's file in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Appends events of a shim to the stream's file. Events that cannot be written are counted,
    /// and reported as a gap by the next write that succeeds.
    pub fn append(&mut self, epoch: &str, events: &[Event]) {
        let mut text = String::with_capacity(events.len() * 512);
        if self.lost > 0 {
            text += &(json::to_line(&json::Event::from(&gap_event("", Some(self.lost)))) + "\n");
        }
        for event in events {
            text += &(json::to_line(&json::Event::from(event)) + "\n");
        }
        if self.append_text(&text) {
            self.lost = 0;
        } else {
            self.lost += events.len() as u64;
        }
        // The cursor advances after a failed write too: the lost events are reported by the gap, so
        // they must not be requested again.
        let last = events.iter().map(|event| event.seq).max().unwrap_or_default();
        let seq = self.cursors.entry(epoch.to_owned()).or_default();
        *seq = last.max(*seq);
    }

    /// Records that a shim has ended after all its events were written.
    pub fn write_shim_left(&mut self, epoch: &str) {
        if self.cursors.remove(epoch).is_some() {
            self.append_text(&(json::to_line(&ShimLeftLine { r#type: "shim.left", epoch }) + "\n"));
        }
    }

    /// Records that a shim has ended and that its last events are missing; or, with an empty epoch,
    /// that there may have been shims that no daemon followed.
    pub fn write_last_gap(&mut self, epoch: &str) {
        self.append(epoch, &[gap_event(epoch, None)]);
        // `append` has set a cursor for the epoch. An empty epoch is of no shim, so no `shim.left`
        // is written for it.
        if epoch.is_empty() {
            self.cursors.remove(epoch);
        }
        self.write_shim_left(epoch);
    }

    /// Appends `text` to the stream's file, as a whole or not at all. Returns whether it was
    /// written.
    fn append_text(&mut self, text: &str) -> bool {
        if self.length > FILE_BYTES_MAX {
            // If the rotation fails, for example on a full disk, the full file is used further.
            let _ = self.rotate();
        }
        match self.file.write_all(text.as_bytes()) {
            Ok(()) => {
                self.length += text.len() as u64;
                true
            }
            Err(_) => {
                // The part of `text` that was written is removed: it would make the next line
                // unreadable.
                let _ = self.file.set_len(self.length);
                false
            }
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let new = self.path.with_added_extension("new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = open_for_append(&new)?;
        let begin =
            json::to_line(&BeginLine { r#type: "stream.begin", cursors: &self.cursors }) + "\n";
        file.write_all(begin.as_bytes())?;
        // The old file is kept by a hard link, not by a rename: a daemon that is killed between the
        // two steps still finds the file under its name.
        // If the file was removed by hand, there is nothing to keep, and no reason to go on with
        // one that has no name.
        if self.path.symlink_metadata().is_ok() {
            let previous = self.path.with_added_extension("1");
            let _ = fs::remove_file(&previous);
            fs::hard_link(&self.path, &previous)?;
        }
        fs::rename(&new, &self.path)?;
        (self.file, self.length) = (file, begin.len() as u64);
        Ok(())
    }
}

fn gap_event(epoch: &str, lost: Option<u64>) -> Event {
    let time_ns = realtime_ns();
    Event {
        type_: "observer.gap".to_owned(),
        epoch: epoch.to_owned(),
        time_ns,
        body: Some(Body::Gap(Gap { lost, stage: "subscriber".to_owned(), ..Default::default() })),
        ..Default::default()
    }
}

fn open_for_append(path: &Path) -> io::Result<File> {
    let mut open = OpenOptions::new();
    open.append(true).create(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
    open.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(epoch: &str, seq: u64) -> Event {
        Event { type_: "process.start".into(), epoch: epoch.into(), seq, ..Default::default() }
    }

    /// Check that the cursor of a file that was cut anywhere is its last complete event.
    #[test]
    fn the_cursor_of_a_cut_file_is_its_last_complete_event() {
        let directory = tempfile::tempdir().unwrap();
        let mut stream = StreamFile::open(directory.path()).unwrap();
        let mut ends = vec![0];
        for seq in 1..9 {
            stream.append("e", &[event("e", seq)]);
            ends.push(stream.length());
        }
        let path = stream.path.clone();
        let text = fs::read(&path).unwrap();
        for length in 0..=text.len() {
            fs::write(&path, &text[..length]).unwrap();
            let stream = StreamFile::open(directory.path()).unwrap();
            let whole = ends.iter().filter(|end| **end <= length as u64).count() as u64 - 1;
            assert_eq!(stream.cursor("e").unwrap_or_default(), whole, "cut at {length}");
        }
    }

    /// Check that after a rotation the new file has the cursors of the full one, and that the full
    /// one is kept.
    #[test]
    fn a_rotated_file_begins_with_the_cursors_of_the_full_one() {
        let directory = tempfile::tempdir().unwrap();
        let mut stream = StreamFile::open(directory.path()).unwrap();
        stream.append("gone", &[event("gone", 3)]);
        stream.write_shim_left("gone");
        stream.append("e", &[event("e", 7)]);
        stream.length = FILE_BYTES_MAX + 1;
        stream.append("f", &[event("f", 1)]);
        let again = StreamFile::open(directory.path()).unwrap();
        assert_eq!(
            (again.cursor("e"), again.cursor("f"), again.cursor("gone")),
            (Some(7), Some(1), None)
        );
        assert_eq!(
            fs::read_to_string(directory.path().join("stream.jsonl")).unwrap().lines().count(),
            2
        );
        assert_eq!(
            fs::read_to_string(directory.path().join("stream.jsonl.1")).unwrap().lines().count(),
            3
        );
    }

    /// Check that a new file begins at the next rotation if the file was removed by hand, and that
    /// the full one before it stays.
    #[test]
    fn a_removed_file_is_replaced_at_the_rotation() {
        let directory = tempfile::tempdir().unwrap();
        let mut stream = StreamFile::open(directory.path()).unwrap();
        for seq in 1..4 {
            stream.append("e", &[event("e", seq)]);
            stream.length = FILE_BYTES_MAX + 1;
        }
        fs::remove_file(directory.path().join("stream.jsonl")).unwrap();
        stream.append("e", &[event("e", 4)]);
        let lines = |name| fs::read_to_string(directory.path().join(name)).unwrap().lines().count();
        assert_eq!([lines("stream.jsonl"), lines("stream.jsonl.1")], [2, 2]);
        assert_eq!(StreamFile::open(directory.path()).unwrap().cursor("e"), Some(4));
    }

    /// Check that events that could not be written are counted and reported by a gap.
    #[test]
    fn events_lost_on_a_full_disk_are_reported_by_a_gap() {
        let directory = tempfile::tempdir().unwrap();
        let mut stream = StreamFile::open(directory.path()).unwrap();
        let file = std::mem::replace(
            &mut stream.file,
            File::options().write(true).open("/dev/full").unwrap(),
        );
        stream.append("e", &[event("e", 1), event("e", 2)]);
        stream.file = file;
        stream.append("e", &[event("e", 3)]);
        let text = fs::read_to_string(&stream.path).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&lines[0]["type"], &lines[0]["lost"]), (&"observer.gap".into(), &2.into()));
        assert_eq!(lines[1]["seq"], 3);
    }
}
