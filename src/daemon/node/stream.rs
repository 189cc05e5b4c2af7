//! Every event of the node's shims, in a file: what `lookout events -o jsonl` prints, one object a
//! line.
//!
//! Beside events there are `stream.begin`, a file's first line, which says after which event of
//! each shim it begins, and `shim.left`: the shim has told everything and gone. The file that is
//! full takes the place of the one before it. The file is its own cursor: what is in it was told,
//! what is not was not.

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

/// A file this long is full; there is one more of that size.
const FILE_MAX: u64 = 16 << 20;

/// The file of events.
#[derive(Debug)]
pub struct Stream {
    path: PathBuf,
    file: File,
    length: u64,
    /// The last event of each shim that has not left.
    cursors: HashMap<String, u64>,
    /// Events that found no room on the disk and are not told of yet.
    lost: u64,
}

/// What of a line matters here.
#[derive(Deserialize)]
struct Line {
    r#type: String,
    #[serde(default)]
    epoch: String,
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    cursors: HashMap<String, u64>,
}

#[derive(Serialize)]
struct Begin<'a> {
    r#type: &'static str,
    cursors: &'a HashMap<String, u64>,
}

#[derive(Serialize)]
struct Left<'a> {
    r#type: &'static str,
    epoch: &'a str,
}

impl Stream {
    /// Goes on with the file of a folder, or begins it.
    ///
    /// # Errors
    ///
    /// What the system answered.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join("stream.jsonl");
        let file = open(&path)?;
        let mut stream = Self { path, file, length: 0, cursors: HashMap::new(), lost: 0 };
        let mut text = Vec::new();
        File::open(&stream.path)?.read_to_end(&mut text)?;
        let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if end < text.len() {
            stream.file.set_len(end as u64)?;
        }
        stream.length = end as u64;
        for line in text[..end].split(|byte| *byte == b'\n') {
            // What makes no sense was no line of ours.
            let Ok(line) = serde_json::from_slice::<Line>(line) else { continue };
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

    /// After which event a shim is to be asked; `None`: from its first.
    #[must_use]
    pub fn cursor(&self, epoch: &str) -> Option<u64> {
        self.cursors.get(epoch).copied().filter(|seq| *seq > 0)
    }

    /// The shims that have not said that they leave.
    pub fn open_epochs(&self) -> impl Iterator<Item = &str> {
        self.cursors.keys().map(String::as_str)
    }

    /// Bytes of the file.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Writes events of a shim. Those that find no room are told as a gap when there is room again.
    pub fn append(&mut self, epoch: &str, events: &[Event]) {
        let mut text = String::with_capacity(events.len() * 512);
        if self.lost > 0 {
            text += &(json::line(&json::Event::from(&gap("", Some(self.lost)))) + "\n");
        }
        for event in events {
            text += &(json::line(&json::Event::from(event)) + "\n");
        }
        if self.write(&text) {
            self.lost = 0;
        } else {
            self.lost += events.len() as u64;
        }
        // What was lost is not asked for again: it is told as lost.
        let last = events.iter().map(|event| event.seq).max().unwrap_or_default();
        let seq = self.cursors.entry(epoch.to_owned()).or_default();
        *seq = last.max(*seq);
    }

    /// A shim has told everything and gone.
    pub fn left(&mut self, epoch: &str) {
        if self.cursors.remove(epoch).is_some() {
            self.write(&(json::line(&Left { r#type: "shim.left", epoch }) + "\n"));
        }
    }

    /// A shim has gone and did not tell everything; or, without an epoch, there may have been shims
    /// that nobody followed.
    pub fn broken(&mut self, epoch: &str) {
        self.append(epoch, &[gap(epoch, None)]);
        if epoch.is_empty() {
            self.cursors.remove(epoch);
        }
        self.left(epoch);
    }

    /// Whole or not at all.
    fn write(&mut self, text: &str) -> bool {
        if self.length > FILE_MAX {
            // The old one goes on where there is no room for a new one.
            let _ = self.rotate();
        }
        match self.file.write_all(text.as_bytes()) {
            Ok(()) => {
                self.length += text.len() as u64;
                true
            }
            Err(_) => {
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
        let mut file = open(&new)?;
        let begin = json::line(&Begin { r#type: "stream.begin", cursors: &self.cursors }) + "\n";
        file.write_all(begin.as_bytes())?;
        // A link first: killed between the two, the file is there under its name.
        let before = self.path.with_added_extension("1");
        let _ = fs::remove_file(&before);
        fs::hard_link(&self.path, &before)?;
        fs::rename(&new, &self.path)?;
        (self.file, self.length) = (file, begin.len() as u64);
        Ok(())
    }
}

fn gap(epoch: &str, lost: Option<u64>) -> Event {
    let time_ns = realtime_ns();
    Event {
        type_: "observer.gap".to_owned(),
        epoch: epoch.to_owned(),
        time_ns,
        body: Some(Body::Gap(Gap { lost, stage: "subscriber".to_owned(), ..Default::default() })),
        ..Default::default()
    }
}

fn open(path: &Path) -> io::Result<File> {
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

    /// Check that a file that was cut anywhere names the last whole event as its cursor.
    #[test]
    fn a_cut_file_is_its_own_cursor() {
        let folder = tempfile::tempdir().unwrap();
        let mut stream = Stream::open(folder.path()).unwrap();
        let mut ends = vec![0];
        for seq in 1..9 {
            stream.append("e", &[event("e", seq)]);
            ends.push(stream.length());
        }
        let path = stream.path.clone();
        let text = fs::read(&path).unwrap();
        for length in 0..=text.len() {
            fs::write(&path, &text[..length]).unwrap();
            let stream = Stream::open(folder.path()).unwrap();
            let whole = ends.iter().filter(|end| **end <= length as u64).count() as u64 - 1;
            assert_eq!(stream.cursor("e").unwrap_or_default(), whole, "cut at {length}");
        }
    }

    /// Check that a new file begins where the full one ended, and that the full one is kept.
    #[test]
    fn a_full_file_hands_its_cursors_on() {
        let folder = tempfile::tempdir().unwrap();
        let mut stream = Stream::open(folder.path()).unwrap();
        stream.append("gone", &[event("gone", 3)]);
        stream.left("gone");
        stream.append("e", &[event("e", 7)]);
        stream.length = FILE_MAX + 1;
        stream.append("f", &[event("f", 1)]);
        let again = Stream::open(folder.path()).unwrap();
        assert_eq!(
            (again.cursor("e"), again.cursor("f"), again.cursor("gone")),
            (Some(7), Some(1), None)
        );
        assert_eq!(
            fs::read_to_string(folder.path().join("stream.jsonl")).unwrap().lines().count(),
            2
        );
        assert_eq!(
            fs::read_to_string(folder.path().join("stream.jsonl.1")).unwrap().lines().count(),
            3
        );
    }

    /// Check that what did not find room is counted and told.
    #[test]
    fn a_full_disk_is_told_as_a_gap() {
        let folder = tempfile::tempdir().unwrap();
        let mut stream = Stream::open(folder.path()).unwrap();
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
