use ratatui_core::{backend::TestBackend, terminal::Terminal};
use unicode_width::UnicodeWidthStr as _;

use super::{
    super::data::Change,
    super::sample::{
        TIME_NS, change, container, event, hostile, listed, press, process, sampled, state, tree,
    },
    *,
};
use crate::model::printable::is_unsafe_to_print;

/// The lines that are drawn. No line is wider than the terminal, and none has an unsafe character.
fn drawn(state: &State) -> String {
    let (width, height) = state.size;
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(state, frame)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let mut text = String::new();
    for y in 0..height {
        let (mut line, mut x) = (String::new(), 0);
        while x < width {
            let symbol = buffer[(x, y)].symbol();
            line.push_str(symbol);
            x += u16::try_from(symbol.width().max(1)).unwrap();
        }
        assert!(line.width() <= usize::from(width), "{}: {line}", line.width());
        assert!(!line.contains(is_unsafe_to_print), "{line:?}");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn busy(width: u16, height: u16) -> State {
    let mut state = state(width, height);
    let (pod, processes) = hostile();
    change(&mut state, listed("a", &pod, &processes));
    change(&mut state, listed("s", &container("web"), &tree()));
    let gone = process(4711, 10, &["\u{1b}[31mgone", "结束"]);
    change(&mut state, event(1, "process.start", &gone));
    change(&mut state, event(2, "process.exit", &gone));
    change(&mut state, sampled(0, &[(4016, 0), (4302, 0), (10, 100)]));
    change(&mut state, sampled(1000, &[(4016, 20), (4302, 1234), (10, 100)]));
    state.now_ns = TIME_NS + 5_000_000_000;
    state
}

/// Check against reviewed snapshots: long ids, CJK, combining and hostile characters.
#[test]
fn a_state_fits_into_the_terminal() {
    let mut text = String::new();
    for width in [60, 80, 120] {
        text.push_str(&format!("{width} columns\n{}\n", drawn(&busy(width, 20))));
    }
    insta::assert_snapshot!(text);
}

/// Check the details of a process, the dialog at each step, the help, a filter and what is folded.
#[test]
fn panes_and_boxes_are_drawn() {
    let mut text = String::new();
    let mut show =
        |what: &str, state: &State| text.push_str(&format!("{what}\n{}\n", drawn(state)));
    let mut state = busy(80, 26);
    press(&mut state, "vvvd");
    show("details of a process with a long command", &state);
    press(&mut state, "dvvd");
    show("details of an exec", &state);
    press(&mut state, "dk");
    show("dialog", &state);
    press(&mut state, "nonsense\r");
    show("no such signal", &state);
    press(&mut state, "\x1bk\r");
    show("confirmation", &state);
    change(&mut state, Change::ShimEnded { shim: "a".into() });
    show("the process has ended", &state);
    press(&mut state, "\x1b?");
    show("help", &state);
    press(&mut state, "?/ngi");
    show("filter", &state);
    press(&mut state, "\x1bv et");
    show("a flat list", &state);
    insta::assert_snapshot!(text);
}

/// Check that nothing is drawn outside of a terminal of any size.
#[test]
fn any_size_is_drawn() {
    for (width, height) in [(1, 1), (2, 3), (10, 4), (39, 5), (40, 9), (300, 100)] {
        for keys in ["", "vd", "vvk", "?", "/x"] {
            let mut state = busy(width, height);
            press(&mut state, keys);
            drawn(&state);
        }
    }
}

/// Check what is shown before the shims have answered, and if there is nothing.
#[test]
fn an_empty_screen_says_why() {
    let mut empty =
        State::new("web", crate::cli::args::registry::SortOrder::Cpu, Style::default(), 0);
    empty.update(super::super::state::Message::Resized { width: 80, height: 10 });
    assert!(drawn(&empty).contains("connecting to the shims"), "{}", drawn(&empty));
    let mut empty = state(80, 10);
    assert!(drawn(&empty).contains("no living processes"), "{}", drawn(&empty));
    let note = Change::Note(super::super::data::Note::Shims, Some("permission denied".into()));
    change(&mut empty, note);
    assert!(drawn(&empty).contains("permission denied"), "{}", drawn(&empty));
}
