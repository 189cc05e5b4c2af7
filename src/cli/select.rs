//! Finds the containers that a command shows, by the names that a person has for them.

use futures::future::join_all;

use super::{
    args::ContainerOptions,
    description::{Label, is_image},
    exit::{Exit, Failure},
    history::{self, HistoryReader, Past},
    shim_set::{ShimSet, live_registrations},
    unobserved,
};
use crate::{
    api::{Container, Event, Filter, event::Body},
    client::{EventFollower, FollowOptions, FollowStep, Registration, Shim, ShimError},
};

/// How many containers an error names that could be meant.
const NAMED_MAX: usize = 5;

/// How well a text names a container; the best match is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Match {
    Id,
    Name,
    Prefix,
}

/// What the options of a command ask for.
#[derive(Debug, Clone, Default)]
struct Wanted {
    container: Option<String>,
    namespace: Option<String>,
    pod: Option<String>,
    k8s_namespace: Option<String>,
    image: Option<String>,
    labels: Vec<Label>,
}

impl Wanted {
    fn of(options: &ContainerOptions) -> Self {
        Self {
            container: options.container().map(str::to_owned),
            namespace: options.namespace.clone(),
            pod: options.pod.clone(),
            k8s_namespace: options.k8s_namespace.clone(),
            image: options.image.clone(),
            labels: options.labels.clone(),
        }
    }

    /// Whether every container of the node is wanted, or of one containerd namespace, which is
    /// chosen with the shims.
    fn is_all(&self) -> bool {
        self.container.is_none() && !self.is_by_description()
    }

    /// Whether containers are wanted by what their configurations say, which several can share.
    fn is_by_description(&self) -> bool {
        let Self { container: _, namespace: _, pod, k8s_namespace, image, labels } = self;
        pod.is_some() || k8s_namespace.is_some() || image.is_some() || !labels.is_empty()
    }

    /// How the options match a container; `None` if they do not.
    fn matches(&self, container: &Container) -> Option<Match> {
        let k8s = container.k8s.as_ref();
        let is_in = |wanted: &str| k8s.is_some_and(|k8s| k8s.namespace == wanted);
        let is_of = |wanted: &str| {
            k8s.is_some_and(|k8s| {
                k8s.pod_name == wanted || format!("{}/{}", k8s.namespace, k8s.pod_name) == wanted
            })
        };
        let is_selected = self.namespace.as_ref().is_none_or(|one| *one == container.namespace)
            && self.k8s_namespace.as_deref().is_none_or(is_in)
            && self.pod.as_deref().is_none_or(is_of)
            && self.image.as_deref().is_none_or(|wanted| is_image(&container.image, wanted))
            && self.labels.iter().all(|label| label.is_of(container));
        match &self.container {
            _ if !is_selected => None,
            None => Some(Match::Id),
            Some(text) => match_of(container, text),
        }
    }
}

/// How a text names a container; `None` if it does not.
fn match_of(container: &Container, text: &str) -> Option<Match> {
    if container.id == text {
        return Some(Match::Id);
    }
    let mut names = vec![format!("{}/{}", container.namespace, container.id)];
    if !container.name.is_empty() {
        let (namespace, name) = (&container.namespace, &container.name);
        names.extend([name.clone(), format!("{namespace}/{name}")]);
    }
    if let Some(k8s) = container.k8s.as_ref().filter(|k8s| !k8s.pod_name.is_empty()) {
        let (namespace, pod) = (&k8s.namespace, &k8s.pod_name);
        names.extend([pod.clone(), format!("{namespace}/{pod}")]);
        if !k8s.container_name.is_empty() {
            let name = &k8s.container_name;
            names.extend([format!("{pod}/{name}"), format!("{namespace}/{pod}/{name}")]);
        }
    }
    if names.iter().any(|name| name == text) {
        return Some(Match::Name);
    }
    (!text.is_empty() && container.id.starts_with(text)).then_some(Match::Prefix)
}

/// The containers of which a command shows events, and whether a gap has concerned them.
#[derive(Debug, Default)]
pub(super) struct Scope {
    wanted: Wanted,
    /// The containers that exist already.
    found: Vec<Container>,
    /// Whether containers that begin later belong to it.
    is_open: bool,
    pub(super) has_gap: bool,
}

impl Scope {
    /// Whether an event is of a container in the scope. Needed because a shim sends the gaps of all
    /// its containers. Also records that a gap in the scope was seen.
    pub(super) fn includes(&mut self, event: &Event) -> bool {
        // A gap without a container may concern any container, so it belongs to every scope.
        let is_included = event.container.as_ref().is_none_or(|of| self.has(of));
        self.has_gap |= is_included && matches!(event.body, Some(Body::Gap(_)));
        is_included
    }

