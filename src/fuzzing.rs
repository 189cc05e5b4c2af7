//! The targets of the fuzzer: for each kind of bytes from outside, a function that gives them to
//! the parsers that read them.
//!
//! A target panics if a parser does, or if a property does not hold, such as that what was decoded
//! and encoded again is equal. Targets are beside their parsers, in modules `fuzzing`. They exist
//! in tests and with the feature `fuzzing`; `hack/fuzz` runs them, and the test below gives them
//! every input of `fuzz/corpus`.

use crate::{accept, bundle, config, linux, observe, publish, registration, runc, shim, task};
#[cfg(feature = "cli")]
use crate::{client, registry};

/// A function that gives bytes to parsers. It panics if it finds a fault.
pub type Target = fn(&[u8]);

/// Each target with its name, which is also the name of its directory in `fuzz/corpus`.
pub const TARGETS: &[(&str, Target)] = &[
    ("bootstrap", shim::fuzzing::bootstrap),
    ("bpf-record", observe::source::bpf::fuzzing::record),
    ("bundle-files", bundle::fuzzing::files),
    ("cgroup-files", task::cgroup::fuzzing::files),
    ("config", config::fuzzing::file),
    ("encoded-event", observe::stream::fuzzing::encoded_event),
    #[cfg(feature = "cli")]
    ("event-batch", client::fuzzing::batch),
    ("go-program", shim::fuzzing::go_program),
    ("listener-packet", observe::source::connector::fuzzing::packet),
    ("mount-options", task::fuzzing::mount_options),
    ("node-files", linux::fuzzing::node_files),
    ("outbox", publish::fuzzing::journal),
    ("proc-connector", observe::source::connector::fuzzing::netlink_message),
    ("process-files", linux::process::fuzzing::process_files),
    ("redact", observe::redact::fuzzing::arguments),
    ("registration", registration::fuzzing::file),
    #[cfg(feature = "cli")]
    ("registry-file", registry::store::fuzzing::file),
    ("runtime-options", runc::fuzzing::options),
    ("runtime-output", runc::fuzzing::output),
    ("sock-diag", linux::sockets::fuzzing::dump),
    ("stdio", task::fuzzing::stdio),
    ("subscribe", observe::shim::service::fuzzing::subscribe),
    ("task-requests", task::fuzzing::requests),
    ("ttrpc-messages", accept::fuzzing::messages),
];

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    /// Check that each target has a directory of inputs, and each directory a target.
    #[test]
    fn each_target_has_a_corpus() {
        let corpora = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus"));
        let names = corpora.unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let targets = TARGETS.iter().map(|(name, _)| (*name).to_owned());
        assert_eq!(names.collect::<BTreeSet<_>>(), targets.collect());
    }

    /// Check that no input of the corpora makes its target panic, among them those that once did.
    #[test]
    fn no_input_of_the_corpora_makes_a_target_panic() {
        for (name, target) in TARGETS {
            let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
            for entry in fs::read_dir(corpus).unwrap() {
                let path = entry.unwrap().path();
                // Shown if the test fails.
                println!("{}", path.display());
                target(&fs::read(&path).unwrap());
            }
        }
    }
}
