//! The shim under stock containerds with real runtimes, as users of containerd see it. These tests
//! need root.

/// Generates three tests from each function, one under each containerd that the shim supports.
macro_rules! on_every_containerd {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            use $crate::harness::containerd::Version;

            #[test]
            fn containerd_1_6() {
                super::$name(Version::V1_6);
            }

            #[test]
            fn containerd_1_7() {
                super::$name(Version::V1_7);
            }

            #[test]
            fn containerd_2_1() {
                super::$name(Version::V2_1);
            }
        }
    )*};
}

mod attack;
mod chaos;
mod checkpoint;
mod clock;
mod confined;
mod control;
mod crash;
mod daemon;
mod dying;
mod exec;
mod exhaust;
mod inherited;
mod kill;
mod leaks;
mod oom;
mod pods;
mod ports;
mod restart;
mod run;
mod runtimes;
mod soak;
mod stdio;
mod watch;

use std::{fs, io::Read as _, path::Path, process::Command, time::Duration};

use crate::harness::{
    containerd::{Containerd, Program},
    deadline,
    tools::tool,
};

/// The number in an environment variable; `None` if it is not set or empty.
fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is not a number: {value}")))
}

/// The longest time for 128 MiB of output on a busy machine.
const OUTPUT: Duration = Duration::from_secs(30);

/// Random bytes, so that a lost piece is noticed wherever it was.
fn random(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    fs::File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .expect("the kernel has some");
    bytes
}

/// The `--mount` argument that gives a container these bytes as `/data`.
fn bind_mount(containerd: &Containerd, bytes: &[u8]) -> String {
    let path = containerd.path("data");
    fs::write(&path, bytes).expect("our directory is writable");
    format!("type=bind,src={},dst=/data,options=bind:ro", path.display())
}

/// All output of a command in a new container, read by the test itself, because ctr stops reading
/// at the exit even if output is left (containerd#8326, containerd#13931).
fn output_of(containerd: &Containerd, id: &str, flags: &[&str], command: &str) -> Vec<u8> {
    let mount = mount_of_our_folder(containerd);
    let script = format!("{}; {command}", wait_for_us(id));
    containerd.detached(id, &[&["--mount", &mount], flags].concat(), &["sh", "-c", &script]);
    let output = read_to_its_end(containerd, id);
    containerd.wait_for_status(id, "STOPPED");
    containerd.remove(id);
    output
}

/// The `--mount` argument that gives a container the test's directory as `/host`.
fn mount_of_our_folder(containerd: &Containerd) -> String {
    format!("type=bind,src={},dst=/host,options=bind:ro", containerd.path("").display())
}

/// A shell command that waits until [`read_to_its_end`] reads the process's output.
fn wait_for_us(process: &str) -> String {
    format!("until [ -e /host/go-{process} ]; do usleep 1000; done")
}

/// Reads the output of a process after its client has left, and lets the process continue.
fn read_to_its_end(containerd: &Containerd, process: &str) -> Vec<u8> {
    let directories = fs::read_dir("/run/containerd/fifo").expect("made by ctr").flatten();
    let mut fifos = directories.map(|directory| directory.path().join(format!("{process}-stdout")));
    let fifo = fifos.find(|fifo| fifo.exists()).expect("made by ctr");
    // The open does not block, because the shim holds both ends.
    let mut fifo = fs::File::open(fifo).expect("made by ctr");
    fs::write(containerd.path(&format!("go-{process}")), "").expect("our directory is writable");
    deadline::finish_within(OUTPUT, "the output", move || {
        let mut output = Vec::new();
        fifo.read_to_end(&mut output).map(|_| output).expect("a fifo can be read")
    })
}

/// A copy of the image's tree that a test may write to.
fn copy_rootfs(to: &Path) {
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(tool("rootfs")).arg(to);
    Program::new(copy).run().success();
}
