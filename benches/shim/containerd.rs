//! A private containerd with the test image in it, for `ctr run`.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    Result,
    workspace::{Side, Version, Workspace},
};

/// The image of `hack/setup`.
const IMAGE: &str = "docker.io/library/lookout-test:latest";

/// The longest time until it serves; usually it takes a fraction of a second.
const UP: Duration = Duration::from_secs(20);

/// A running containerd, which ends when dropped.
pub(crate) struct Containerd<'a> {
    workspace: &'a Workspace,
    version: Version,
    socket: PathBuf,
    daemon: Child,
}

impl<'a> Containerd<'a> {
    /// Starts it and waits until it serves.
    pub(crate) fn start(workspace: &'a Workspace, version: Version) -> Result<Self> {
        let name = format!("containerd-{}", version.name());
        let (root, state) = (workspace.on_disk(&name), workspace.in_run(&name));
        fs::create_dir_all(&root)?;
        fs::create_dir_all(&state)?;
        let socket = state.join("containerd.sock");
        let config = root.join("config.toml");
        fs::write(&config, configuration(&root, &state, &socket))?;
        let directory = |side| {
            workspace.shim(side, version).parent().map(Path::to_path_buf).unwrap_or_default()
        };
        let daemon = Command::new(workspace.containerd_bin(version).join("containerd"))
            .arg("--config")
            .arg(&config)
            .env("PATH", workspace.search_path(&[directory(Side::Ours), directory(Side::Go)])?)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(root.join("log"))?)
            .spawn()?;
        let this = Self { workspace, version, socket, daemon };
        let deadline = Instant::now() + UP;
        while !this.ctr(&["version"]).output()?.status.success() {
            if Instant::now() > deadline {
                return Err(format!(
                    "containerd {}: {}",
                    version.name(),
                    fs::read_to_string(root.join("log"))?
                )
                .into());
            }
            thread::sleep(Duration::from_millis(50));
        }
        let image = workspace.image().display().to_string();
        check(&mut this.ctr(&["image", "import", &image]))?;
        Ok(this)
    }

    /// Runs `ctr run --rm … true`.
    pub(crate) fn run_true(&self, side: Side) -> Result<()> {
        let runtime = match side {
            Side::Ours => "io.containerd.lookout.v2",
            Side::Go => "io.containerd.runc.v2",
        };
        let id = self.workspace.fresh("run");
        check(&mut self.ctr(&["run", "--rm", "--runtime", runtime, IMAGE, &id, "/bin/true"]))
    }

    fn ctr(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.workspace.containerd_bin(self.version).join("ctr"));
        command
            .arg("--address")
            .arg(&self.socket)
            .args(["--namespace", &self.workspace.namespace])
            .args(arguments);
        command.stdin(Stdio::null());
        command
    }
}

impl Drop for Containerd<'_> {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn check(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ctr: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim())
        .into())
}

/// The configuration, without CRI, which is not used and takes a second to start.
fn configuration(root: &Path, state: &Path, socket: &Path) -> String {
    format!(
        r#"version = 2
root = "{}"
state = "{}"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"]
[grpc]
  address = "{}"
"#,
        root.join("root").display(),
        state.join("state").display(),
        socket.display()
    )
}
