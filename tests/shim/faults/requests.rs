//! Requests of which the client, the runtime or containerd does not do its part.

use containerd_shim_protos::ttrpc::proto::Code;

use crate::harness::Node;

/// Signals that end no process, as a terminal and its user send them.
const HARMLESS: [u32; 5] = [1, 10, 12, 28, 34];

/// Check that only a signal that ends a process aborts a create, and that others are refused as
/// long as there is no process.
#[test]
fn a_harmless_signal_does_not_abort_a_create() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    let hold = node.runtime().hold("create");
    let request = bundle.create();
    let create = shim.in_background(move |task| task.create(&request));
    hold.wait_until_reached();
    for signal in HARMLESS {
        assert_eq!(shim.kill("web", "", signal).unwrap_err().code, Some(Code::NOT_FOUND));
    }
    hold.release();
    create.join().unwrap().unwrap();
    shim.start("web", "").unwrap();

    let hold = node.runtime().hold("exec");
    shim.exec("web", "probe").unwrap();
    let start = shim.in_background(|task| task.start("web", "probe"));
    hold.wait_until_reached();
    for signal in HARMLESS {
        let refused = shim.kill("web", "probe", signal).unwrap_err();
        assert_eq!(refused.code, Some(Code::FAILED_PRECONDITION));
    }
    hold.release();
    start.join().unwrap().unwrap();
    shim.remove("web");
    for signal in [2, 3, 9, 15] {
        let hold = node.runtime().hold("create");
        let request = bundle.create();
        let create = shim.in_background(move |task| task.create(&request));
        hold.wait_until_reached();
        shim.kill("web", "", signal).unwrap();
        create.join().unwrap().unwrap_err();
        hold.release();
    }
}
