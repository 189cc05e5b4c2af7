//! Causes: facts that are processed before the records that follow them.

use std::{os::unix::ffi::OsStrExt as _, sync::Arc};

use super::{
    super::message::{Cause, Created, Serial},
    Actor,
};
use crate::{
    clock::monotonic_ns,
    config::Settings,
    linux::{
        cgroup::{self, CgroupLocation},
        process,
    },
    model::{
        Annotation, Args, Backend, Body, Container, Description, Gap, Grade, ProcessId, ProcessKey,
        Stage,
    },
    observe::{
        record::TargetId,
        redact::{REDACTED, Redactor},
        source::{PidNamespace, Target},
    },
};

impl Actor {
    pub(super) fn apply_cause(&mut self, cause: Cause) {
        match cause {
            Cause::Created(created) => self.created(*created),
            Cause::CallBegan { serial, call, exec_id } => {
                if let Some(id) = self.targets.get(&serial) {
                    self.pipeline.tracker.call_began(*id, call, exec_id, monotonic_ns());
                }
            }
            Cause::RuntimeExec { serial, exec_id, pid } => {
                if let Some(id) = self.targets.get(&serial) {
                    self.pipeline.tracker.runtime_exec(*id, &exec_id, pid);
                    // The tracker must know this now, because the exec may start, exit and be done
                    // in the next batch of records.
                    self.pipeline.tracker.expect_output_end(*id, &ProcessId::Exec(exec_id));
                }
            }
            Cause::ExecStarted { serial, exec_id, pid } => {
                if let Some(id) = self.targets.get(&serial) {
                    self.pipeline.tracker.exec_started(*id, &exec_id, pid);
                    self.pipeline.exec_started(*id, &exec_id);
                }
            }
        }
    }

    fn created(&mut self, created: Created) {
        let Created {
            serial,
            container,
            settings,
            init,
            restored,
            owns_pid_namespace,
            target,
            runtime,
            input,
            watched,
        } = created;
        // A restored container runs already. Init may also run if the create request no longer
        // waits for the observation.
        let late = restored || watched.is_closed();
        let pid_namespace = owns_pid_namespace.then(|| PidNamespace::of(init)).flatten();
        let name = container.id.clone();
        let id = self.observe(serial, container, &settings, init, pid_namespace, late);
        if let Some(id) = id {
            let _ = target.set(id);
            if restored {
                self.pipeline.tracker.init_may_run(id);
            }
            self.pipeline.tracker.set_runtime_path(id, runtime.as_os_str().as_bytes());
            self.pipeline.watch_ports(id, init, &name, late);
            self.pipeline.watch_idle(id, settings.idle_after, input);
        }
        // The create request may have stopped waiting since `late` was computed.
        if watched.send(()).is_err() && !late {
            id.into_iter().for_each(|id| self.report_late_start(id));
        }
    }

    /// Begins to observe a container. `late` says that its program may run already. Returns `None`
    /// if the container cannot be observed, which is then reported.
    fn observe(
        &mut self,
        serial: Serial,
        mut container: Container,
        settings: &Settings,
        init: i32,
        pid_namespace: Option<PidNamespace>,
        late: bool,
    ) -> Option<TargetId> {
        let began_ns = monotonic_ns();
        // Before anything of the container is reported.
        let redactor = redactor(settings);
        redact_annotations(&mut container.description, &redactor);
        let location = match CgroupLocation::of_process(init) {
            Ok(location) => location,
            Err(error) => {
                tracing::warn!(
                    id = container.id,
                    %error,
                    "failed to find the container's cgroup; it is not observed"
                );
                self.report_unobserved(serial, Arc::new(container), init, began_ns);
                return None;
            }
        };
        container.cgroup = location.path;
        let members = cgroup::members_by_cgroup(&location.directory).unwrap_or_default();
        let container = Arc::new(container);
        // Without a cgroup id (cgroup v1) the target gets one with the top bit set, which no id of
        // a cgroup has.
        let target_id = location.id.map_or_else(TargetId::unique, TargetId);
        let target = Target::Cgroup { path: location.directory, pid_namespace };
        let args_max = usize::try_from(settings.argv_max).unwrap_or(usize::MAX);
        if let Err(error) =
            self.pipeline.watch(target_id, target, Some(init), Some(redactor), args_max)
        {
            tracing::warn!(
                id = container.id,
                error = crate::model::chain(&error),
                "the source refused the container; it is not observed"
            );
            self.report_unobserved(serial, container, init, began_ns);
            return None;
        }
        self.targets.insert(serial, target_id);
        self.containers.insert(target_id, container);
        self.pipeline.tracker.expect_output_end(target_id, &ProcessId::Init);
        let init = process::identify(init).unwrap_or(ProcessKey { pid: init, start: None });
        self.pipeline.emit(target_id, began_ns, Body::ContainerStart { init });
        if late {
            self.report_late_start(target_id);
        } else if self.pipeline.backend() != Backend::Bpf {
            // No record was missed yet, but sources other than `bpf` do not count the records that
            // they lose.
            let gap = Gap { lost: None, stage: Stage::Kernel, from_ns: began_ns, to_ns: began_ns };
            self.pipeline.emit(target_id, began_ns, Body::Gap(gap));
        } else if members.iter().any(|(pid, _)| *pid != init.pid) {
            // A hook of the create has left a process in the container.
            self.pipeline.request_scan(target_id);
        }
        Some(target_id)
    }

    /// Reports a gap at the beginning of a container that may have run its program before it was
    /// observed, and scans for its living processes.
    fn report_late_start(&mut self, id: TargetId) {
        self.pipeline.report_missing(id);
        self.pipeline.request_scan(id);
    }

    /// Reports a container that cannot be observed: its start and a gap of unknown size. Its end
    /// follows when it is deleted.
    fn report_unobserved(
        &mut self,
        serial: Serial,
        container: Arc<Container>,
        init: i32,
        at_ns: u64,
    ) {
        let init = process::identify(init).unwrap_or(ProcessKey { pid: init, start: None });
        let gap = Gap { lost: None, stage: Stage::Source, from_ns: at_ns, to_ns: at_ns };
        for body in [Body::ContainerStart { init }, Body::Gap(gap)] {
            self.push_event(Some(container.clone()), at_ns, Grade::Exact, Backend::Shim, body);
        }
        self.shared.event_log.append(&mut self.events);
        self.unobserved.insert(serial, container);
    }
}

/// The redactor with the built-in rules and the patterns of the settings. An invalid pattern is
/// logged and left out.
fn redactor(settings: &Settings) -> Arc<Redactor> {
    let (redactor, refused) = Redactor::of_valid(settings.redact_mode, &settings.redact);
    for error in refused {
        tracing::warn!(error = crate::model::chain(&error), "a redaction pattern is ignored");
    }
    Arc::new(redactor)
}

/// Replaces the secrets in the annotations, as if each were an argument `KEY=VALUE`.
fn redact_annotations(description: &mut Description, redactor: &Redactor) {
    for Annotation { key, value } in &mut description.annotations {
        let text = Args::from_nul_separated(format!("{key}={value}\0").as_bytes());
        let redacted = redactor.redact(text);
        if redacted.redacted {
            let text = String::from_utf8_lossy(&redacted.bytes);
            let of = |text: &str| Some(text.strip_prefix(&format!("{key}="))?.to_owned());
            *value = of(text.trim_end_matches('\0')).unwrap_or_else(|| REDACTED.to_owned());
        }
    }
}
