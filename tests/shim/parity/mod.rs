//! Sends the same requests to the stock shim and to ours. Codes, messages, answers and events must
//! be equal, except for the listed differences, each with its reason.

mod differences;
mod sequence;

mod root {
    use std::path::PathBuf;

    use super::{
        differences::Difference,
        sequence::{Step, run_sequence},
    };
    use crate::harness::{Fifo, Node, tools};

    /// Runs the sequence with one shim, on a node of its own.
    fn steps(binary: PathBuf, versioned: bool) -> Vec<Step> {
        let node = Node::new();
        let daemon = node.daemon();
        let bundle = node
            .runc_bundle("web", "trap 'exit 3' TERM; echo ready >&2; while :; do sleep 0.05; done");
        // The stock shim fails without this.
        let log = Fifo::make(bundle.path.join("log"));
        let _reader = log.open_for_reading();
        let verb = node.start_verb(&bundle).binary(binary);
        let verb = if versioned { verb.versioned() } else { verb.plain() };
        let shim = verb.shim();
        run_sequence(&node, &daemon, &shim, &bundle)
    }

    #[track_caller]
    fn compare(stock: &str, versioned: bool) {
        let theirs = steps(tools::tool(stock).join("bin/containerd-shim-runc-v2"), versioned);
        let ours = steps(tools::SHIM.into(), versioned);
        let surprises = Difference::surprises(stock, &theirs, &ours);
        assert!(surprises.is_empty(), "{} surprises:\n{}", surprises.len(), surprises.join("\n"));
    }

    /// Check that ours gives the same answers and events as the shim of containerd 1.7.
    #[test]
    fn ours_answers_as_the_shim_of_containerd_1_7() {
        compare("containerd-1.7", false);
    }

    /// Check that ours gives the same answers and events as the shim of containerd 2.1.
    #[test]
    fn ours_answers_as_the_shim_of_containerd_2_1() {
        compare("containerd-2.1", true);
    }
}
