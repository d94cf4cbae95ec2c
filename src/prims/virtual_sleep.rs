//! A timer of the running loop as a Rust future: `pyloop.sleep` on a loop that has virtual time.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::task::AtomicWaker;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::py::names;
use crate::sched::state::ours;
use crate::sched::timer_handle::TimerHandle;
use crate::sched::{schedule, virtual_time};

#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    waker: AtomicWaker,
}

/// The timer's callback.
#[pyclass(frozen, module = "pyloop._native")]
struct Ring(Arc<Bell>);

#[pymethods]
impl Ring {
    fn __call__(&self) {
        self.0.rung.store(true, Ordering::SeqCst);
        self.0.waker.wake();
    }
}

/// Ready when the timer is due; cancels it when dropped.
pub(super) struct Sleeping {
    bell: Arc<Bell>,
    timer: Py<TimerHandle>,
}

impl Sleeping {
    /// None: tokio's timer will do, as the loop that runs has real time.
    ///
    /// # Errors
    /// RuntimeError when the loop is closed; MemoryError.
    #[inline]
    pub(super) fn begin(delay: Duration) -> PyResult<Option<Self>> {
        if virtual_time::is_used() { Python::attach(|py| Self::on_running_loop(py, delay)) } else { Ok(None) }
    }

    fn on_running_loop(py: Python<'_>, delay: Duration) -> PyResult<Option<Self>> {
        let running = names::running_loop(py)?;
        let Some(state) = ours(&running).filter(|state| !state.get().clock.is_real(py)) else {
            return Ok(None);
        };
        let bell = Arc::<Bell>::default();
        let ring = Bound::new(py, Ring(Arc::clone(&bell)))?.into_any();
        let when = schedule::time(state) + delay.as_secs_f64();
        let timer = schedule::call_at(state, when, None, schedule::parts(ring, PyTuple::empty(py), None))?;
        Ok(Some(Self { bell, timer: timer.unbind() }))
    }
}

impl Future for Sleeping {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.bell.waker.register(cx.waker());
        if self.bell.rung.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Sleeping {
    fn drop(&mut self) {
        if !self.bell.rung.load(Ordering::SeqCst) {
            Python::attach(|py| TimerHandle::cancel(self.timer.bind(py)));
        }
    }
}
