//! Rust futures that the cycle collector sees into. What an `async` block has captured nobody can tell: so what a
//! future of ours holds of Python's lies beside the one that waits, and goes to what is called at the end.
//!
//! `traverse` is called by the collector: no Python code, and nothing that a poll may be changing (the body's cell is
//! in use then, and is not looked into).

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

/// What a value holds of Python's, shown to the cycle collector: [`holding_into_py`](crate::holding_into_py).
///
/// Each `Py` that the value owns is visited once, and none that somebody else owns, too (behind an `Arc`, say).
pub trait Traverse {
    /// Visit each. No Python code may run meanwhile, as in a `__traverse__`.
    ///
    /// # Errors
    /// The visitor's, to be handed on.
    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError>;
}

impl<T> Traverse for Py<T> {
    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(self)
    }
}

impl<T: Traverse> Traverse for Option<T> {
    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.as_ref().map_or(Ok(()), |held| held.traverse(visit))
    }
}

impl<T: Traverse> Traverse for Vec<T> {
    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.iter().try_for_each(|held| held.traverse(visit))
    }
}

impl<A: Traverse, B: Traverse> Traverse for (A, B) {
    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.traverse(visit).and_then(|()| self.1.traverse(visit))
    }
}

/// A future that waits, and what is made of what it gives, with what is held meanwhile.
#[pin_project]
pub(super) struct Holding<F, H, M> {
    #[pin]
    future: F,
    /// Until the end.
    rest: Option<(H, M)>,
}

impl<F, H, M> Holding<F, H, M> {
    pub fn new(held: H, future: F, finish: M) -> Self {
        Self { future, rest: Some((held, finish)) }
    }
}

impl<F: Future, H, T, M: FnOnce(F::Output, H) -> T> Future for Holding<F, H, M> {
    type Output = T;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = self.project();
        let value = ready!(this.future.poll(cx));
        let Some((held, finish)) = this.rest.take() else { unreachable!("a future that has ended is not polled") };
        Poll::Ready(finish(value, held))
    }
}

impl<F, H: Traverse, M> Traverse for Holding<F, H, M> {
    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.rest.as_ref().map_or(Ok(()), |(held, _)| held.traverse(visit))
    }
}
