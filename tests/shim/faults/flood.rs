//! Many requests at once, and many in a row.

use std::time::{Duration, Instant};

use crate::harness::{Node, deadline};

/// Check that fifty execs at once take no longer than the runtime needs for them (moby#45595).
#[test]
fn fifty_execs_at_once_do_not_wait_for_each_other() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    let hold = node.runtime().hold("exec");
    let execs: Vec<_> = (0..50)
        .map(|number| {
            shim.in_background(move |task| {
                let exec_id = format!("e{number}");
                task.exec("web", &exec_id)?;
                task.start("web", &exec_id)
            })
        })
        .collect();
    // All fifty wait in their runtimes before the first may continue.
    node.runtime().wait_for_calls("exec", 50);
    let begin = Instant::now();
    hold.release();
    for exec in execs {
        exec.join().unwrap().unwrap();
    }
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

/// Check that hundreds of execs with clients that give up do not impair the shim (measured: the
/// stock shim of 1.6 wedges).
#[test]
fn execs_whose_clients_give_up_leave_no_trace() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let shim = node.shim(&bundle);
    shim.run(&bundle);
    let hold = node.runtime().hold("exec");
    let impatient = shim.reconnect().with_deadline(Duration::from_millis(200));
    let execs: Vec<_> = (0..60)
        .map(|number| {
            let exec_id = format!("e{number}");
            shim.exec("web", &exec_id).unwrap();
            impatient.in_background(move |task| task.start("web", &exec_id))
        })
        .collect();
    for exec in execs {
        assert!(exec.join().unwrap().unwrap_err().is_late());
    }
    hold.release();
    for number in 0..60 {
        let exec_id = format!("e{number}");
        deadline::until("the start", || shim.state("web", &exec_id).unwrap().pid > 0);
        shim.kill("web", &exec_id, 9).unwrap();
        shim.wait("web", &exec_id).unwrap();
        shim.delete("web", &exec_id).unwrap();
    }
    shim.run_exec("web", "after");
    shim.remove("web");
}

/// Check that thirty short pods leave no socket, process or file behind (containerd#5173,
/// containerd#11708).
#[test]
fn short_lives_leave_nothing_behind() {
    let node = Node::new();
    let _daemon = node.daemon();
    for number in 0..30 {
        let bundle = node.bundle(&format!("c{number}"));
        let shim = node.shim(&bundle);
        node.runtime().payload(&bundle.id, "exit 0");
        shim.run(&bundle);
        shim.wait(&bundle.id, "").unwrap();
        shim.delete(&bundle.id, "").unwrap();
        if number % 3 == 0 {
            shim.process.kill();
            shim.wait_for_exit(deadline::PATIENCE);
            crate::harness::delete(&node, &bundle);
        } else {
            shim.shut_down();
        }
    }
    assert_eq!(node.sockets(), Vec::<String>::new());
    node.wait_until_empty();
}

/// Check that memory does not grow with finished work: 400 execs, and ten containers
/// (containerd#9217).
#[test]
fn memory_does_not_grow_with_finished_execs_and_containers() {
    let node = Node::new();
    let bundle = node.bundle("web");
    let _daemon = node.daemon();
    // The journal of events has a limit of its own, which the first execs must reach: its growth
    // would hide that of everything else.
    let shim = node.start_verb(&bundle).env("LOOKOUT_JOURNAL_MAX", "65536").shim();
    node.runtime().payload("probe", "exit 0");
    shim.run(&bundle);
    let execs = |count: usize| {
        for _ in 0..count {
            shim.run_exec("web", "probe");
            shim.wait("web", "probe").unwrap();
            shim.delete("web", "probe").unwrap();
        }
        shim.process.resident_kib()
    };
    let before = execs(100);
    let after = execs(400);
    assert!(after < before + 512, "from {before} kB to {after} kB");
}
