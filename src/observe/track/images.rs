//! The images of the processes of one target, in as little memory as can be: what many processes
//! have in common is shared, and beyond a limit large arguments and paths are dropped.

use std::sync::Arc;

use crate::model::{ByteLimit, Image, Text, UnknownReason};

/// The largest size of an image that does not count, in bytes of its arguments and paths. The
/// number of such images is limited by that of the processes.
pub(super) const SMALL_IMAGE_BYTES: usize = 256;

/// How many bytes of larger images the processes of one target may have. Beyond it, the arguments
/// and long paths of further processes are not kept after the event of their exec.
pub(super) const LARGE_BYTES_MAX: usize = 4 << 20;

/// How many executables have their last small image kept for the next process that runs them.
const RECENT: usize = 16;

#[derive(Debug)]
pub(super) struct Images {
    /// Of each executable, by its hash, the last small image. Allocated at the first image.
    recent: Vec<Option<Arc<Image>>>,
    large: ByteLimit,
}

impl Default for Images {
    fn default() -> Self {
        Self { recent: Vec::new(), large: ByteLimit::new(LARGE_BYTES_MAX) }
    }
}

impl Images {
    /// Handles an image that was just read: shares the texts of the last image of its executable,
    /// and counts it if it is large and the limit allows it.
    pub(super) fn arrived(&self, image: &mut Arc<Image>) {
        // A new image is in no other place yet.
        let Some(image) = Arc::get_mut(image) else { return };
        if let Some(Some(known)) = self.recent.get(slot_of(image)) {
            share(&known.executable, &mut image.executable);
            share(&known.working_directory, &mut image.working_directory);
            share(&known.comm, &mut image.comm);
        }
        let size = size_of(image);
        if size > SMALL_IMAGE_BYTES {
            image.charge = self.large.charge(size).map(Box::new);
        }
    }

    /// As [`arrived`](Self::arrived), for one of many images that a scan keeps until its end: one
    /// that is too much for the limit is reduced at once.
    pub(super) fn arrived_in_scan(&mut self, image: &mut Arc<Image>) {
        self.arrived(image);
        if let Some(reduced) = self.reduced(image) {
            *image = reduced;
        }
    }

    /// The image with which a process is reported and kept: this one, or one with the same content
    /// that another process has.
    pub(super) fn shared(&mut self, image: &Arc<Image>) -> Arc<Image> {
        if size_of(image) > SMALL_IMAGE_BYTES {
            return image.clone();
        }
        if self.recent.is_empty() {
            self.recent.resize(RECENT, None);
        }
        match &mut self.recent[slot_of(image)] {
            Some(known) if has_same_content(known, image) => known.clone(),
            recent => recent.insert(image.clone()).clone(),
        }
    }

    /// The image that is kept instead of a large one that does not count: without its arguments and
    /// without long paths.
    pub(super) fn reduced(&mut self, image: &Image) -> Option<Arc<Image>> {
        if size_of(image) <= SMALL_IMAGE_BYTES || image.charge.is_some() {
            return None;
        }
        let short =
            |text: &Option<Text>| text.clone().filter(|text| text.len() <= SMALL_IMAGE_BYTES / 2);
        let reduced = Image {
            executable: short(&image.executable),
            working_directory: short(&image.working_directory),
            comm: image.comm.clone(),
            unknown: Some(UnknownReason::Dropped),
            args: None,
            charge: None,
            ..*image
        };
        Some(self.shared(&Arc::new(reduced)))
    }

    /// The bytes of all large images that count.
    pub(super) fn large_bytes(&self) -> usize {
        self.large.used()
    }
}

/// The bytes of the arguments and paths.
fn size_of(image: &Image) -> usize {
    let args = image.args.as_ref().map_or(0, |args| args.bytes.len());
    let text = |text: &Option<Text>| text.as_ref().map_or(0, |text| text.len());
    args + text(&image.executable) + text(&image.working_directory)
}

/// Whether two images differ at most in the address of the stack, which each process has for
/// itself.
fn has_same_content(one: &Image, other: &Image) -> bool {
    let Image {
        executable,
        executable_deleted,
        args,
        working_directory,
        comm,
        uid,
        gid,
        stack: _,
        charge: _,
        unknown,
    } = one;
    *args == other.args
        && *executable == other.executable
        && *executable_deleted == other.executable_deleted
        && *working_directory == other.working_directory
        && *comm == other.comm
        && (*uid, *gid, *unknown) == (other.uid, other.gid, other.unknown)
}

/// Makes two equal texts one in memory.
fn share(known: &Option<Text>, text: &mut Option<Text>) {
    if known == text {
        text.clone_from(known);
    }
}

/// The slot of an executable. That two of them have the same one costs memory and nothing else.
fn slot_of(image: &Image) -> usize {
    let path = image.executable.as_deref().unwrap_or_default();
    path.iter().fold(0, |hash: usize, byte| hash.wrapping_mul(31) ^ usize::from(*byte)) % RECENT
}
