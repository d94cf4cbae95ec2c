//! `wait`: a Rust future for a plain thread, which sleeps without the GIL and can be interrupted by Ctrl-C.
//!
//! Polled by the calling thread with the GIL held, as a task would; refused where an event loop would stand still.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyTimeoutError, PyValueError};
use pyo3::prelude::*;

use crate::py::call::{Number, Object};
use crate::py::error;
use crate::py::exit::outlast;
use crate::rt::block_on::refuse_to_block;

/// How long the main thread sleeps between two looks for signals: nothing but Python's flag tells it of one.
const SIGNALS: Duration = Duration::from_millis(50);

/// Wait for `future`, for `timeout` seconds at most (None: as long as it takes).
///
/// # Errors
/// RuntimeError on a thread whose event loop runs, naming `instead`; TimeoutError; what a signal handler raises.
pub fn wait<F: Future>(py: Python<'_>, instead: &str, timeout: Option<Number>, future: F) -> PyResult<F::Output> {
    refuse_to_block(py, || format!("use `{instead}`, or call it in another thread (asyncio.to_thread)"))?;
    let end = deadline(timeout.map(|Number(seconds)| seconds))?;
    outlast();
    let main = {
        let threading = py.import(pyo3::intern!(py, "threading"))?;
        let main = threading.try_call_method(pyo3::intern!(py, "main_thread"), ())?;
        main.is(&threading.try_call_method(pyo3::intern!(py, "current_thread"), ())?)
    };
    let unpark = Arc::new(Unpark { thread: thread::current(), woken: AtomicBool::new(false) });
    let waker = Waker::from(Arc::clone(&unpark));
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Ok(output);
        }
        let late = py.detach(|| unpark.sleep(end, main));
        error::check_signals(py)?;
        if late {
            return Err(PyTimeoutError::new_err(()));
        }
    }
}

fn deadline(timeout: Option<f64>) -> PyResult<Option<Instant>> {
    match timeout {
        Some(seconds) if seconds.is_nan() => Err(PyValueError::new_err("timeout must be a number of seconds, not NaN")),
        // What is too far away never comes.
        Some(seconds) => {
            Ok(Duration::try_from_secs_f64(seconds.max(0.0)).ok().and_then(|left| Instant::now().checked_add(left)))
        }
        None => Ok(None),
    }
}

struct Unpark {
    thread: Thread,
    woken: AtomicBool,
}

impl Unpark {
    /// Sleep until woken, until `end` (true), or on the main thread until it is time to look for signals.
    fn sleep(&self, end: Option<Instant>, main: bool) -> bool {
        let look = main.then(|| Instant::now() + SIGNALS);
        while !self.woken.swap(false, Ordering::SeqCst) {
            let now = Instant::now();
            if end.is_some_and(|end| now >= end) {
                return true;
            }
            if look.is_some_and(|look| now >= look) {
                return false;
            }
            match [end, look].into_iter().flatten().min() {
                Some(until) => thread::park_timeout(until - now),
                None => thread::park(),
            }
        }
        false
    }
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}
