//! The one thread that all connections live on. It sleeps while nothing comes: a client with a
//! thread of its own for each would look for its answers a hundred times a second, and with a
//! hundred shims that is in every figure.

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

/// Has the thread do what concerns a connection, and waits for it. Whoever does it himself may
/// overtake another after their requests were numbered, and containerd's shims refuse numbers that
/// do not grow.
pub(crate) fn wait<T: Send + 'static>(act: impl Future<Output = T> + Send + 'static) -> T {
    let (done, outcome) = mpsc::sync_channel(1);
    THREAD.spawn(async move {
        // Whoever asked waits for it.
        let _ = done.send(act.await);
    });
    outcome.recv().expect("the thread of connections never ends")
}
