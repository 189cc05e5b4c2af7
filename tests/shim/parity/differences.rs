//! The intended differences from the stock shim, and their reasons. Any other difference is a
//! failure.

use super::sequence::Step;

/// One intended difference.
pub(super) struct Difference {
    /// The stock shims that differ in this way: `containerd-1.7`, `containerd-2.1`, or both.
    stock: &'static [&'static str],
    step: &'static str,
    theirs: &'static str,
    ours: &'static str,
    why: &'static str,
}

const BOTH: &[&str] = &["containerd-1.7", "containerd-2.1"];

const DIFFERENCES: &[Difference] = &[
    Difference {
        stock: BOTH,
        step: "create by no runtime",
        theirs: "UNKNOWN: OCI runtime create failed: unable to retrieve OCI runtime error \
                 (open NODE/b/other/log.json: no such file or directory): \
                 fork/exec /no/such/runtime: no such file or directory",
        ours: "UNKNOWN: OCI runtime create failed: OCI runtime \"/no/such/runtime\" not found: \
               no such executable",
        why: "the log of a runtime that never ran is irrelevant",
    },
    Difference {
        stock: BOTH,
        step: "create again",
        theirs: "UNKNOWN: OCI runtime create failed: runc create failed: \
                 container with given ID already exists",
        ours: "ALREADY_EXISTS: container web: already exists",
        why: "theirs runs the runtime, and overwrites options.json, before it notices",
    },
    Difference {
        stock: BOTH,
        step: "update by nonsense",
        theirs: "UNKNOWN: invalid character 'o' in literal null (expecting 'u')",
        ours: "INVALID_ARGUMENT: invalid resources: expected ident at line 1 column 2",
        why: "the code shows that the request is at fault; the text comes from another parser",
    },
    Difference {
        stock: BOTH,
        step: "kill by a signal that is none",
        theirs: "UNKNOWN: unknown error after kill: runc did not terminate successfully: \
                 exit status 1: unable to signal init: invalid argument\n",
        ours: "UNKNOWN: unknown error after kill: unable to signal init: invalid argument",
        why: "the runtime's log has the reason, its exit status adds nothing",
    },
    Difference {
        stock: BOTH,
        step: "delete again",
        theirs: "NOT_FOUND: container not created: not found",
        ours: "pid=INIT exit=3 at=now",
        why: "the client of the first delete may not have received the answer",
    },
    Difference {
        stock: BOTH,
        step: "close of no exec",
        theirs: "UNKNOWN: process does not exist none: not found",
        ours: "NOT_FOUND: process does not exist none: not found",
        why: "theirs does not translate this one error",
    },
];

impl Difference {
    /// Differences that are not listed, and listed differences that no longer exist.
    pub(super) fn surprises(stock: &str, theirs: &[Step], ours: &[Step]) -> Vec<String> {
        let mut listed: Vec<_> =
            DIFFERENCES.iter().filter(|difference| difference.stock.contains(&stock)).collect();
        let mut surprises = Vec::new();
        for (their, our) in theirs.iter().zip(ours) {
            assert_eq!(their.name, our.name, "both are asked the same");
            if their.outcome == our.outcome {
                continue;
            }
            let same = |difference: &&Difference| {
                (difference.step, difference.theirs, difference.ours)
                    == (their.name, &*their.outcome, &*our.outcome)
            };
            match listed.iter().position(same) {
                Some(at) => drop(listed.remove(at)),
                None => surprises.push(format!(
                    "{}\n    theirs: {}\n    ours:   {}",
                    their.name, their.outcome, our.outcome
                )),
            }
        }
        let stale = |difference: &Difference| {
            format!("{} no longer differs: {}", difference.step, difference.why)
        };
        surprises.extend(listed.into_iter().map(stale));
        surprises
    }
}