    /// Whether a container is in the scope.
    pub(super) fn has(&self, container: &Container) -> bool {
        if self.wanted.is_all() {
            return true;
        }
        let is_found =
            |one: &Container| one.id == container.id && one.namespace == container.namespace;
        let is_new = || match self.wanted.matches(container) {
            Some(Match::Id | Match::Name) => true,
            // A prefix that already has its container means no other one.
            Some(Match::Prefix) => self.found.is_empty(),
            None => false,
        };
        self.found.iter().any(is_found) || (self.is_open && is_new())
    }

    /// The id of the only container of the scope, which a shim can be asked for; `None` if there
    /// are several, or may be.
    pub(super) fn only_id(&self) -> Option<&str> {
        let (first, rest) = self.found.split_first()?;
        let is_only = rest.iter().all(|one| one.id == first.id);
        // A pod can get further containers.
        let is_closed = !self.is_open || self.wanted.container.is_some();
        (is_only && is_closed && !self.wanted.is_all()).then_some(first.id.as_str())
    }

    /// What the daemon's history has of the scope, at any time.
    pub(super) fn past(&self, filters: &[Filter]) -> Past {
        Past {
            filters: filters.to_vec(),
            namespace: self.wanted.namespace.clone(),
            container: self.only_id().map(str::to_owned),
            ..Past::default()
        }
    }

    /// Asks the daemon's history for the events of the containers that were found; `None` if all
    /// containers are wanted, of which the journals are enough, or if there is no history.
    pub(super) async fn open_past(
        &self,
        filters: &[Filter],
        is_quiet: bool,
    ) -> Option<HistoryReader> {
        match self.found.is_empty() {
            true => None,
            false => HistoryReader::open(&self.past(filters), is_quiet).await,
        }
    }

    /// The containers that were found. Empty if all containers are wanted.
    pub(super) fn containers(&self) -> &[Container] {
        &self.found
    }
}

/// The shims of which a command shows events, and the containers. As for [`ShimSet::select`], but
/// if all containers are wanted, no shim is asked yet.
pub(super) async fn sources(
    options: &ContainerOptions,
    is_open: bool,
) -> Result<(Vec<Registration>, Scope), Failure> {
    let wanted = Wanted::of(options);
    if wanted.is_all() {
        let all = live_registrations(wanted.namespace.as_deref())?;
        return Ok((all, Scope { wanted, is_open, ..Scope::default() }));
    }
    let (set, mut scope) = match ShimSet::select(options, is_open).await {
        Ok(selected) => selected,
        Err(failure @ (Failure::NotFound(_) | Failure::Unobserved { .. })) => {
            return Ok((Vec::new(), ended(wanted, failure).await?));
        }
        Err(failure) => return Err(failure),
    };
    // A pod also has the containers that were started again.
    if scope.wanted.is_by_description() {
        let past = history::containers(options.namespace.as_deref()).await;
        let is_wanted = |one: &Container| scope.wanted.matches(one).is_some();
        let past: Vec<Container> =
            past.into_iter().filter(|one| is_wanted(one) && !scope.has(one)).collect();
        scope.found.extend(past);
    }
    Ok((set.shims.into_iter().map(|shim| shim.registration).collect(), scope))
}

/// The containers that have ended and are in the daemon's history; `failure` if there is none.
async fn ended(wanted: Wanted, failure: Failure) -> Result<Scope, Failure> {
    let past = history::containers(wanted.namespace.as_deref()).await;
    let found = best_matches(&wanted, past.into_iter().map(|one| (0, one)))?;
    if found.is_empty() {
        return Err(failure);
    }
    let found = found.into_iter().map(|(_, container)| container).collect();
    Ok(Scope { wanted, found, is_open: false, has_gap: false })
}

impl ShimSet {
    /// Connects to the shims that the options of a command select, and finds the containers.
    /// `is_open`: whether the command also shows containers that begin later; then it is no error
    /// if there is none yet.
    pub(super) async fn select(
        options: &ContainerOptions,
        is_open: bool,
    ) -> Result<(Self, Scope), Failure> {
        let is_quiet = options.display.quiet;
        let wanted = Wanted::of(options);
        let mut set = Self::connect_all(wanted.namespace.as_deref(), is_quiet).await?;
        if wanted.is_all() {
            return Ok((set, Scope { wanted, is_open, ..Scope::default() }));
        }
        let shims = std::mem::take(&mut set.shims);
        // Most often the complete id of a running container is given, of which each shim knows at
        // once whether it has it. Otherwise their journals are read.
        let mut known = containers_with_processes(&shims, &wanted).await;
        if !known.iter().flatten().any(|containers| !containers.is_empty()) {
            known = join_all(shims.iter().map(all_containers)).await;
        }
        let mut known_at: Vec<(usize, Container)> = Vec::new();
        for (at, answer) in known.into_iter().enumerate() {
            match answer {
                Ok(containers) => known_at.extend(containers.into_iter().map(|one| (at, one))),
                Err(error) => set.report_unreachable(error, is_quiet),
            }
        }
        let found = best_matches(&wanted, known_at.into_iter())?;
        if found.is_empty() {
            match set.not_found(&wanted).await {
                // The container may start later. One that runs already and is not observed never
                // has events.
                Failure::NotFound(_) | Failure::Unreachable(_) if is_open => {}
                failure => return Err(failure),
            }
        }
        if !found.is_empty() {
            // The containers were found, so the shims that did not answer do not matter.
            set.has_failed = false;
        }
        let has_one = |at: usize| found.iter().any(|(shim, _)| *shim == at);
        let mut at = 0..;
        set.shims = shims;
        set.shims.retain(|_| at.next().is_some_and(has_one));
        let found = found.into_iter().map(|(_, container)| container).collect();
        Ok((set, Scope { wanted, found, is_open, has_gap: false }))
    }

