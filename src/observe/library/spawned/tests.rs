use super::*;

/// Check that a signal is reported as a negative code, and that the end wakes a waiting subscriber.
#[test]
fn a_signal_is_a_negative_code() {
    let (mut child, subscriber) =
        ObserverConfig::lifecycle().spawn(Command::new("sleep").arg("100")).unwrap();
    let subscriber = subscriber.unwrap();
    let pid = child.id();
    std::thread::scope(|scope| {
        let ended = scope.spawn(|| {
            let second = Duration::from_secs(10);
            [subscriber.recv(second), subscriber.recv(second), subscriber.recv(second)]
        });
        child.child().kill().unwrap();
        child.wait().unwrap();
        let received = ended.join().unwrap();
        assert_eq!(
            received.map(|event| event.map(|event| (event.what, event.pid))),
            [Some((Lifecycle::Started, pid)), Some((Lifecycle::Exited { code: -9 }, pid)), None]
        );
    });
}

/// Check that a dropped subscriber does not affect the wait.
#[test]
fn a_dropped_subscriber_does_not_affect_the_wait() {
    let (mut child, subscriber) =
        ObserverConfig::lifecycle().spawn(&mut Command::new("true")).unwrap();
    drop(subscriber);
    assert!(child.wait().unwrap().success());
}

/// Check that only the selected categories are observed.
#[test]
fn nothing_is_observed_by_default() {
    let config = ObserverConfig::default();
    assert!(Category::ALL.iter().all(|category| !config.observes(*category)));
    let network = config.with_categories([Category::Network]);
    assert!(network.observes(Category::Network) && !network.observes(Category::Lifecycle));
    let (mut child, subscriber) = network.spawn(&mut Command::new("true")).unwrap();
    assert!(subscriber.is_none(), "no events of a category that a child is not observed for");
    child.wait().unwrap();
}
