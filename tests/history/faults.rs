//! A history that is damaged, of a later version, or on a full disk.

use std::{
    fs::{self, File},
    io::{Seek as _, SeekFrom, Write as _},
    process::Command,
};

use lookout::api::HistoryEventsRequest;

use crate::{
    daemon::{Node, accounts},
    script::{Script, Shim},
};

/// The names of the files in the daemon's directory that were set aside.
fn set_aside(node: &Node) -> Vec<String> {
    let files = fs::read_dir(node.path().join("registry")).unwrap().flatten();
    let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("history.db.damaged-")).collect()
}

/// Check that a file that was overwritten is set aside, that a new history begins, and that it has
/// all events that the shims still have.
#[test]
fn a_damaged_history_is_set_aside_and_a_new_one_begins() {
    let mut node = Node::new(&[]);
    let shim = Shim::start(node.path(), Script::new("web", 1000));
    node.start();
    let epoch = shim.script.epoch();
    node.until("some events", || node.cursor(&epoch) > 300);
    node.stop();
    fs::write(node.database(), "not a database".repeat(1000)).unwrap();
    node.start();
    let last = shim.finish();
    node.until("the events", || node.cursor(&epoch) == last);
    assert_eq!(set_aside(&node).len(), 1, "{:?}", set_aside(&node));
    let (state, events) = node.events(&HistoryEventsRequest::new());
    let account = &accounts(&events)[&epoch];
    assert_eq!((account.missing(last), account.lost), (0, 0));
    assert_eq!(state.unavailable, "");
    assert!(node.log().contains("set aside a damaged history"), "{}", node.log());
}

/// Check that damage that is found while the daemon runs is set aside as well, and that what is
/// lost by it is counted.
#[test]
fn damage_is_found_while_the_daemon_runs() {
    let mut node = Node::new(&[]);
    let shim = Shim::start(node.path(), Script::new("web", 1000));
    node.start();
    let epoch = shim.script.epoch();
    node.until("some events", || node.cursor(&epoch) > 1000);
    node.stop();
    // All pages but the first, which has the schema's beginning.
    let mut file = File::options().write(true).open(node.database()).unwrap();
    let length = file.metadata().unwrap().len();
    file.seek(SeekFrom::Start(4096)).unwrap();
    file.write_all(&vec![0xa5; usize::try_from(length - 4096).unwrap()]).unwrap();
    node.start();
    node.until("the file to be set aside", || !set_aside(&node).is_empty());
    let last = shim.finish();
    node.until("the events", || node.cursor(&epoch) == last);
    let (_, events) = node.events(&HistoryEventsRequest::new());
    let account = &accounts(&events)[&epoch];
    account.assert_in_order();
    assert_eq!(account.missing(last), account.lost);
}

/// Check that the file of a later version is not touched, and that the answer says why nothing is
/// stored.
#[test]
fn a_history_of_a_later_version_is_left_alone() {
    let mut node = Node::new(&[]);
    let shim = Shim::start(node.path(), Script::new("web", 1000));
    node.start();
    node.until("some events", || node.cursor(&shim.script.epoch()) > 100);
    node.stop();
    let alter = ["PRAGMA user_version = 7"];
    let status = Command::new("sqlite3").arg(node.database()).args(alter).status().unwrap();
    assert!(status.success());
    let before = fs::read(node.database()).unwrap();
    node.start();
    node.until("the shim to be followed", || node.metric("lookout_shims_connected") == 1);
    node.until("events to be counted", || node.metric("lookout_history_lost_events_total") > 0);
    let (state, _) = node.events(&HistoryEventsRequest::new());
    assert_eq!(state.unavailable, "the history's file has schema 7, which is newer than 1");
    assert_eq!(node.metric("lookout_history_available"), 0);
    node.stop();
    assert!(fs::read(node.database()).unwrap() == before, "the file has changed");
    assert_eq!(set_aside(&node), Vec::<String>::new());
}

/// Check that without a history the daemon says so.
#[test]
fn a_history_that_is_off_says_so() {
    let mut node = Node::new(&[("LOOKOUT_HISTORY_SIZE", "0")]);
    let _shim = Shim::start(node.path(), Script::new("web", 1000));
    node.start();
    node.until("the shim to be followed", || node.metric("lookout_shims_connected") == 1);
    let (state, events) = node.events(&HistoryEventsRequest::new());
    assert_eq!((events, state.unavailable.contains("history_size")), (Vec::new(), true));
    assert!(!node.database().exists());
}

/// Check that on a full disk the daemon goes on, that the answer says why nothing is stored, and
/// that it stores events again, after a gap with the exact number, once there is space.
#[test]
fn a_full_disk_is_a_gap_and_the_daemon_goes_on() {
    let mut node = Node::new(&[]);
    let state = node.path().join("state");
    fs::create_dir(&state).unwrap();
    node.set("LOOKOUT_STATE_DIR", state.to_str().unwrap());
    let mount = format!("mount -t tmpfs -o size=1m lk {} && exec \"$@\"", state.display());
    node.wrap(&["unshare", "--mount", "sh", "-c", &mount, "sh"]);
    let shim = Shim::start(node.path(), Script::new("web", 500));
    node.start();
    node.until("the disk to be full", || node.metric("lookout_history_available") == 0);
    let (answer, _) = node.events(&HistoryEventsRequest::new());
    assert!(answer.unavailable.contains("full"), "{}", answer.unavailable);
    let pid = node.pid().to_string();
    let remount = ["mount", "-o", "remount,size=64m", state.to_str().unwrap()];
    let grown = Command::new("nsenter").args(["-m", "-t", &pid]).args(remount).status().unwrap();
    assert!(grown.success());
    node.until("events to be stored again", || node.metric("lookout_history_available") == 1);
    let last = shim.finish();
    let account = || {
        let (_, events) = node.events(&HistoryEventsRequest::new());
        accounts(&events).remove(&shim.script.epoch()).unwrap()
    };
    node.until("the last event", || account().seqs.last() == Some(&last));
    account().assert_in_order();
    assert!(account().lost > 0);
    assert_eq!((account().missing(last), account().uncounted), (account().lost, 0));
    let lost = node.metric("lookout_history_lost_events_total");
    assert_eq!(lost, account().lost);
}
