use super::*;

fn event(what: u32, data: &[u32]) -> Vec<u8> {
    let mut bytes = vec![0; 16];
    bytes.extend([PROC_GROUP, PROC_GROUP, 9, 8].iter().flat_map(|word| word.to_ne_bytes()));
    bytes.extend([40, 0, 0, 0]);
    bytes.extend([what, 1].iter().flat_map(|word| word.to_ne_bytes()));
    bytes.extend(77_u64.to_ne_bytes());
    bytes.extend(data.iter().flat_map(|word| word.to_ne_bytes()));
    bytes
}

/// Check that each kind of event is parsed from the kernel's layout.
#[test]
fn events_are_parsed() {
    let parsed = |what, data: &[u32]| parse(&event(what, data));
    let at = |event| Some(Message::Event { at_ns: 77, event });
    assert_eq!(parsed(EVENT_FORK, &[11, 10, 20, 20]), at(Event::Fork { parent: 10, child: 20 }));
    assert_eq!(parsed(EVENT_FORK, &[10, 10, 21, 20]), at(Event::Thread { pid: 20 }));
    assert_eq!(parsed(EVENT_EXEC, &[20, 20]), at(Event::Exec { pid: 20 }));
    assert_eq!(
        parsed(EVENT_EXIT, &[21, 20, 0x500, 17]),
        at(Event::Exit { pid: 20, thread: 21, status: 0x500 })
    );
    assert_eq!(parsed(EVENT_NONE, &[1]), Some(Message::Answer { to: 8, errno: 1 }));
}

/// Check that other kinds of events and messages that are cut off are ignored.
#[test]
fn other_messages_are_ignored() {
    assert_eq!(parse(&event(0x200, &[20, 20, 0, 0])), None, "a new name");
    let whole = event(EVENT_EXEC, &[20, 20]);
    for length in 0..whole.len() {
        assert_eq!(parse(&whole[..length]), None, "{length} bytes");
    }
}
