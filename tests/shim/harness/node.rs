//! A node as a shim sees it, in one temporary directory.

use std::{fs, path::Path};

use tempfile::TempDir;

use super::{Bundle, Daemon, Process, ScriptedRuntime, Shim, StartVerb, deadline};

/// containerd's namespace in all tests.
pub(crate) const NAMESPACE: &str = "test";

/// A directory for bundles, sockets and the runtime. When dropped, it kills every process that was
/// started in it.
#[derive(Debug)]
pub(crate) struct Node {
    directory: TempDir,
    runtime: ScriptedRuntime,
}

impl Node {
    pub(crate) fn new() -> Self {
        // A short path, because a socket's path must fit into 107 bytes.
        let directory =
            tempfile::Builder::new().prefix("lk").tempdir_in("/tmp").expect("/tmp is writable");
        let runtime = ScriptedRuntime::install(&directory.path().join("rt"));
        fs::create_dir(directory.path().join("b")).expect("the directory is new");
        Self { directory, runtime }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The runtime of this node's containers, unless a test names another.
    pub(crate) fn runtime(&self) -> &ScriptedRuntime {
        &self.runtime
    }

    /// A new bundle for the container `id`.
    pub(crate) fn bundle(&self, id: &str) -> Bundle {
        Bundle::make(&self.path().join("b"), id, &self.runtime.path(), &self.runtime_root())
    }

    /// The runtime's state directory, without the namespace.
    pub(crate) fn runtime_root(&self) -> std::path::PathBuf {
        self.path().join("state")
    }

    /// The directory for the sockets of this node's shims.
    pub(crate) fn socket_dir(&self) -> std::path::PathBuf {
        self.path().join("s")
    }

    /// The names of the sockets that exist now.
    pub(crate) fn sockets(&self) -> Vec<String> {
        let entries = fs::read_dir(self.socket_dir()).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// The path of containerd's gRPC socket. Nothing listens there.
    pub(crate) fn address(&self) -> String {
        self.path().join("containerd.sock").to_string_lossy().into_owned()
    }

    /// The path of the socket where containerd receives events.
    pub(crate) fn ttrpc_address(&self) -> String {
        format!("{}.ttrpc", self.address())
    }

    /// Starts a fake containerd that receives events.
    pub(crate) fn daemon(&self) -> Daemon {
        Daemon::listen(Path::new(&self.ttrpc_address()))
    }

    /// The `start` verb for a bundle, as containerd 2.3 runs it.
    pub(crate) fn start_verb(&self, bundle: &Bundle) -> StartVerb {
        StartVerb::new(self, bundle)
    }

    /// Starts a shim for a bundle and connects to it.
    #[track_caller]
    pub(crate) fn shim(&self, bundle: &Bundle) -> Shim {
        self.start_verb(bundle).shim()
    }

    /// The environment variable that marks every process of this node.
    pub(crate) fn marker(&self) -> String {
        format!("LOOKOUT_TEST_NODE={}", self.path().display())
    }

    /// The running processes of this node: shims, runtimes, containers.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let mut found = Process::marked(&self.marker());
        found.extend(
            self.shims().into_iter().filter(|shim| !found.contains(shim)).collect::<Vec<_>>(),
        );
        found.retain(|process| process.lives());
        found
    }

    /// The serving shims of this node. They are recognised by their arguments, because without root
    /// their environment cannot be read.
    pub(crate) fn shims(&self) -> Vec<Process> {
        let address = self.address();
        let serves = |line: &[String]| {
            line.first().is_some_and(|binary| binary.contains("containerd-shim-"))
                && line.contains(&address)
                && line.last().is_some_and(|word| word != "start" && word != "delete")
        };
        Process::all().into_iter().filter(|process| serves(&process.command_line())).collect()
    }

    /// Waits until no process of this node is left.
    #[track_caller]
    pub(crate) fn wait_until_empty(&self) {
        deadline::until("the end of every process of the test", || self.processes().is_empty());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Descendants too, because the init of a real runtime has another environment. Twice,
        // because a process may just have forked.
        for _ in 0..2 {
            for process in Process::with_descendants(self.processes()) {
                process.kill();
            }
        }
    }
}
