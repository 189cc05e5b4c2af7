//! An OCI runtime that a test controls: see `runtime.sh`.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use nix::{sys::stat::Mode, unistd::mkfifo};

use super::{Process, deadline};

/// One scripted runtime, in its home directory.
#[derive(Debug, Clone)]
pub(crate) struct ScriptedRuntime {
    home: PathBuf,
}

/// One recorded call of the runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) pid: i32,
    pub(crate) arguments: Vec<String>,
}

/// What a recorded call inherited from the shim.
#[derive(Debug)]
pub(crate) struct Details {
    pub(crate) cwd: PathBuf,
    pub(crate) environ: Vec<String>,
    /// By number, without the shell's own descriptor of its script.
    pub(crate) descriptors: BTreeMap<i32, String>,
    pub(crate) group: i32,
    pub(crate) oom_score_adj: i32,
}

/// A verb of which all calls wait until this is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    fifo: PathBuf,
    runtime: ScriptedRuntime,
    verb: String,
    called_before: usize,
}

impl ScriptedRuntime {
    /// Installs a runtime in the new directory `home`.
    pub(crate) fn install(home: &Path) -> Self {
        fs::create_dir(home).expect("the directory is the test's own");
        // A link, because a script that a parallel test's fork still holds open for writing cannot
        // be executed (ETXTBSY).
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shim/harness/runtime.sh");
        symlink(script, home.join("runtime")).expect("the directory is new");
        Self { home: home.to_owned() }
    }

    /// The path of the runtime's binary, for the runtime's options.
    pub(crate) fn path(&self) -> PathBuf {
        self.home.join("runtime")
    }

    /// The path of a file that its scripts may use.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    /// Sets the script that the init of container `name`, or exec `name`, runs.
    pub(crate) fn payload(&self, name: &str, script: &str) {
        self.write(&format!("payload.{name}"), script);
    }

    /// Makes each call of `verb` run `script` first.
    pub(crate) fn before(&self, verb: &str, script: &str) {
        self.write(&format!("before.{verb}"), script);
    }

    /// Makes each call of `verb` run `script` last.
    pub(crate) fn after(&self, verb: &str, script: &str) {
        self.write(&format!("after.{verb}"), script);
    }

    /// Removes the scripts of [`before`](Self::before) and [`after`](Self::after).
    pub(crate) fn reset(&self, verb: &str) {
        let _ = fs::remove_file(self.file(&format!("before.{verb}")));
        let _ = fs::remove_file(self.file(&format!("after.{verb}")));
    }

    /// Makes calls of `verb` wait from now on.
    pub(crate) fn hold(&self, verb: &str) -> Hold {
        let fifo = self.file(&format!("hold.{verb}"));
        mkfifo(&fifo, Mode::from_bits_truncate(0o600)).expect("one hold a verb");
        Hold {
            fifo,
            runtime: self.clone(),
            verb: verb.to_owned(),
            called_before: self.calls(verb).len(),
        }
    }

    /// All calls so far, oldest first.
    pub(crate) fn all_calls(&self) -> Vec<Call> {
        let text = fs::read_to_string(self.file("calls")).unwrap_or_default();
        let call = |line: &str| {
            let mut words = line.split('\t').map(str::to_owned);
            Some(Call { pid: words.next()?.parse().ok()?, arguments: words.collect() })
        };
        text.lines().filter_map(call).collect()
    }

    /// The calls of one verb so far.
    pub(crate) fn calls(&self, verb: &str) -> Vec<Call> {
        self.all_calls().into_iter().filter(|call| call.verb() == Some(verb)).collect()
    }

    /// Waits for the `count`th call of `verb`.
    #[track_caller]
    pub(crate) fn wait_for_calls(&self, verb: &str, count: usize) -> Call {
        let nth = || self.calls(verb).into_iter().nth(count - 1);
        deadline::find(&format!("call {count} of the runtime's {verb}"), nth)
    }

    /// Starts to record what calls inherit.
    pub(crate) fn record_details(&self) {
        fs::create_dir(self.file("details")).expect("asked for once");
    }

    /// What the first recorded call of `verb` inherited.
    #[track_caller]
    pub(crate) fn details(&self, verb: &str) -> Details {
        let call = self.wait_for_calls(verb, 1);
        let directory = self.file("details").join(format!("{verb}.{}", call.pid));
        let read =
            |name: &str| fs::read_to_string(directory.join(name)).expect("the call has ended");
        let described = |line: &str| {
            let (number, target) = line.split_once(" -> ")?;
            Some((number.split_whitespace().last()?.parse().ok()?, target.to_owned()))
        };
        let mut descriptors: BTreeMap<i32, String> =
            read("fds").lines().filter_map(described).collect();
        descriptors.retain(|_, target| !target.ends_with("/runtime.sh"));
        let stat = read("stat");
        Details {
            cwd: read("cwd").trim().into(),
            environ: read("environ").split_terminator('\0').map(str::to_owned).collect(),
            descriptors,
            group: stat
                .rsplit(") ")
                .next()
                .and_then(|rest| rest.split(' ').nth(2)?.parse().ok())
                .expect("proc(5)"),
            oom_score_adj: read("oom").trim().parse().expect("proc(5)"),
        }
    }

    /// Writes a file atomically, because the runtime may be called at any time.
    fn write(&self, name: &str, script: &str) {
        let new = self.file(&format!("{name}.new"));
        fs::write(&new, script).expect("the directory is the test's own");
        fs::rename(new, self.file(name)).expect("the directory is the test's own");
    }
}

impl Call {
    /// The verb: the first word behind the global flags.
    pub(crate) fn verb(&self) -> Option<&str> {
        self.after_globals().first().map(String::as_str)
    }

    /// The verb and the words behind it.
    pub(crate) fn after_globals(&self) -> &[String] {
        let mut rest = self.arguments.as_slice();
        loop {
            rest = match rest {
                [flag, _, ..] if ["--root", "--log", "--log-format"].contains(&flag.as_str()) => {
                    &rest[2..]
                }
                [flag, ..] if flag.starts_with("--") => &rest[1..],
                _ => return rest,
            };
        }
    }

    /// The word behind `flag`; `None` if the call does not have the flag.
    pub(crate) fn value(&self, flag: &str) -> Option<&str> {
        let at = self.arguments.iter().position(|word| word == flag)?;
        self.arguments.get(at + 1).map(String::as_str)
    }

    pub(crate) fn has(&self, flag: &str) -> bool {
        self.arguments.iter().any(|word| word == flag)
    }

    /// The runtime's process.
    pub(crate) fn process(&self) -> Process {
        Process::new(self.pid)
    }
}

impl Hold {
    /// Waits until a call of the verb is held.
    #[track_caller]
    pub(crate) fn wait_until_reached(&self) -> Call {
        self.runtime.wait_for_calls(&self.verb, self.called_before + 1)
    }

    /// Lets the calls continue.
    pub(crate) fn release(self) {}
}

impl Drop for Hold {
    fn drop(&mut self) {
        // Opening for both directions never blocks (fifo(7)) and wakes the calls that wait in
        // open(2); closing wakes those that wait in read(2). The fifo is removed first, so that no
        // new call waits on it.
        let opened = OpenOptions::new().read(true).write(true).open(&self.fifo);
        let _ = fs::remove_file(&self.fifo);
        drop(opened);
    }
}
