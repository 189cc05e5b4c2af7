use super::{
    super::sample::{
        change, container, entity_id, event, listed, press, process, sampled, state, tree, web,
    },
    *,
};

/// The pids of the rows, in order; 0 for a group.
fn pids(state: &State) -> Vec<i32> {
    state.rows.iter().map(|row| row.item.pid).collect()
}

fn selected(state: &State) -> i32 {
    state.selected_row().expect("a row").item.pid
}

/// Check each order, in which a parent counts with its descendants, and the flat list.
#[test]
fn rows_are_sorted_within_their_parents() {
    let mut state = web(80, 24);
    assert_eq!(pids(&state), [0, 10, 11, 12, 13]);
    change(&mut state, sampled(0, &[(10, 1), (11, 1), (12, 1), (13, 1)]));
    change(&mut state, sampled(1000, &[(10, 1), (11, 11), (12, 401), (13, 301)]));
    press(&mut state, "c");
    assert_eq!(pids(&state), [0, 10, 11, 12, 13], "the child of 11 uses most");
    press(&mut state, "r");
    assert_eq!(pids(&state), [0, 10, 13, 11, 12]);
    press(&mut state, "tc");
    assert_eq!(pids(&state), [12, 13, 11, 10]);
    press(&mut state, "m");
    assert_eq!(pids(&state), [12, 13, 11, 10]);
    press(&mut state, "n");
    assert_eq!(pids(&state), [10, 11, 13, 12], "by the command");
    press(&mut state, "i");
    assert_eq!(pids(&state)[0], 12);
    let mut young = process(14, 13, &["young"]);
    young.created_ns += 1;
    change(&mut state, event(1, "process.start", &young));
    press(&mut state, "a");
    assert_eq!(pids(&state)[0], 14);
    press(&mut state, "tp");
    assert_eq!(pids(&state), [0, 10, 11, 12, 13, 14]);
    let rates: Vec<_> = state.rows.iter().map(|row| row.item.used.cpu).collect();
    assert_eq!(rates[1..4], [Some(0.0), Some(0.01), Some(0.4)]);
    assert!((rates[0].expect("a sum") - 0.71).abs() < 1e-9, "{rates:?}");
    assert_eq!(rates[5], None, "it has no sample yet");
}

/// Check that a folded row counts what it hides, and that the selection goes to it.
#[test]
fn a_subtree_is_folded() {
    let mut state = web(80, 24);
    press(&mut state, "vv");
    assert_eq!(selected(&state), 11);
    press(&mut state, " ");
    assert_eq!((pids(&state), state.rows[2].folded), (vec![0, 10, 11, 13], 1));
    press(&mut state, "^ ");
    assert_eq!((pids(&state), state.rows[1].folded), (vec![0, 10], 3));
    press(&mut state, "^ ");
    assert_eq!((pids(&state), state.rows[0].folded), (vec![0], 4));
    // What is folded stays so below.
    press(&mut state, " v ");
    assert_eq!(pids(&state), [0, 10, 11, 13]);
    // A leaf cannot be folded.
    press(&mut state, "vv ");
    assert_eq!((selected(&state), pids(&state).len()), (13, 4));
    state.update(Message::Key(Key::Left));
    assert_eq!(selected(&state), 10, "from a leaf to its parent");
}

/// Check that a filter keeps the ancestors of what it finds, also what is folded, and that it is
/// typed, kept and removed.
#[test]
fn a_filter_keeps_the_way_to_what_it_finds() {
    let mut state = web(80, 24);
    press(&mut state, "v /--IDL");
    assert_eq!(pids(&state), [0, 10, 11, 12]);
    press(&mut state, "\r");
    // `q` is a key again.
    assert_eq!(press(&mut state, "q"), Some(Effect::Quit));
    press(&mut state, "\x1b");
    assert_eq!(pids(&state), [0, 10], "it is still folded");
    for (filter, found) in [("8080", vec![0, 10]), ("13", vec![0, 10, 13]), ("none", vec![])] {
        press(&mut state, &format!("/{filter}\r"));
        assert_eq!(pids(&state), found, "{filter}");
        press(&mut state, "\x1b");
    }
    press(&mut state, "/web\r");
    assert_eq!(pids(&state).len(), 5, "a container has all its processes");
}

/// Check that the selection stays on its process when rows come, go and move.
#[test]
fn the_selection_stays_on_its_process() {
    let mut state = web(80, 24);
    press(&mut state, "vvvv");
    assert_eq!(selected(&state), 13);
    change(&mut state, event(1, "process.start", &process(9, 10, &["first"])));
    assert_eq!((selected(&state), state.selected), (13, 5));
    change(&mut state, sampled(0, &[(13, 1)]));
    change(&mut state, sampled(1000, &[(13, 900)]));
    press(&mut state, "c");
    assert_eq!((selected(&state), state.selected), (13, 2));
    change(&mut state, listed("t", &container("a"), &[process(90, 0, &["db"])]));
    assert_eq!(selected(&state), 13);
    // The row in its place follows.
    let at = state.selected;
    change(&mut state, event(2, "process.exit", &process(13, 10, &["sleep", "9"])));
    assert_eq!((state.selected, selected(&state) != 13), (at, true));
    change(&mut state, Change::ShimEnded { shim: "s".into() });
    assert_eq!(pids(&state), [0, 90]);
    change(&mut state, Change::ShimEnded { shim: "t".into() });
    assert!(pids(&state).is_empty() && state.selected_row().is_none());
    press(&mut state, "v^ k\r");
}