    /// The error if no container was found.
    async fn not_found(&self, wanted: &Wanted) -> Failure {
        let text = match wanted {
            Wanted { container: Some(name), .. } => name.clone(),
            Wanted { pod: Some(pod), .. } => format!("of pod {pod}"),
            Wanted { k8s_namespace: Some(namespace), .. } => {
                format!("in Kubernetes namespace {namespace}")
            }
            Wanted { image: Some(image), .. } => format!("of image {image}"),
            Wanted { .. } => "with these labels".to_owned(),
        };
        match self.has_failed {
            true => Failure::Unreachable(anyhow::anyhow!(
                "container {text} not found, but not all shims answered"
            )),
            false if wanted.container.is_some() => unobserved::explain(&text).await,
            false => Failure::NotFound(text),
        }
    }

    pub(super) fn exit_status(&self) -> Exit {
        if self.has_failed { Exit::Unreachable } else { Exit::Ok }
    }
}

/// The containers that the options match best, each with the number that it came with.
fn best_matches(
    wanted: &Wanted,
    known: impl Iterator<Item = (usize, Container)>,
) -> Result<Vec<(usize, Container)>, Failure> {
    let matched = known.filter_map(|(at, one)| Some((wanted.matches(&one)?, (at, one))));
    let mut matched: Vec<(Match, (usize, Container))> = matched.collect();
    let best = matched.iter().map(|(matched, _)| *matched).min();
    matched.retain(|(matched, _)| Some(*matched) == best);
    let found: Vec<(usize, Container)> = matched.into_iter().map(|(_, one)| one).collect();
    if best == Some(Match::Prefix) {
        refuse_ambiguous(wanted.container.as_deref().unwrap_or_default(), &found)?;
    }
    Ok(found)
}

