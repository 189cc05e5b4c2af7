//! The loop of `lookout top`: one message at a time changes the state, which is then drawn.

use std::{
    io,
    time::{Duration, Instant as Begun},
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    data::Change,
    keyboard::KeyDecoder,
    registered,
    screen::Screen,
    shims,
    state::{Effect, Message, State},
    usage,
};
use crate::{
    cli::{
        args::registry::{SelectOptions, TopArgs},
        clock::now_ns,
        exit::{Exit, Failure},
        output::Style,
        select::Scope,
        shim_set::ShimSet,
        stream::TerminationSignals,
    },
    model::{ProcessKey, chain},
    registry::kill::{SignalTarget, signal_processes},
};

/// How many changes may wait. If the channel is full, the shims are not read: each then drops
/// events, and reports a gap, after which its lists are asked for again.
const CHANNEL_CAPACITY: usize = 64;
/// The time between the first two samples of the usage, at most: then the first rates are shown.
const FIRST_INTERVAL: Duration = Duration::from_millis(500);
/// The least time between two frames, except after a key.
const FRAME: Duration = Duration::from_millis(100);
/// How long the rest of a key may take to arrive after its first byte.
const KEY_TIMEOUT: Duration = Duration::from_millis(50);

/// Shows the screen until a key or a signal ends it.
pub(in crate::cli) async fn run(args: TopArgs) -> Result<Exit, Failure> {
    let style = Style::for_stdout(args.common.display);
    let title = args.common.container().or(args.common.pod.as_deref()).unwrap_or_default();
    let state = State::new(title, args.sort, style, now_ns());
    let screen = Screen::enter().map_err(of_terminal)?;
    Session::new(args, state, screen)?.run().await
}

struct Session {
    args: TopArgs,
    state: State,
    screen: Screen,
    signals: Signals,
    decoder: KeyDecoder,
    sender: mpsc::Sender<Change>,
    changes: mpsc::Receiver<Change>,
    /// The tasks that send changes.
    sources: JoinSet<()>,
    /// Short work on threads that may block: reading usage, sending signals.
    work: JoinSet<Message>,
    begun: Begun,
    /// When the usage is read next.
    sample_at: Instant,
    samples: u64,
    is_sampling: bool,
    /// When the state is drawn, if it has changed.
    draw_at: Option<Instant>,
    drawn: Instant,
}

/// The signals that end, stop, continue or resize.
struct Signals {
    termination: TerminationSignals,
    hangup: Signal,
    stop: Signal,
    resume: Signal,
    resize: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::Other(error.into()));
        Ok(Self {
            termination: TerminationSignals::new()?,
            hangup: listen(SignalKind::hangup())?,
            stop: listen(SignalKind::from_raw(nix::libc::SIGTSTP))?,
            resume: listen(SignalKind::from_raw(nix::libc::SIGCONT))?,
            resize: listen(SignalKind::window_change())?,
        })
    }
}

impl Session {
    fn new(args: TopArgs, state: State, screen: Screen) -> Result<Self, Failure> {
        let (sender, changes) = mpsc::channel(CHANNEL_CAPACITY);
        Ok(Self {
            args,
            state,
            screen,
            signals: Signals::new()?,
            decoder: KeyDecoder::default(),
            sender,
            changes,
            sources: JoinSet::new(),
            work: JoinSet::new(),
            begun: Begun::now(),
            sample_at: Instant::now(),
            samples: 0,
            is_sampling: false,
            draw_at: None,
            drawn: Instant::now(),
        })
    }

    async fn run(mut self) -> Result<Exit, Failure> {
        let (width, height) = self.screen.size().map_err(of_terminal)?;
        self.update(Message::Resized { width, height });
        // The first frame comes before anything is asked for.
        self.draw()?;
        let args = self.args.clone();
        let mut finding = std::pin::pin!(find_scope(&args));
        let mut is_finding = true;
        loop {
            let is_key_pending = self.decoder.is_pending();
            let now = Instant::now();
            let effect = tokio::select! {
                biased;
                () = self.signals.termination.received() => Some(Effect::Quit),
                _ = self.signals.hangup.recv() => Some(Effect::Quit),
                _ = self.signals.stop.recv() => {
                    self.screen.suspend(false);
                    None
                }
                _ = self.signals.resume.recv() => {
                    self.screen.enter_again().map_err(of_terminal)?;
                    self.resize()?;
                    None
                }
                _ = self.signals.resize.recv() => {
                    self.resize()?;
                    None
                }
                bytes = self.screen.key_bytes() => self.press(&bytes),
                () = sleep_until(now + KEY_TIMEOUT), if is_key_pending => {
                    let key = self.decoder.flush();
                    self.draw_at = Some(now);
                    key.and_then(|key| self.update(Message::Key(key)))
                }
                () = sleep_until(self.draw_at.unwrap_or(now)), if self.draw_at.is_some() => {
                    self.draw()?;
                    None
                }
                scope = &mut finding, if is_finding => {
                    is_finding = false;
                    self.start(scope?);
                    None
                }
                Some(done) = self.work.join_next() => {
                    match done {
                        Ok(message) => self.finish(message),
                        Err(error) => return Err(Failure::Other(error.into())),
                    }
                }
                () = sleep_until(self.sample_at), if !self.is_sampling => self.sample(),
                // Changes come last, so that a constant flow of them does not hold up the keys.
                Some(change) = self.changes.recv() => {
                    self.change(change);
                    None
                }
            };
            match effect {
                None => {}
                Some(Effect::Quit) => return Ok(Exit::Ok),
                Some(Effect::Suspend) => self.screen.suspend(true),
                Some(Effect::Redraw) => self.screen.redraw().map_err(of_terminal)?,
                Some(Effect::Signal { key, signal }) => {
                    self.work.spawn_blocking(move || Message::Signalled(send_signal(key, signal)));
                }
            }
        }
    }