/// Check that a process that has got the pid of the selected one is another row.
#[test]
fn a_pid_that_is_reused_is_another_process() {
    let mut state = web(80, 24);
    press(&mut state, "vvvv");
    let mut next = process(13, 10, &["stranger"]);
    next.entity_id = entity_id(13, 99);
    // The exit of the first one was lost.
    change(&mut state, event(1, "process.start", &next));
    let of_13 = |state: &State| state.rows.iter().filter(|row| row.item.pid == 13).count();
    assert_eq!(of_13(&state), 2);
    assert_eq!(state.selected_row().expect("a row").item.command, "sleep 9");
    press(&mut state, "k");
    change(&mut state, event(2, "process.exit", &tree()[3]));
    assert_eq!(of_13(&state), 1);
    let Mode::Kill(dialog) = &state.mode else { panic!("{:?}", state.mode) };
    assert_eq!(dialog.step, super::super::dialog::Step::Ended);
    assert_eq!(press(&mut state, "\ry"), None, "the stranger gets no signal");
}

/// Check that the dialog keeps to its process when rows move, and that a process that ends
/// meanwhile gets no signal.
#[test]
fn a_dialog_keeps_to_its_process() {
    let mut state = web(80, 24);
    press(&mut state, "k");
    assert!(matches!(state.mode, Mode::List) && state.result.is_some(), "a container has no pid");
    press(&mut state, "vvk\r");
    change(&mut state, event(1, "process.start", &process(9, 10, &["first"])));
    let signal = Effect::Signal { key: ProcessKey::new(11, 31), signal: 15 };
    assert_eq!(press(&mut state, "y"), Some(signal));
    press(&mut state, "k\r");
    change(&mut state, event(2, "process.exit", &process(11, 10, &["nginx"])));
    assert_eq!(press(&mut state, "y"), None);
    assert!(matches!(state.mode, Mode::List));
    let mut unknown = state;
    change(
        &mut unknown,
        listed(
            "s",
            &container("web"),
            &[crate::api::Process { entity_id: entity_id(10, 0), ..process(10, 0, &["old"]) }],
        ),
    );
    press(&mut unknown, "vk");
    assert!(matches!(unknown.mode, Mode::List), "a signal could reach another process");
}

/// Check that the selected row is always on the screen.
#[test]
fn the_rows_scroll_with_the_selection() {
    let mut state = state(80, 12);
    let many: Vec<_> = (10..60).map(|pid| process(pid, 10, &["x"])).collect();
    change(&mut state, listed("s", &container("web"), &many));
    let assert_shown = |state: &State| {
        let rows = usize::from(state.layout().rows).max(1);
        let shown = state.first..state.first + rows;
        assert!(shown.contains(&state.selected), "{} in {shown:?}", state.selected);
        assert!(shown.end <= state.rows.len().max(rows), "{shown:?}");
    };
    for key in [Key::End, Key::PageUp, Key::Up, Key::Home, Key::PageDown, Key::PageDown, Key::Down]
    {
        state.update(Message::Key(key));
        assert_shown(&state);
    }
    for height in [24, 5, 1, 70] {
        state.update(Message::Resized { width: 80, height });
        assert_shown(&state);
    }
    press(&mut state, "\rd");
    assert_shown(&state);
}

/// Check that processes that name each other as parents, by reused pids, are shown once each.
#[test]
fn a_circle_of_parents_is_shown() {
    let mut state = state(80, 24);
    let circle = [process(2, 3, &["a"]), process(3, 2, &["b"]), process(4, 4, &["c"])];
    change(&mut state, listed("s", &container("web"), &circle));
    let mut shown = pids(&state);
    shown.sort_unstable();
    assert_eq!(shown, [0, 2, 3, 4]);
}

/// Check that a chain of many processes neither overflows the stack nor takes quadratic memory.
#[test]
fn a_deep_chain_is_arranged() {
    let mut state = state(80, 24);
    let chain: Vec<_> = (1..5000).map(|pid| process(pid, pid - 1, &["deeper"])).collect();
    change(&mut state, listed("s", &container("web"), &chain));
    assert_eq!(state.rows.len(), 5000);
    press(&mut state, "v ");
    assert_eq!((state.rows.len(), state.rows[1].folded), (2, 4998));
}

/// Check which reason for something that is missing is shown.
#[test]
fn the_most_important_note_is_shown() {
    let mut state = state(80, 24);
    let note = |note, text: Option<&str>| Change::Note(note, text.map(str::to_owned));
    use super::super::data::Note;
    change(&mut state, note(Note::Registry, Some("no daemon")));
    assert_eq!(state.data.note(true), Some("no daemon"));
    assert_eq!(state.data.note(false), None);
    change(&mut state, note(Note::Shim("s".into()), Some("gone\x1b[2J")));
    change(&mut state, note(Note::Shims, Some("denied")));
    assert_eq!(state.data.note(false), Some("denied"));
    change(&mut state, note(Note::Shims, None));
    assert_eq!(state.data.note(false), Some("gone\\x1b[2J"));
}
