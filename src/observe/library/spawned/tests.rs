use super::*;

/// Check that a signal is told as a negative code, and that the end wakes who waits.
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
        let told = ended.join().unwrap();
        assert_eq!(
            told.map(|event| event.map(|event| (event.what, event.pid))),
            [Some((Lifecycle::Started, pid)), Some((Lifecycle::Exited { code: -9 }, pid)), None]
        );
    });
}

/// Check that a subscriber that is dropped hinders neither a wait nor another spawn.
#[test]
fn a_dropped_subscriber_hinders_nobody() {
    let (mut child, subscriber) =
        ObserverConfig::lifecycle().spawn(&mut Command::new("true")).unwrap();
    drop(subscriber);
    assert!(child.wait().unwrap().success());
}

/// Check that nothing is observed that was not asked for.
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
