//! A machine as a shim sees it, in one temporary folder.

use std::{fs, path::Path};

use tempfile::TempDir;

use super::{Bundle, Daemon, Process, ScriptedRuntime, Shim, StartVerb, deadline};

/// containerd's namespace in all tests.
pub(crate) const NAMESPACE: &str = "test";

/// A folder for bundles, sockets and the runtime. Dropped, it ends every process that began in it.
#[derive(Debug)]
pub(crate) struct Node {
    folder: TempDir,
    runtime: ScriptedRuntime,
}

impl Node {
    pub(crate) fn new() -> Self {
        // Short: a socket's path must fit in 107 bytes.
        let folder =
            tempfile::Builder::new().prefix("lk").tempdir_in("/tmp").expect("/tmp is writable");
        let runtime = ScriptedRuntime::install(&folder.path().join("rt"));
        fs::create_dir(folder.path().join("b")).expect("the folder is new");
        Self { folder, runtime }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The runtime that containers of this node use unless they say otherwise.
    pub(crate) fn runtime(&self) -> &ScriptedRuntime {
        &self.runtime
    }

    /// A new bundle for the container `id`.
    pub(crate) fn bundle(&self, id: &str) -> Bundle {
        Bundle::make(&self.path().join("b"), id, &self.runtime.path(), &self.runtime_root())
    }

    /// Where the runtime keeps its state, without the namespace.
    pub(crate) fn runtime_root(&self) -> std::path::PathBuf {
        self.path().join("state")
    }

    /// Where shims of this node put their sockets.
    pub(crate) fn socket_dir(&self) -> std::path::PathBuf {
        self.path().join("s")
    }

    /// The names of the sockets that are there.
    pub(crate) fn sockets(&self) -> Vec<String> {
        let entries = fs::read_dir(self.socket_dir()).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// containerd's gRPC socket; nobody listens there.
    pub(crate) fn address(&self) -> String {
        self.path().join("containerd.sock").to_string_lossy().into_owned()
    }

    /// Where containerd takes events.
    pub(crate) fn ttrpc_address(&self) -> String {
        format!("{}.ttrpc", self.address())
    }

    /// A containerd that takes events, from now on.
    pub(crate) fn daemon(&self) -> Daemon {
        Daemon::listen(Path::new(&self.ttrpc_address()))
    }

    /// The `start` verb for a bundle, as containerd 2.3 runs it.
    pub(crate) fn start_verb(&self, bundle: &Bundle) -> StartVerb {
        StartVerb::new(self, bundle)
    }

    /// A shim that serves, for a bundle.
    #[track_caller]
    pub(crate) fn shim(&self, bundle: &Bundle) -> Shim {
        self.start_verb(bundle).shim()
    }

    /// What each process that begins here has in its environment.
    pub(crate) fn marker(&self) -> String {
        format!("LOOKOUT_TEST_NODE={}", self.path().display())
    }

    /// All that lives here: shims, runtimes, containers.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let mut found = Process::marked(&self.marker());
        found.extend(
            self.shims().into_iter().filter(|shim| !found.contains(shim)).collect::<Vec<_>>(),
        );
        found.retain(|process| process.lives());
        found
    }

    /// The shims that serve here. Without root they are known by their arguments alone.
    pub(crate) fn shims(&self) -> Vec<Process> {
        let address = self.address();
        let serves = |line: &[String]| {
            line.first().is_some_and(|binary| binary.contains("containerd-shim-"))
                && line.contains(&address)
                && line.last().is_some_and(|word| word != "start" && word != "delete")
        };
        Process::all().into_iter().filter(|process| serves(&process.command_line())).collect()
    }

    /// Waits until nothing lives here.
    #[track_caller]
    pub(crate) fn is_deserted(&self) {
        deadline::until("the end of every process of the test", || self.processes().is_empty());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // With their descendants: the init of a real runtime has an environment of its own. Twice,
        // for what is just being forked.
        for _ in 0..2 {
            for process in Process::with_descendants(self.processes()) {
                process.kill();
            }
        }
    }
}