    fn update(&mut self, message: Message) -> Option<Effect> {
        self.state.update(message)
    }

    /// Begins to follow the shims and the registry.
    fn start(&mut self, scope: Scope) {
        let args = &self.args;
        let container = scope.only_id().unwrap_or_default().to_owned();
        let selects_containers = args.selects_containers();
        let selects_registered = args.select != SelectOptions::default();
        let shows_containers = selects_containers || args.containers || !selects_registered;
        let shows_registered = selects_registered || !selects_containers;
        self.state.set_scope(scope);
        if shows_containers {
            let namespace = args.common.namespace.clone();
            self.sources.spawn(shims::follow(namespace, container, self.sender.clone()));
        }
        if shows_registered {
            let selector = args.select.clone().selector(Vec::new());
            let follow = registered::follow(selector, args.interval, self.sender.clone());
            self.sources.spawn(follow);
        }
        self.draw_soon();
    }

    fn press(&mut self, bytes: &[u8]) -> Option<Effect> {
        self.draw_at = Some(Instant::now());
        for key in self.decoder.decode(bytes) {
            // The next key may refer to what this one has changed.
            self.state.refresh();
            if let Some(effect) = self.update(Message::Key(key)) {
                return Some(effect);
            }
        }
        None
    }

    fn resize(&mut self) -> Result<(), Failure> {
        let (width, height) = self.screen.size().map_err(of_terminal)?;
        self.update(Message::Resized { width, height });
        self.draw_at = Some(Instant::now());
        Ok(())
    }

    fn change(&mut self, change: Change) {
        // The first list is sampled at once.
        let is_list = matches!(change, Change::Listed { .. } | Change::Registered(_));
        if is_list && self.samples == 0 {
            self.sample_at = Instant::now();
        }
        self.update(Message::Changed(change));
        self.draw_soon();
    }

    /// Reads the usage of all processes on another thread.
    fn sample(&mut self) -> Option<Effect> {
        let (keys, begun) = (self.state.data.keys(), self.begun);
        let pause = if self.samples == 0 { FIRST_INTERVAL } else { self.args.interval };
        self.sample_at = Instant::now() + pause.min(self.args.interval);
        self.update(Message::Now(now_ns()));
        self.draw_soon();
        if !keys.is_empty() {
            self.samples += 1;
            self.is_sampling = true;
            self.work.spawn_blocking(move || {
                Message::Changed(Change::Sampled(usage::read(keys, begun)))
            });
        }
        None
    }

    /// Applies what a thread has done. The last of `--count` updates ends the command.
    fn finish(&mut self, message: Message) -> Option<Effect> {
        let is_sample = matches!(message, Message::Changed(_));
        self.is_sampling &= !is_sample;
        self.update(message);
        self.draw_soon();
        // The first sample has no rates, so it is no update.
        let is_last = self.args.count.is_some_and(|count| self.samples > count);
        (is_sample && is_last).then_some(Effect::Quit)
    }

    /// Draws within a frame's time, so that many changes at once are drawn once.
    fn draw_soon(&mut self) {
        self.draw_at.get_or_insert(self.drawn + FRAME);
    }

    fn draw(&mut self) -> Result<(), Failure> {
        self.draw_at = None;
        self.drawn = Instant::now();
        self.screen.draw(&mut self.state).map_err(of_terminal)
    }
}

/// Finds the containers that the options select.
async fn find_scope(args: &TopArgs) -> Result<Scope, Failure> {
    let mut options = args.common.clone();
    if options.container().is_none() && options.pod.is_none() && options.k8s_namespace.is_none() {
        return Ok(Scope::default());
    }
    // A warning would be printed into the screen.
    options.display.quiet = true;
    // Containers that begin later are shown, but one has to exist: it may be a mistake.
    ShimSet::select(&options, false).await?;
    let (_, scope) = ShimSet::select(&options, true).await?;
    Ok(scope)
}

/// Sends a signal to a process; only if it is the one with this start. Returns what came of it.
fn send_signal(key: ProcessKey, signal: i32) -> String {
    let pid = key.pid;
    let Some(target) = SignalTarget::of_process(key) else {
        return format!("process {pid} has ended; nothing was sent");
    };
    match signal_processes(vec![target], signal, false) {
        Ok(_) => format!("sent signal {signal} to process {pid}"),
        Err(refusal) => chain(&refusal),
    }
}

fn of_terminal(error: io::Error) -> Failure {
    Failure::Other(anyhow::Error::new(error).context("failed to use the terminal"))
}
