use proptest::prelude::*;

use super::*;
use crate::model::{Backend, Grade, Origin};

fn process(pid: i32, args: usize) -> Arc<Process> {
    let image = Image { args: Some(Args::from_nul_separated(&vec![b'x'; args])), ..Image::default() };
    Arc::new(Process {
        key: ProcessKey { pid, start_ticks: 5 },
        vpid: Some(2),
        parent_pid: 1,
        parent: None,
        image: Arc::new(image),
        origin: Origin::Descendant,
        exec_id: None,
        cgroup: None,
    })
}

fn told(process: Arc<Process>, kind: u8) -> Event {
    let body = match kind {
        0 => Body::Start(process),
        1 => Body::Exit { process, ended: Some(Ended::Code(3)), oom_killed: false },
        _ => Body::Done { process, after_exit_ns: 9 },
    };
    Event { monotonic_ns: 1, realtime_ns: 2, grade: Grade::Exact, source: Backend::Mock, container: None, body }
}

proptest! {
    /// Check that what is written again is what would be written anew: of processes whose pids share a place, that
    /// change in between, and whose arguments are too long to be kept.
    #[test]
    fn what_is_kept_is_what_would_be_written(steps in proptest::collection::vec((0..200i32, 0..3u8, any::<bool>()), 1..200)) {
        let identity = Identity { shim_id: "pod".into(), epoch: "e1".into(), boot: 7 };
        let encoder = Encoder::new(&identity, Clock { boot_realtime_ns: 0 });
        let mut processes: Vec<_> = (1..=200i32).map(|pid| process(pid, usize::from(pid % 5 == 0) * 600)).collect();
        let mut recent = Recent::default();
        for (seq, (which, kind, changes)) in (1..).zip(steps) {
            let process = &mut processes[usize::try_from(which).unwrap_or(0)];
            if changes {
                Arc::make_mut(process).exec_id = Some(seq.to_string().into());
            }
            let event = told(process.clone(), kind);
            let (mut again, mut anew) = (Vec::new(), Vec::new());
            encoder.event(seq, &event, &mut recent, &mut again);
            encoder.event(seq, &event, &mut Recent::default(), &mut anew);
            prop_assert_eq!(again, anew);
        }
    }
}
