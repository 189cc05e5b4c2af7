use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::{
    model::{
        self, Args, Backend, Body, Container, Ended, Gap, Grade, Image, Origin, Process,
        ProcessKey, Stage,
    },
    observe::{
        encode::{Clock, ContainerFields, Encoder, Identity},
        stream::Batch,
    },
};

fn process(args: &[u8]) -> Arc<Process> {
    let image = Image {
        executable: Some((*b"/bin/echo").into()),
        args: Some(Args::from_nul_separated(args)),
        working_directory: Some((*b"/srv").into()),
        uid: Some(1000),
        ..Image::default()
    };
    Arc::new(Process {
        key: ProcessKey::new(4211, 77),
        vpid: Some(17),
        parent_pid: Some(1),
        parent: None,
        image: Arc::new(image),
        origin: Origin::Exec,
        exec_id: Some("probe".into()),
        cgroup: None,
    })
}

fn json(body: Body) -> String {
    let container = Container { id: "web".into(), ..Container::default() };
    let (grade, source, container) = (Grade::Exact, Backend::Bpf, Some(Arc::new(container)));
    let event = model::Event { monotonic_ns: 1, realtime_ns: 2, grade, source, container, body };
    let identity = Identity { shim_id: "s".into(), epoch: "e".into(), boot: 0xabcd };
    let mut batch = Batch::default();
    Encoder::new(&identity, Clock { boot_realtime_ns: 0 }).event(
        17,
        &event,
        &mut ContainerFields::default(),
        &mut batch.events,
    );
    String::from_utf8(encode(&batch.decoded().expect("an event")[0])).expect("JSON")
}

