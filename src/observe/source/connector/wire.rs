//! The messages between the node's listener and a shim.
//!
//! A packet of the `SOCK_SEQPACKET` socket consists of frames. A frame is a length of 32 bits, and
//! that many bytes. Numbers are little-endian. Both ends normally run the same binary; the version
//! finds the case that a listener from before an upgrade still runs.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, path::PathBuf, sync::Arc};

use crate::{
    model::{Args, FileId, Grade, Image, Lineage, ProcessKey, Stage, Unknown},
    observe::{
        record::{Record, TargetId, What},
        source::Target,
    },
};

/// The version of this protocol. It must change with every change of the messages below.
pub(super) const VERSION: u32 = 1;

/// The longest packet, in bytes. The longest image (arguments and paths) takes a quarter of it.
pub(super) const PACKET_LIMIT: usize = 64 << 10;

/// A message from a shim to the listener.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Request {
    /// The first message, which the listener answers with [`Answer::Ready`].
    Hello { version: u32 },
    /// Starts to watch a target. The listener answers with [`Answer::Watched`] or
    /// [`Answer::Refused`].
    Watch { id: TargetId, target: Target },
    /// Ends the watch of a target. There is no answer.
    Unwatch { id: TargetId },
}

/// A message from the listener to a shim.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    /// The answer to [`Request::Hello`], with the listener's version.
    Ready { version: u32 },
    /// The target is watched: every later event of it is reported.
    Watched { id: TargetId },
    /// The target is not watched, because of this errno.
    Refused { id: TargetId, errno: i32 },
    /// A record of a watched target, or a loss. Not an answer to a request.
    Record(Record),
}

impl Request {
    pub(super) fn encode(&self) -> Vec<u8> {
        frame(|to| match self {
            Self::Hello { version } => {
                to.byte(0);
                to.u32(*version);
            }
            Self::Watch { id, target: Target::Cgroup { path, pid_namespace } } => {
                to.byte(1);
                to.u64(id.0);
                to.bytes(path.as_os_str().as_bytes());
                to.option(*pid_namespace, Writer::u32);
            }
            Self::Watch { id, target: Target::Tree { pid } } => {
                to.byte(2);
                to.u64(id.0);
                to.i32(*pid);
            }
            Self::Unwatch { id } => {
                to.byte(3);
                to.u64(id.0);
            }
        })
    }

    pub(super) fn decode(frame: &[u8]) -> Option<Self> {
        let mut from = Reader(frame);
        let request = match from.byte()? {
            0 => Self::Hello { version: from.u32()? },
            1 => Self::Watch {
                id: TargetId(from.u64()?),
                target: Target::Cgroup {
                    path: PathBuf::from(OsStr::from_bytes(from.bytes()?)),
                    pid_namespace: from.option(Reader::u32)?,
                },
            },
            2 => {
                Self::Watch { id: TargetId(from.u64()?), target: Target::Tree { pid: from.i32()? } }
            }
            3 => Self::Unwatch { id: TargetId(from.u64()?) },
            _ => return None,
        };
        from.0.is_empty().then_some(request)
    }
}

impl Answer {
    pub(super) fn encode(&self) -> Vec<u8> {
        frame(|to| match self {
            Self::Ready { version } => {
                to.byte(0);
                to.u32(*version);
            }
            Self::Watched { id } => {
                to.byte(1);
                to.u64(id.0);
            }
            Self::Refused { id, errno } => {
                to.byte(2);
                to.u64(id.0);
                to.i32(*errno);
            }
            Self::Record(Record::Process { target, at_ns, grade, key, what }) => {
                to.byte(3);
                to.u64(target.0);
                to.u64(*at_ns);
                to.byte(grade_code(*grade));
                to.key(*key);
                to.what(what);
            }
            // The proc connector does not report sockets, so no such record is ever sent.
            Self::Record(
                Record::Listen { .. } | Record::Unlisten { .. } | Record::Connected { .. },
            ) => {}
            Self::Record(Record::Lost { target, at_ns, count, stage }) => {
                to.byte(4);
                to.option(target.map(|target| target.0), Writer::u64);
                to.u64(*at_ns);
                to.option(*count, Writer::u64);
                to.byte(u8::from(*stage == Stage::Kernel));
            }
        })
    }

    pub(super) fn decode(frame: &[u8]) -> Option<Self> {
        let mut from = Reader(frame);
        let answer = match from.byte()? {
            0 => Self::Ready { version: from.u32()? },
            1 => Self::Watched { id: TargetId(from.u64()?) },
            2 => Self::Refused { id: TargetId(from.u64()?), errno: from.i32()? },
            3 => Self::Record(Record::Process {
                target: TargetId(from.u64()?),
                at_ns: from.u64()?,
                grade: grade_of(from.byte()?)?,
                key: from.key()?,
                what: from.what()?,
            }),
            4 => Self::Record(Record::Lost {
                target: from.option(Reader::u64)?.map(TargetId),
                at_ns: from.u64()?,
                count: from.option(Reader::u64)?,
                stage: if from.byte()? == 1 { Stage::Kernel } else { Stage::Source },
            }),
            _ => return None,
        };
        from.0.is_empty().then_some(answer)
    }
}

/// The frames of a packet, up to the first that is cut off.
pub(super) fn frames(mut packet: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = packet.split_first_chunk::<4>()?;
        let (frame, after) =
            rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        packet = after;
        Some(frame)
    })
}

fn frame(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer(vec![0; 4]);
    write(&mut writer);
    let length = u32::try_from(writer.0.len() - 4)
        .expect("every part of a frame is bounded far below 4 GiB");
    writer.0[..4].copy_from_slice(&length.to_le_bytes());
    writer.0
}

