//! A future that finds a tokio runtime in each of its polls, whoever polls it: PyO3's own `async fn`, above all.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::{pin_project, pinned_drop};

use super::local;
use crate::rt::inside::{drop_inside, poll_inside};
use crate::rt::process::here;

/// `fut`, inside a tokio runtime wherever it is polled and dropped: the loop's own in a program that has the loop in
/// it, else the background runtime, which is started by the first poll. It needs no set-up, and works on any thread and
/// in a forked child. `tokio::spawn`, `tokio::task::spawn_local`, sockets and timers work in it, and its polls have
/// tokio's cooperative budget.
///
/// For code that somebody else polls, as PyO3 does its own `async fn`:
///
/// ```no_run
/// # use std::time::Duration;
/// // With `#[pyfunction]`, and PyO3's feature `experimental-async`.
/// pub async fn sleep(seconds: f64) {
///     pyloop::in_runtime(async move { tokio::time::sleep(Duration::from_secs_f64(seconds)).await }).await
/// }
/// ```
///
/// # Panics
/// When polled, if the runtime cannot be started, or has stopped.
pub fn in_runtime<F: Future>(fut: F) -> InRuntime<F> {
    InRuntime(Some(fut))
}

/// See [`in_runtime`].
#[must_use = "futures do nothing unless they are awaited"]
#[pin_project(PinnedDrop)]
pub struct InRuntime<F>(#[pin] Option<F>);

impl<F: Future> Future for InRuntime<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut inner = self.project().0;
        let polled = here(|here| {
            poll_inside(here, local::enter, || {
                let Some(fut) = inner.as_mut().as_pin_mut() else { panic!("`in_runtime` is polled after its end") };
                let output = ready!(fut.poll(cx));
                // Its destructor belongs to the same runtime.
                inner.set(None);
                Poll::Ready(output)
            })
        });
        match polled {
            Ok(polled) => polled,
            Err(failed) => panic!("no tokio runtime: {failed}"),
        }
    }
}

#[pinned_drop]
impl<F> PinnedDrop for InRuntime<F> {
    fn drop(self: Pin<&mut Self>) {
        let mut inner = self.project().0;
        if inner.is_some() {
            drop_inside(|| inner.set(None));
        }
    }
}
