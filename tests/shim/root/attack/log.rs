//! Reads the log of a walk, as `tests/storm/walk_log.h` defines it.

use std::{
    collections::BTreeMap,
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

const BIRTHS: usize = 1 << 15;
const IMAGES: usize = 1 << 15;
const WAITS: usize = 1 << 16;
const STEPS: usize = 64;
const NAME: usize = 16;

const PHASE_AT: usize = 12;
const DONE_AT: usize = 16;
const FAILED_AT: usize = DONE_AT + 4 * STEPS;
const PAIRS_AT: usize = FAILED_AT + 4 * STEPS;
const NAMES_AT: usize = PAIRS_AT + 4 * STEPS * STEPS;
const BIRTHS_AT: usize = NAMES_AT + NAME * STEPS;
const BIRTH: usize = 64;
const IMAGES_AT: usize = BIRTHS_AT + BIRTH * BIRTHS;
const IMAGE: usize = 512;
const IMAGE_HEAD: usize = 24;
const WAITS_AT: usize = IMAGES_AT + IMAGE * IMAGES;
const WAIT: usize = 16;
const LENGTH: usize = WAITS_AT + WAIT * WAITS;

/// What the first processes of containers do.
#[derive(Debug, Clone, Copy)]
pub(super) enum Phase {
    Walk = 1,
    Stop = 2,
}

/// The log of one round, which its walks map.
#[derive(Debug)]
pub(super) struct LogFile {
    pub(super) path: PathBuf,
    file: File,
}

/// A pid on the host, and the start in clock ticks.
pub(super) type Identity = (u32, u64);

/// What the walks of a round have recorded.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// By slot; there is none with number 0.
    pub(super) births: Vec<Birth>,
    pub(super) waits: Vec<(Identity, u32)>,
    pub(super) steps: Vec<StepCount>,
}

impl Log {
    /// The processes that share their pid and clock tick with another one.
    pub(super) fn repeated(&self) -> BTreeMap<Identity, Vec<&Birth>> {
        let mut births: BTreeMap<Identity, Vec<&Birth>> = BTreeMap::new();
        for birth in self.births.iter().skip(1) {
            if let Some(identity) = birth.identity {
                births.entry(identity).or_default().push(birth);
            }
        }
        births.retain(|_, births| births.len() > 1);
        births
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct StepCount {
    pub(super) name: String,
    pub(super) done: u32,
    pub(super) failed: u32,
    /// How often each step followed in the same process.
    pub(super) followers: Vec<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    /// The process may have been killed before it knew the result.
    Intended,
    Succeeded,
    Failed,
}

/// A process.
#[derive(Debug)]
pub(super) struct Birth {
    pub(super) slot: usize,
    pub(super) walk: u32,
    pub(super) forker: usize,
    pub(super) how: String,
    pub(super) attempt: Attempt,
    /// `None` if it did not get to run.
    pub(super) identity: Option<Identity>,
    pub(super) vpid: u32,
    /// The slot of the first process of its pid namespace; 0 for that of the container.
    pub(super) namespace: usize,
    /// It ended before other processes of the pid namespace that it was the first of.
    pub(super) abandons: bool,
    pub(super) is_root: bool,
    /// The wait status with which it was about to end; two if two of its threads raced.
    pub(super) intents: Vec<u32>,
    /// The signal with which its forker was about to kill it.
    pub(super) killed: Option<u32>,
    pub(super) images: Vec<Image>,
}

#[derive(Debug)]
pub(super) struct Image {
    pub(super) attempt: Attempt,
    pub(super) args: Vec<String>,
    pub(super) how: String,
}

impl LogFile {
    pub(super) fn create(path: PathBuf) -> Self {
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(true).open(&path);
        let file = file.expect("our directory is writable");
        file.set_len(LENGTH as u64).expect("a sparse file");
        Self { path, file }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn set(&self, phase: Phase) {
        let bytes = (phase as u32).to_ne_bytes();
        self.file.write_all_at(&bytes, PHASE_AT as u64).expect("our own file");
    }

    pub(super) fn read(&self) -> Log {
        let mut bytes = vec![0; LENGTH];
        self.file.read_exact_at(&mut bytes, 0).expect("our own file");
        let bytes = Bytes(&bytes);
        let (births, images, waits) = (bytes.count(0), bytes.count(4), bytes.count(8));
        assert!(births < BIRTHS && images < IMAGES && waits < WAITS, "the log is full");
        let mut log = Log { steps: bytes.steps(), ..Log::default() };
        let names: Vec<&str> = log.steps.iter().map(|step| step.name.as_str()).collect();
        log.births = (0..=births).map(|slot| bytes.birth(slot, &names)).collect();
        for number in 1..=images {
            let (slot, image) = bytes.image(number, &names);
            log.births[slot].images.push(image);
        }
        log.waits = (1..=waits).map(|number| bytes.wait(number)).collect();
        log
    }
}

struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn u32(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.0[at..at + 4].try_into().expect("four bytes"))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.0[at..at + 8].try_into().expect("eight bytes"))
    }

