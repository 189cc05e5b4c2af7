//! Answers requests for the history: reads a page on another thread, sends it, and reads the next
//! one when the client has taken it.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::{sync::SemaphorePermit, task::spawn_blocking, time::timeout};
use ttrpc::{Code, r#async::ServerStreamSender};

use super::{
    History,
    containers::ContainerQuery,
    filter,
    lookup::Page,
    query::Query,
    schema::{self, Problem},
};
use crate::{
    api::{
        Event, HistoryContainer, HistoryContainersRequest, HistoryContainersResponse,
        HistoryEventsRequest, HistoryEventsResponse, HistoryState,
    },
    clock::realtime_ns,
    model::chain,
};

/// How long a request waits until fewer others are answered.
const WAIT: Duration = Duration::from_secs(10);

/// How long a client may take to receive one message. Until then it keeps others from being
/// answered.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// A request that is answered page by page.
pub(super) trait Pages: Send + Sized + 'static {
    type Row: Send + 'static;
    type Response: protobuf::Message;

    /// Reads the next page. It can be empty although it is not the last one.
    fn next_page(&mut self, now_ns: u64) -> Result<Page<Self::Row>, Problem>;

    fn response(state: HistoryState, rows: Vec<Self::Row>) -> Self::Response;
}

impl Pages for Query {
    type Row = Event;
    type Response = HistoryEventsResponse;

    fn next_page(&mut self, now_ns: u64) -> Result<Page<Event>, Problem> {
        self.read_page(now_ns)
    }

    fn response(state: HistoryState, events: Vec<Event>) -> HistoryEventsResponse {
        HistoryEventsResponse { state: Some(state).into(), events, ..Default::default() }
    }
}

impl Pages for ContainerQuery {
    type Row = HistoryContainer;
    type Response = HistoryContainersResponse;

    fn next_page(&mut self, now_ns: u64) -> Result<Page<HistoryContainer>, Problem> {
        self.read_page(now_ns)
    }

    fn response(
        state: HistoryState,
        containers: Vec<HistoryContainer>,
    ) -> HistoryContainersResponse {
        HistoryContainersResponse { state: Some(state).into(), containers, ..Default::default() }
    }
}

/// Answers a request for events. `history` is `None` if it is off.
///
/// # Errors
///
/// The status of a request that is refused, or of an answer that breaks off.
pub async fn answer_events(
    history: Option<&History>,
    request: HistoryEventsRequest,
    sender: &ServerStreamSender<HistoryEventsResponse>,
) -> ttrpc::Result<()> {
    filter::check(&request.filters, request.tail)
        .map_err(|why| status(Code::INVALID_ARGUMENT, why.to_string()))?;
    answer::<Query>(history, sender, move |history| {
        let connection = schema::open_for_reading(&history.shared.path)?;
        Query::new(connection, request, history.shared.limits)
    })
    .await
}

/// Answers a request for containers, likewise.
///
/// # Errors
///
/// As for [`answer_events`].
pub async fn answer_containers(
    history: Option<&History>,
    request: HistoryContainersRequest,
    sender: &ServerStreamSender<HistoryContainersResponse>,
) -> ttrpc::Result<()> {
    answer::<ContainerQuery>(history, sender, move |history| {
        let connection = schema::open_for_reading(&history.shared.path)?;
        Ok(ContainerQuery::new(connection, request, history.shared.limits))
    })
    .await
}

async fn answer<Q: Pages>(
    history: Option<&History>,
    sender: &ServerStreamSender<Q::Response>,
    open: impl FnOnce(&History) -> Result<Q, Problem> + Send + 'static,
) -> ttrpc::Result<()> {
    let Some(history) = history else {
        let unavailable = "the history is off: `history_size` is 0".to_owned();
        let state = HistoryState { unavailable, ..Default::default() };
        return send(sender, Q::response(state, Vec::new())).await;
    };
    history.opened().await;
    let _permit = history.permit().await?;
    let (opened, file) = (history.clone(), history.shared.files.load(Ordering::Relaxed));
    let mut query = match run_blocking(move || open(&opened)).await? {
        Ok(query) => query,
        Err(problem) => {
            let state = history.unreadable(&problem, file);
            return send(sender, Q::response(state, Vec::new())).await;
        }
    };
    loop {
        let read = run_blocking(move || {
            let page = query.next_page(realtime_ns());
            (query, page)
        });
        let (again, page) = read.await?;
        query = again;
        let page = page.map_err(|problem| {
            history.note_problem(&problem, file);
            status(Code::DATA_LOSS, chain(&problem))
        })?;
        let complete_since_ns = page.complete_since_ns;
        let state = HistoryState { complete_since_ns, ..history.state() };
        // An empty message is sent as well: that fails if the client has gone.
        send(sender, Q::response(state, page.rows)).await?;
        if page.is_last {
            return Ok(());
        }
    }
}

impl History {
    async fn permit(&self) -> ttrpc::Result<SemaphorePermit<'_>> {
        let busy = || status(Code::UNAVAILABLE, "too many requests for the history".to_owned());
        let permit = timeout(WAIT, self.shared.readers.acquire()).await.map_err(|_| busy())?;
        permit.map_err(|_| busy())
    }

    /// The state of the history now, without the time since which it is complete.
    fn state(&self) -> HistoryState {
        let unavailable = self.shared.lock_unavailable().clone().unwrap_or_default();
        HistoryState { unavailable, ..Default::default() }
    }

    /// The state of a history that cannot be read.
    fn unreadable(&self, problem: &Problem, file: u64) -> HistoryState {
        self.note_problem(problem, file);
        let mut state = self.state();
        if state.unavailable.is_empty() {
            state.unavailable = chain(problem);
        }
        state
    }

    /// Makes the writer set a damaged file aside, unless it has done so since the answer began:
    /// `file` is how many it had set aside then.
    fn note_problem(&self, problem: &Problem, file: u64) {
        if matches!(problem, Problem::Damaged(_)) {
            self.shared.damaged_files.fetch_max(file + 1, Ordering::Relaxed);
        }
    }
}

async fn send<T: protobuf::Message>(
    sender: &ServerStreamSender<T>,
    message: T,
) -> ttrpc::Result<()> {
    let slow = || status(Code::DEADLINE_EXCEEDED, "the client does not read the answer".to_owned());
    timeout(SEND_TIMEOUT, sender.send(&message)).await.map_err(|_| slow())?
}

async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> ttrpc::Result<T> {
    spawn_blocking(work).await.map_err(|error| {
        status(Code::INTERNAL, format!("reading the history on another thread failed: {error}"))
    })
}

fn status(code: Code, message: String) -> ttrpc::Error {
    ttrpc::Error::RpcStatus(ttrpc::get_status(code, message))
}
