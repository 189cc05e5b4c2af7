//! The one thread that all connections live on. It sleeps while nothing comes: a client with a thread of its own for
//! each would look for its answers a hundred times a second, and with a hundred shims that is in every figure.

use std::{sync::LazyLock, thread};

use tokio::runtime::{Builder, Handle};

static THREAD: LazyLock<Handle> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime needs an epoll and a pipe");
    let handle = runtime.handle().clone();
    thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    handle
});

/// Waits for what concerns a connection.
pub(crate) fn wait<T>(act: impl Future<Output = T>) -> T {
    THREAD.block_on(act)
}