    fn count(&self, at: usize) -> usize {
        self.u32(at) as usize
    }

    fn attempt(&self, at: usize) -> Attempt {
        match self.u32(at) {
            2 => Attempt::Succeeded,
            3 => Attempt::Failed,
            _ => Attempt::Intended,
        }
    }

    fn steps(&self) -> Vec<StepCount> {
        let name = |step: usize| {
            let bytes = &self.0[NAMES_AT + NAME * step..][..NAME];
            let bytes: Vec<u8> = bytes.iter().copied().take_while(|byte| *byte != 0).collect();
            String::from_utf8_lossy(&bytes).to_lowercase()
        };
        let step = |step: usize| StepCount {
            name: name(step),
            done: self.u32(DONE_AT + 4 * step),
            failed: self.u32(FAILED_AT + 4 * step),
            followers: (0..STEPS)
                .map(|next| self.u32(PAIRS_AT + 4 * (STEPS * step + next)))
                .collect(),
        };
        (0..STEPS).map(step).collect()
    }

    fn birth(&self, slot: usize, names: &[&str]) -> Birth {
        let at = BIRTHS_AT + BIRTH * slot;
        let (pid, flags) = (self.u32(at + 16), self.u32(at + 36));
        let (intent, killed) = (self.u32(at + 40), self.u32(at + 44));
        let intents =
            [(flags & 4 != 0).then_some(intent), (flags & 16 != 0).then_some(intent ^ 0x100)];
        Birth {
            slot,
            walk: self.u32(at),
            forker: self.count(at + 4),
            how: names[self.count(at + 8)].to_owned(),
            attempt: self.attempt(at + 12),
            identity: (pid != 0).then(|| (pid, self.u64(at + 24))),
            vpid: self.u32(at + 20),
            namespace: self.count(at + 32),
            abandons: flags & 1 != 0,
            is_root: flags & 8 != 0,
            intents: intents.into_iter().flatten().collect(),
            killed: (killed != 0).then_some(killed),
            images: Vec::new(),
        }
    }

    fn image(&self, number: usize, names: &[&str]) -> (usize, Image) {
        let at = IMAGES_AT + IMAGE * number;
        let length = self.count(at + 8);
        let bytes = &self.0[at + IMAGE_HEAD..][..length];
        let args = bytes.split(|byte| *byte == 0).map(|arg| String::from_utf8_lossy(arg).into());
        let mut args: Vec<String> = args.collect();
        // Each argument ends with a NUL.
        args.pop();
        let how = names[self.count(at + 12)].to_owned();
        (self.count(at), Image { attempt: self.attempt(at + 4), args, how })
    }

    fn wait(&self, number: usize) -> (Identity, u32) {
        let at = WAITS_AT + WAIT * number;
        ((self.u32(at), self.u64(at + 8)), self.u32(at + 4))
    }
}
