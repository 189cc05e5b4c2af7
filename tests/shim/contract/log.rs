//! The shim's log, which containerd copies into its own.

use std::io::Read as _;

use containerd_shim_protos::protobuf::EnumOrUnknown;

use crate::harness::{Fifo, Node, StartVerb};

/// Runs a container with three execs, of which the last fails to start. Returns the lines of the
/// log as `level message`, and the arguments of the shim.
fn logged(change: impl FnOnce(StartVerb) -> StartVerb) -> (Vec<String>, Vec<String>) {
    let node = Node::new();
    let bundle = node.bundle("web");
    let _daemon = node.daemon();
    let mut log = Fifo::make(bundle.path.join("log")).open_for_reading();
    node.runtime().payload("probe", "exit 0");
    let shim = change(node.start_verb(&bundle)).shim();
    let arguments = shim.process.command_line();
    shim.run(&bundle);
    for starts in [true, true, false] {
        if !starts {
            node.runtime().before("exec", "fail 'no such file'");
        }
        shim.exec("web", "probe").unwrap();
        assert_eq!(shim.start("web", "probe").is_ok(), starts);
        if starts {
            shim.wait("web", "probe").unwrap();
        }
        shim.delete("web", "probe").unwrap();
    }
    shim.remove("web");
    // Then no line is missing: the fifo keeps what was written until it is read.
    shim.shut_down();
    let mut bytes = Vec::new();
    // The end, or EAGAIN while a helper of the shim still ends, which has the fifo open.
    let _ = log.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).unwrap();
    let line = |line: &str| {
        let (_, level) = line.split_once(" level=")?;
        let (_, message) = line.split_once(" msg=\"")?;
        Some(format!("{} {}", level.split(' ').next()?, message.split('"').next()?))
    };
    (text.lines().filter_map(line).collect(), arguments)
}

/// Check that at info, the default, a container has one line for each step of its life, and that
/// its execs have none: a probe is an exec, every few seconds, for ever.
#[test]
fn an_exec_writes_nothing_at_info() {
    let (lines, arguments) = logged(|start| start);
    let steps: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("info "))
        .filter(|line| line.contains("container"))
        .collect();
    assert_eq!(
        steps,
        [
            "container created",
            "container started",
            "init of a container exited",
            "container deleted"
        ],
        "{lines:?}"
    );
    assert!(
        !lines.iter().any(|line| line.contains("exec") || line.starts_with("debug")),
        "{lines:?}"
    );
    assert!(!arguments.iter().any(|argument| argument.contains("log")), "{arguments:?}");
}

/// Check that `log_level` of containerd 2.3 is honoured: with debug the execs have their lines, and
/// with warn a container that works has none.
#[test]
fn the_log_level_of_bootstrap_params_is_honoured() {
    let level = |value| {
        logged(move |start| start.with(|params| params.log_level = EnumOrUnknown::from_i32(value)))
    };
    let (lines, arguments) = level(-4);
    for line in ["debug exec started", "debug exec exited", "debug exec failed to start"] {
        assert!(lines.iter().any(|written| written == line), "{lines:?}");
    }
    assert!(arguments.ends_with(&["-log-level".to_owned(), "debug".to_owned()]), "{arguments:?}");
    let (lines, _) = level(4);
    assert_eq!(lines, [""; 0]);
}