/// Check what `ctr events` prints of a start: the fields of OCI's `process`, the rest as
/// annotations.
#[test]
fn a_start_is_a_process_with_annotations() {
    insta::assert_snapshot!(json(Body::Start(process(b"echo\0a \"b\"\n\0\0"))), @r#"{"ociVersion":"1.0.2","process":{"user":{"uid":1000},"args":["echo","a \"b\"\n",""],"cwd":"/srv"},"annotations":{"io.lookout.container":"web","io.lookout.entity_id":"0000abcd000010734d","io.lookout.exec_id":"probe","io.lookout.executable":"/bin/echo","io.lookout.grade":"exact","io.lookout.origin":"exec","io.lookout.pid":"4211","io.lookout.seq":"17","io.lookout.time":"2","io.lookout.type":"process.start"}}"#);
}

/// Check what it prints of exits: a code or a signal, never both, and neither if it is unknown.
#[test]
fn an_exit_has_a_code_or_a_signal_or_neither() {
    let exit = |ended, oom_killed| {
        let process = process(b"echo\0");
        json(Body::Exit { process, ended, oom_killed, run_time_ns: None })
    };
    insta::assert_snapshot!(exit(Some(Ended::Code(3)), false), @r#"{"ociVersion":"1.0.2","process":{"user":{"uid":1000},"args":["echo"],"cwd":"/srv"},"annotations":{"io.lookout.code":"3","io.lookout.container":"web","io.lookout.entity_id":"0000abcd000010734d","io.lookout.exec_id":"probe","io.lookout.executable":"/bin/echo","io.lookout.grade":"exact","io.lookout.origin":"exec","io.lookout.pid":"4211","io.lookout.seq":"17","io.lookout.status":"3","io.lookout.time":"2","io.lookout.type":"process.exit"}}"#);
    insta::assert_snapshot!(exit(Some(Ended::Signal(9)), true), @r#"{"ociVersion":"1.0.2","process":{"user":{"uid":1000},"args":["echo"],"cwd":"/srv"},"annotations":{"io.lookout.container":"web","io.lookout.entity_id":"0000abcd000010734d","io.lookout.exec_id":"probe","io.lookout.executable":"/bin/echo","io.lookout.grade":"exact","io.lookout.oom_killed":"true","io.lookout.origin":"exec","io.lookout.pid":"4211","io.lookout.seq":"17","io.lookout.signal":"SIGKILL","io.lookout.status":"137","io.lookout.time":"2","io.lookout.type":"process.exit"}}"#);
    assert!(!exit(None, false).contains("status"));
}

/// Check what it prints of a gap and of a throttle, which have no process.
#[test]
fn a_gap_and_a_throttle_are_annotations_alone() {
    let gap = |lost| json(Body::Gap(Gap { lost, stage: Stage::Kernel, from_ns: 1, to_ns: 2 }));
    insta::assert_snapshot!(gap(Some(12)), @r#"{"ociVersion":"1.0.2","annotations":{"io.lookout.container":"web","io.lookout.grade":"exact","io.lookout.lost":"12","io.lookout.seq":"17","io.lookout.stage":"kernel","io.lookout.time":"2","io.lookout.type":"observer.gap"}}"#);
    assert!(!gap(None).contains("lost\""), "unknown is not a number");
    insta::assert_snapshot!(json(Body::Throttle { withheld: 5, over_ns: 9 }), @r#"{"ociVersion":"1.0.2","annotations":{"io.lookout.container":"web","io.lookout.grade":"exact","io.lookout.over_ns":"9","io.lookout.seq":"17","io.lookout.time":"2","io.lookout.type":"observer.throttle","io.lookout.withheld":"5"}}"#);
}

/// Check that bytes that are not UTF-8 are escaped, that all arguments are escaped then, and that
/// an annotation reports it.
#[test]
fn bytes_that_are_not_utf8_are_escaped_and_annotated() {
    insta::assert_snapshot!(json(Body::Start(process(b"a\\b\0\xff\xc3\0\xc3\xa9\0"))), @r#"{"ociVersion":"1.0.2","process":{"user":{"uid":1000},"args":["a\\\\b","\\xff\\xc3","é"],"cwd":"/srv"},"annotations":{"io.lookout.container":"web","io.lookout.entity_id":"0000abcd000010734d","io.lookout.escaped":"true","io.lookout.exec_id":"probe","io.lookout.executable":"/bin/echo","io.lookout.grade":"exact","io.lookout.origin":"exec","io.lookout.pid":"4211","io.lookout.seq":"17","io.lookout.time":"2","io.lookout.type":"process.start"}}"#);
    assert!(!json(Body::Start(process(b"a\\b\0"))).contains("escaped"));
}

/// Check that truncated arguments are annotated with their true number.
#[test]
fn truncated_arguments_are_annotated() {
    let mut cut = (*process(b"echo\0")).clone();
    let args = Args { total_bytes: 100, count: 9, ..Args::from_nul_separated(b"echo\0") };
    cut.image = Arc::new(Image { args: Some(args), ..(*cut.image).clone() });
    let json = json(Body::Start(Arc::new(cut)));
    assert!(
        json.contains(r#""io.lookout.args_count":"9","io.lookout.args_truncated":"true""#),
        "{json}"
    );
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (first, rest) {
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).expect("digits");
                bytes.push(u8::from_str_radix(digits, 16).expect("digits"));
                rest = after;
            }
            (b'\\', [b'\\', after @ ..]) => {
                bytes.push(b'\\');
                rest = after;
            }
            _ => bytes.push(*first),
        }
    }
    bytes
}

proptest! {
    /// Check that arguments of any bytes can be restored from the JSON.
    #[test]
    fn any_arguments_can_be_restored(words in proptest::collection::vec(proptest::collection::vec(
        prop_oneof![Just(b'\\'), Just(b'x'), Just(b'f'), 1..=255_u8], 0..12), 1..5))
    {
        let mut args = words.join(&0);
        args.push(0);
        let json = json(Body::Start(process(&args)));
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        let is_escaped = json["annotations"].get("io.lookout.escaped").is_some();
        let decoded = json["process"]["args"].as_array().expect("args").iter().map(|word| {
            let word = word.as_str().expect("a string");
            if is_escaped { unescape(word) } else { word.as_bytes().to_vec() }
        });
        prop_assert_eq!(decoded.collect::<Vec<_>>(), words);
    }
}