/// Refuses a prefix that several containers have.
fn refuse_ambiguous(text: &str, found: &[(usize, Container)]) -> Result<(), Failure> {
    let mut ids: Vec<&str> = found.iter().map(|(_, one)| one.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() < 2 {
        return Ok(());
    }
    let more = if ids.len() > NAMED_MAX { ", …" } else { "" };
    let named = ids.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
    Err(Failure::Ambiguous(format!(
        "{} containers have an id that begins with {text}: {named}{more}",
        ids.len()
    )))
}

/// The answer of each shim, which is the container with exactly the id that is wanted, if it has a
/// living process. Empty if more than the id is wanted.
async fn containers_with_processes(
    shims: &[Shim],
    wanted: &Wanted,
) -> Vec<Result<Vec<Container>, ShimError>> {
    let Some(id) = wanted.container.as_ref().filter(|_| !wanted.is_by_description()) else {
        return Vec::new();
    };
    join_all(shims.iter().map(|shim| async move {
        let found = container_with_processes(shim, id).await?;
        Ok(found.into_iter().collect())
    }))
    .await
}

/// The containers that a shim observes or has events of, with their names.
async fn all_containers(shim: &Shim) -> Result<Vec<Container>, ShimError> {
    let mut known: Vec<Container> = Vec::new();
    let mut add = |container: Container| {
        if !known.iter().any(|one| one.id == container.id) {
            known.push(container);
        }
    };
    // A container that began long ago has no event in the journal any more, and one that has ended
    // has no process.
    for event in container_events(shim).await? {
        match event.body {
            Some(Body::Hello(hello)) => hello.containers.into_iter().for_each(&mut add),
            _ => event.container.into_option().into_iter().for_each(&mut add),
        }
    }
    match shim.processes("").await {
        Ok(answer) => {
            let of = answer.processes.into_iter().filter_map(|one| one.container.into_option());
            of.for_each(&mut add);
        }
        Err(error) if error.is_answer() => {}
        Err(error) => return Err(error),
    }
    // The id of a shim is the id of its first container, also if the shim observes nothing.
    let (namespace, id) = (shim.registration.namespace.clone(), shim.registration.id.clone());
    add(Container { namespace, id, ..Container::default() });
    Ok(known)
}

async fn container_with_processes(shim: &Shim, id: &str) -> Result<Option<Container>, ShimError> {
    match shim.processes(id).await {
        Ok(answer) => {
            let mut of = answer.processes.into_iter().filter_map(|one| one.container.into_option());
            Ok(of.find(|container| container.id == id))
        }
        // The shim answers with an error if the container has no live process, or if it does not
        // observe the container.
        Err(error) if error.is_answer() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The greeting of a shim, and the beginnings and ends of containers in its journal.
async fn container_events(shim: &Shim) -> Result<Vec<Event>, ShimError> {
    let filter = Filter { types: vec!["container.*".to_owned()], ..Default::default() };
    let wanted = FollowOptions { filters: vec![filter], ..Default::default() };
    let mut journal = EventFollower::new(shim.registration.clone(), wanted);
    let mut all = Vec::new();
    loop {
        match journal.next().await {
            FollowStep::Events(events) => all.extend(events),
            FollowStep::Broken(Some(error)) => return Err(error),
            FollowStep::End | FollowStep::Broken(None) => return Ok(all),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Kubernetes;

    fn container(id: &str, pod: &str, name: &str) -> Container {
        let k8s = (!pod.is_empty()).then(|| Kubernetes {
            namespace: "shop".into(),
            pod_name: pod.into(),
            container_name: name.into(),
            ..Default::default()
        });
        Container {
            namespace: "k8s.io".into(),
            id: id.into(),
            k8s: k8s.into(),
            ..Default::default()
        }
    }

    /// Check each form of a name.
    #[test]
    fn a_container_has_several_names() {
        let app = container("5f3a77", "web-0", "app");
        for (text, matched) in [
            ("5f3a77", Some(Match::Id)),
            ("k8s.io/5f3a77", Some(Match::Name)),
            ("web-0", Some(Match::Name)),
            ("web-0/app", Some(Match::Name)),
            ("shop/web-0", Some(Match::Name)),
            ("shop/web-0/app", Some(Match::Name)),
            ("5f", Some(Match::Prefix)),
            ("", None),
            ("web", None),
            ("app", None),
            ("default/5f3a77", None),
            ("f3a77", None),
        ] {
            assert_eq!(match_of(&app, text), matched, "{text}");
        }
        assert_eq!(match_of(&container("x", "", ""), ""), None);
    }

    /// Check the options that select by pod and by namespaces.
    #[test]
    fn the_options_restrict_each_other() {
        let app = container("5f3a77", "web-0", "app");
        let wanted = |pod: &str, k8s_namespace: &str, namespace: &str| {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            let (pod, k8s_namespace, namespace) = (some(pod), some(k8s_namespace), some(namespace));
            Wanted { namespace, pod, k8s_namespace, ..Wanted::default() }
        };
        let is_match = |one: Wanted| one.matches(&app).is_some();
        assert!(
            is_match(wanted("web-0", "", "")) && is_match(wanted("shop/web-0", "shop", "k8s.io"))
        );
        assert!(!is_match(wanted("web", "", "")) && !is_match(wanted("", "test", "")));
        assert!(!is_match(wanted("web-0", "", "default")));
        assert!(wanted("web-0", "", "").matches(&container("5f3a77", "", "")).is_none());
    }

    /// Check which later containers a command that follows shows.
    #[test]
    fn a_later_container_belongs_to_the_scope_if_its_name_fits() {
        let scope = |text: &str, found: Vec<Container>| Scope {
            wanted: Wanted { container: Some(text.to_owned()), ..Wanted::default() },
            found,
            is_open: true,
            has_gap: false,
        };
        let (old, new) = (container("5f3a77", "", ""), container("5f3a88", "web-0", "app"));
        assert!(scope("5f3", Vec::new()).has(&new));
        assert!(!scope("5f3", vec![old.clone()]).has(&new));
        assert!(scope("web-0", Vec::new()).has(&new) && !scope("web-0", Vec::new()).has(&old));
        assert!(!Scope { is_open: false, ..scope("web-0", vec![old]) }.has(&new));
    }

    /// Check that a prefix of two ids is refused with both, and one id of two namespaces is not.
    #[test]
    fn an_ambiguous_prefix_names_the_containers() {
        let found =
            |ids: &[&str]| -> Vec<_> { ids.iter().map(|id| (0, container(id, "", ""))).collect() };
        let error = refuse_ambiguous("5f", &found(&["5f3a", "5f3b"])).unwrap_err();
        assert!(error.to_string().contains("5f3a, 5f3b"), "{error}");
        assert!(refuse_ambiguous("5f", &found(&["5f3a", "5f3a"])).is_ok());
    }
}
