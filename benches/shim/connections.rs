//! The one thread that serves all connections. It sleeps while no message arrives. A client with a
//! thread for each connection would poll for its answers a hundred times a second, and with a
//! hundred shims that would affect every figure.

use std::{
    sync::{LazyLock, mpsc},
    thread,
};

use tokio::runtime::{Builder, Handle};

static THREAD: LazyLock<Handle> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs an epoll and a pipe");
    let handle = runtime.handle().clone();
    thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    handle
});

/// Runs work on a connection in that thread and waits for its result. Another thread could send its
/// request before an earlier one, and containerd's shims refuse stream ids that do not grow.
pub(crate) fn wait<T: Send + 'static>(act: impl Future<Output = T> + Send + 'static) -> T {
    let (done, outcome) = mpsc::sync_channel(1);
    THREAD.spawn(async move {
        // The receiver below always waits for it.
        let _ = done.send(act.await);
    });
    outcome.recv().expect("the thread of connections never ends")
}
