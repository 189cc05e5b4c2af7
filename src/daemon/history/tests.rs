use std::sync::Arc;

use super::{
    limits::Limits,
    query::Query,
    queue::{Item, Queue, ShimIdentity},
    row::Row,
    schema,
    store::Store,
};
use crate::api::{Container, Event, Filter, HistoryEventsRequest};

const LIMITS: Limits = Limits { size_bytes: 64 << 20, age: std::time::Duration::ZERO };

fn shim(epoch: &str) -> Arc<ShimIdentity> {
    let (epoch, namespace, id) = (epoch.to_owned(), "default".to_owned(), epoch.to_owned());
    Arc::new(ShimIdentity { epoch, namespace, id })
}

/// A row of a container.
fn row(seq: u64, container: &str) -> Row {
    let id = container.to_owned();
    let container = Container { namespace: "default".into(), id, ..Default::default() };
    let event = Event {
        seq,
        time_ns: seq * 1000,
        type_: "container.active".into(),
        container: Some(container).into(),
        ..Default::default()
    };
    Row::new(event).unwrap()
}

fn gap(lost: u64) -> Row {
    Row::gap(Some(lost), 1000, 0, 0)
}

/// The numbers of the stored events in the order in which they were stored, and the events that
/// the gaps among them report as lost.
fn stored(directory: &std::path::Path) -> Vec<(u64, Option<u64>)> {
    let connection = schema::open_for_reading(&directory.join("history.db")).unwrap();
    let mut query = Query::new(connection, HistoryEventsRequest::new(), LIMITS).unwrap();
    let page = query.read_page(0).unwrap();
    assert!(page.is_last);
    let lost = |event: &Event| event.has_gap().then(|| event.gap().lost.unwrap());
    page.rows.iter().map(|event| (event.seq, lost(event))).collect()
}

/// Check that rows that are stored already are left out, that a hole becomes a gap, and that a gap
/// that the shim reports is not reported twice: neither by the daemon, nor after a restart.
#[test]
fn rows_are_stored_once_and_holes_become_gaps() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let s = shim("s");
    let mut store = Store::open(&path, &LIMITS, 7).unwrap();
    let mut write = |rows: Vec<Row>| {
        let items = [Item::Events { shim: s.clone(), rows }];
        store.write(&items, &LIMITS, 7).unwrap();
    };
    write(vec![row(1, "a"), row(2, "a")]);
    write(vec![row(2, "a"), row(3, "a"), row(6, "a")]);
    assert_eq!(
        stored(directory.path()),
        [(1, None), (2, None), (3, None), (0, Some(2)), (6, None)]
    );
    // The gap is stored with the event that follows it.
    write(vec![gap(3)]);
    assert_eq!(stored(directory.path()).len(), 5);
    drop(store);
    let mut store = Store::open(&path, &LIMITS, 7).unwrap();
    assert_eq!(store.cursors().unwrap(), [("s".to_owned(), 6)].into());
    let items = [Item::Events { shim: s, rows: vec![gap(3), row(10, "a")] }];
    store.write(&items, &LIMITS, 7).unwrap();
    assert_eq!(stored(directory.path()).len(), 7);
    // The time of a gap is that of the events around it; here the order is that of the times.
    let gaps = stored(directory.path()).iter().filter_map(|(_, lost)| *lost).sum::<u64>();
    assert_eq!(gaps, 5);
}

/// Check that every request is answered in the order of an index: sorting would take as long as
/// all events take, and hold a transaction of that length.
#[test]
fn no_request_sorts() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let mut store = Store::open(&path, &LIMITS, 7).unwrap();
    for number in 0..40 {
        let rows = (1..50).map(|seq| row(seq, &format!("c{}", number % 20))).collect();
        let items = [Item::Events { shim: shim(&format!("s{number}")), rows }];
        store.write(&items, &LIMITS, 7).unwrap();
    }
    let filters = vec![
        Filter { types: vec!["process.*".into()], failures: true, ..Default::default() },
        Filter { executable: "sh".into(), container_id: "c1".into(), ..Default::default() },
    ];
    for (namespace, container_id, index) in [
        ("", "", "events_by_time"),
        ("", "c1", "events_by_container"),
        ("default", "", "events_by_time"),
    ] {
        let request = HistoryEventsRequest {
            filters: filters.clone(),
            namespace: namespace.into(),
            container_id: container_id.into(),
            ..Default::default()
        };
        let connection = schema::open_for_reading(&path).unwrap();
        let query = Query::new(connection, request, LIMITS).unwrap();
        for plan in query.plans().unwrap() {
            assert!(!plan.contains("TEMP B-TREE FOR ORDER BY"), "{plan}");
            assert!(plan.contains(index), "{plan}");
        }
    }
}

/// Check that the queue takes no more rows than fit, that it takes the end of a shim all the same,
/// and that it is emptied after it was stopped.
#[test]
fn a_full_queue_refuses_rows_and_no_end_of_a_shim() {
    let queue = Queue::default();
    let s = shim("s");
    let big = || Row { event: vec![0; 1 << 20], ..row(1, "a") };
    let taken = (0..100).filter(|_| queue.push_rows(&s, vec![big()])).count();
    assert_eq!(taken, 15);
    let end = super::queue::ShimEnd { shim: s, last_seq: 1, is_complete: true, time_ns: 0 };
    queue.push_end(end);
    queue.stop();
    let items: Vec<Item> = std::iter::from_fn(|| queue.take()).flatten().collect();
    assert_eq!(items.len(), 16);
    assert!(matches!(items.last(), Some(Item::Ended(_))));
}