fn grade_code(grade: Grade) -> u8 {
    match grade {
        Grade::Exact => 0,
        Grade::Late => 1,
        Grade::Partial => 2,
        Grade::Snapshot => 3,
    }
}

fn grade_of(code: u8) -> Option<Grade> {
    [Grade::Exact, Grade::Late, Grade::Partial, Grade::Snapshot].get(usize::from(code)).copied()
}

const UNKNOWNS: [Unknown; 5] =
    [Unknown::Gone, Unknown::Replaced, Unknown::Denied, Unknown::Faulted, Unknown::NotSeen];

struct Writer(Vec<u8>);

impl Writer {
    fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn i32(&mut self, value: i32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn bytes(&mut self, value: &[u8]) {
        // Paths and arguments have a few KiB at most. A longer value is cut, so that a frame always
        // fits into a packet.
        let value = &value[..value.len().min(PACKET_LIMIT / 8)];
        self.u32(u32::try_from(value.len()).unwrap_or(0));
        self.0.extend_from_slice(value);
    }

    fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.byte(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }

    fn key(&mut self, key: ProcessKey) {
        self.i32(key.pid);
        self.u64(key.start_ticks);
    }

    fn lineage(&mut self, lineage: Lineage) {
        self.option(lineage.vpid, Self::i32);
        self.i32(lineage.parent_pid);
        self.u64(lineage.parent_start_ticks);
        self.i32(lineage.grandparent_pid);
    }

    fn image(&mut self, image: &Image) {
        let write_optional =
            |to: &mut Self, bytes: &Option<Box<[u8]>>| to.option(bytes.as_deref(), Self::bytes);
        write_optional(self, &image.executable);
        self.option(image.args.as_ref(), |to, args| {
            to.bytes(&args.bytes);
            to.u64(args.total_bytes);
            to.u32(args.count);
        });
        write_optional(self, &image.working_directory);
        write_optional(self, &image.comm);
        self.option(image.uid, Self::u32);
        self.option(image.gid, Self::u32);
        let code =
            image.unknown.and_then(|unknown| UNKNOWNS.iter().position(|known| *known == unknown));
        self.option(code.and_then(|code| u8::try_from(code).ok()), Self::byte);
    }

    fn what(&mut self, what: &What) {
        match what {
            What::Fork(lineage) => {
                self.byte(0);
                self.lineage(*lineage);
            }
            What::Exec { lineage, image, cgroup, in_host_mounts } => {
                self.byte(1);
                self.lineage(*lineage);
                self.image(image);
                self.option(*cgroup, Self::u64);
                self.option(in_host_mounts.map(u8::from), Self::byte);
            }
            What::Exit { wait_status, oom_killed, outputs } => {
                self.byte(2);
                self.option(*wait_status, Self::u32);
                self.byte(u8::from(*oom_killed));
                for output in outputs {
                    self.option(*output, |to, file| {
                        to.u64(file.device);
                        to.u64(file.inode);
                    });
                }
            }
            What::Alive { lineage, image, cgroup } => {
                self.byte(3);
                self.lineage(*lineage);
                self.image(image);
                self.option(*cgroup, Self::u64);
            }
            What::ScanBegan => self.byte(4),
            What::ScanEnded => self.byte(5),
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.take().map(i32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.byte()? {
            0 => Some(None),
            _ => read(self).map(Some),
        }
    }

    fn key(&mut self) -> Option<ProcessKey> {
        Some(ProcessKey { pid: self.i32()?, start_ticks: self.u64()? })
    }

    fn lineage(&mut self) -> Option<Lineage> {
        Some(Lineage {
            vpid: self.option(Self::i32)?,
            parent_pid: self.i32()?,
            parent_start_ticks: self.u64()?,
            grandparent_pid: self.i32()?,
        })
    }

    fn boxed(&mut self) -> Option<Option<Box<[u8]>>> {
        self.option(|from| from.bytes().map(Box::from))
    }

    fn image(&mut self) -> Option<Arc<Image>> {
        Some(Arc::new(Image {
            executable: self.boxed()?,
            args: self.option(|from| {
                Some(Args {
                    bytes: from.bytes()?.into(),
                    total_bytes: from.u64()?,
                    count: from.u32()?,
                    redacted: false,
                })
            })?,
            working_directory: self.boxed()?,
            comm: self.boxed()?,
            uid: self.option(Self::u32)?,
            gid: self.option(Self::u32)?,
            unknown: self.option(|from| UNKNOWNS.get(usize::from(from.byte()?)).copied())?,
        }))
    }

    fn what(&mut self) -> Option<What> {
        Some(match self.byte()? {
            0 => What::Fork(self.lineage()?),
            1 => What::Exec {
                lineage: self.lineage()?,
                image: self.image()?,
                cgroup: self.option(Self::u64)?,
                in_host_mounts: self.option(Self::byte)?.map(|byte| byte != 0),
            },
            2 => What::Exit {
                wait_status: self.option(Self::u32)?,
                oom_killed: self.byte()? != 0,
                outputs: [self.file()?, self.file()?],
            },
            3 => What::Alive {
                lineage: self.lineage()?,
                image: self.image()?,
                cgroup: self.option(Self::u64)?,
            },
            4 => What::ScanBegan,
            5 => What::ScanEnded,
            _ => return None,
        })
    }

    fn file(&mut self) -> Option<Option<FileId>> {
        self.option(|from| Some(FileId { device: from.u64()?, inode: from.u64()? }))
    }
}

#[cfg(test)]
mod tests;
