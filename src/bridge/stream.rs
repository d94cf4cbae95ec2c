//! Streams both ways: a Rust stream as an async iterator, an async iterator as a Rust stream.

use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use futures::Stream;
use pyo3::exceptions::{PyRuntimeError, PyStopAsyncIteration, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::awaitable::RustFuture;
use super::body::Output;
use super::from_py::{self, PyFuture};
use super::into_py::into_object;
use super::locals::{TaskLocals, get_current_locals};
use super::owner::{self, OwnerThread};
use crate::py::attach::attach_anywhere;
use crate::py::call::Object;
use crate::py::cell::GilCell;
use crate::py::{error, require_main_for_futures};
use crate::rt::inside::drop_inside;
use crate::rt::process::{ProcessBound, here};

/// A Python async iterator over `stream`, polled in place as [`future_into_py`](crate::future_into_py) polls a future.
///
/// Items that are ready come without a turn of the loop. `aclose()` drops the stream, and so does dropping the
/// iterator; cancelling an `__anext__` loses no item. `batches(n)` gives lists of up to `n` items that are there
/// together. An error ends the iteration.
///
/// ```no_run
/// # use futures::StreamExt;
/// # use pyo3::prelude::*;
/// /// In Python: `async for number in numbers(10)`.
/// #[pyfunction]
/// fn numbers(py: Python<'_>, n: u32) -> PyResult<Bound<'_, PyAny>> {
///     pyloop::stream_into_py(py, futures::stream::iter(0..n).map(Ok::<_, PyErr>))
/// }
/// ```
///
/// # Errors
/// MemoryError; RuntimeError in a subinterpreter.
pub fn stream_into_py<S, T, E>(py: Python<'_>, stream: S) -> PyResult<Bound<'_, PyAny>>
where
    S: Stream<Item = Result<T, E>> + Send + 'static,
    T: for<'py> IntoPyObject<'py>,
    E: Into<PyErr> + 'static,
{
    require_main_for_futures(py)?;
    let items = futures::StreamExt::map(stream, |item| match item {
        Ok(value) => Python::attach(|py| into_object(py, value)),
        Err(failed) => Err(error::into_error(failed)),
    });
    owner::receive();
    let source = GilCell::new(Source::Open(ProcessBound::new(Box::pin(items)), Waiting::default()));
    Bound::new(py, RustStream { source: Arc::new(source) }).map(Bound::into_any)
}

/// [`stream_into_py`] for a stream that is not `Send`. It belongs to the thread that made it: asked for an item
/// elsewhere it ends with RuntimeError, let go of elsewhere it comes home to be dropped.
///
/// ```no_run
/// # use std::rc::Rc;
/// # use futures::StreamExt;
/// # use pyo3::prelude::*;
/// #[pyfunction]
/// fn numbers(py: Python<'_>, n: u32) -> PyResult<Bound<'_, PyAny>> {
///     let shared = Rc::new(n);
///     pyloop::local_stream_into_py(py, futures::stream::iter(0..n).map(move |i| Ok::<_, PyErr>(*shared - i)))
/// }
/// ```
///
/// # Errors
/// As `stream_into_py`.
pub fn local_stream_into_py<S, T, E>(py: Python<'_>, stream: S) -> PyResult<Bound<'_, PyAny>>
where
    S: Stream<Item = Result<T, E>> + 'static,
    T: for<'py> IntoPyObject<'py>,
    E: Into<PyErr> + 'static,
{
    let items = futures::StreamExt::map(stream, |item| match item {
        Ok(value) => Python::attach(|py| into_object(py, value)),
        Err(failed) => Err(error::into_error(failed)),
    });
    stream_into_py(py, AtHome { stream: ManuallyDrop::new(Box::pin(items)), owner: OwnerThread::here() })
}

/// A stream of one thread's.
struct AtHome {
    stream: ManuallyDrop<Pin<Box<dyn Stream<Item = Output>>>>,
    owner: OwnerThread,
}

// SAFETY: the stream is polled and dropped on its own thread only: `poll_next` and `drop` compare the thread, and what
// would have to be dropped elsewhere goes back (`owner::send`).
unsafe impl Send for AtHome {}

impl Stream for AtHome {
    type Item = Output;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Output>> {
        if here(|here| self.owner.is_at(here)) {
            return self.stream.as_mut().poll_next(cx);
        }
        let text = "a Rust stream that is not Send was asked for an item on another thread than the one that made it";
        Poll::Ready(Some(Err(PyRuntimeError::new_err(text))))
    }
}

impl Drop for AtHome {
    fn drop(&mut self) {
        // SAFETY: taken once, in the destructor.
        let stream = unsafe { ManuallyDrop::take(&mut self.stream) };
        if here(|here| self.owner.is_at(here)) {
            drop(stream);
        } else {
            owner::send(
                self.owner,
                Box::pin(async move {
                    let _kept = stream;
                    std::future::pending().await
                }),
            );
        }
    }
}

type Items = ProcessBound<Pin<Box<dyn Stream<Item = Output> + Send>>>;

/// The stream between two polls.
enum Source {
    Open(Items, Waiting),
    /// Taken out for a poll.
    Polled,
    Closed,
}

/// A Rust stream as an async iterator.
#[pyclass(frozen, weakref, module = "pyloop")]
pub struct RustStream {
    source: Arc<GilCell<Source>>,
}

#[pymethods]
impl RustStream {
    fn __aiter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __anext__(&self) -> RustFuture {
        RustFuture::new("__anext__", Next::new(&self.source, None))
    }

    /// An async iterator over lists of 1 to `n` items: what is there, at most `n`.
    fn batches(&self, n: usize) -> PyResult<RustBatches> {
        if n == 0 {
            return Err(PyValueError::new_err("a batch has at least one item"));
        }
        Ok(RustBatches { source: Arc::clone(&self.source), most: n })
    }

    /// End the iteration: the stream is dropped, whoever waits for an item gets StopAsyncIteration.
    fn aclose(&self) -> RustFuture {
        aclose(&self.source)
    }

    fn __repr__(&self, py: Python<'_>) -> &'static str {
        if self.source.with(py, |source| matches!(source, Source::Closed)) {
            "<RustStream closed>"
        } else {
            "<RustStream>"
        }
    }
}

/// Lists of the items of a `RustStream`.
#[pyclass(frozen, module = "pyloop")]
pub struct RustBatches {
    source: Arc<GilCell<Source>>,
    most: usize,
}

#[pymethods]
impl RustBatches {
    fn __aiter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __anext__(&self) -> RustFuture {
        RustFuture::new("__anext__", Next::new(&self.source, Some(self.most)))
    }

    /// As the stream's own: both end.
    fn aclose(&self) -> RustFuture {
        aclose(&self.source)
    }
}

fn aclose(source: &Arc<GilCell<Source>>) -> RustFuture {
    let source = Arc::clone(source);
    RustFuture::new("aclose", async move {
        Python::attach(|py| {
            close(py, &source);
            Ok(py.None())
        })
    })
}

fn close(py: Python<'_>, source: &GilCell<Source>) {
    if let Source::Open(items, waiting) = source.replace(py, Source::Closed) {
        drop_inside(|| drop(items));
        drop(waiting);
    }
}

/// Those who wait for an item, by the address of their `Next`. The stream itself knows the last one only: whoever takes
/// an item, or gives up, has the others ask again by dropping this.
#[derive(Default)]
struct Waiting(Vec<(usize, Waker)>);

impl Waiting {
    /// Who is left, now that an item has been taken; the list keeps its room when that is nobody.
    fn others(&mut self) -> Option<Self> {
        (!self.0.is_empty()).then(|| std::mem::take(self))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.drain(..).for_each(|(_, waker)| waker.wake());
    }
}

/// The next item, or the next batch of them. What a poll takes out of the stream it gives away.
struct Next {
    source: Arc<GilCell<Source>>,
    most: Option<usize>,
    waits: bool,
}

impl Next {
    fn new(source: &Arc<GilCell<Source>>, most: Option<usize>) -> Self {
        Self { source: Arc::clone(source), most, waits: false }
    }
}

impl Future for Next {
    type Output = Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Output> {
        Python::attach(|py| {
            let this = &mut *self;
            let key = std::ptr::from_ref(this).addr();
            let taken = this.source.replace(py, Source::Polled);
            let (mut items, mut waiting) = match taken {
                Source::Open(items, waiting) => (items, waiting),
                Source::Closed => {
                    drop(this.source.replace(py, Source::Closed));
                    return Poll::Ready(Err(PyStopAsyncIteration::new_err(())));
                }
                Source::Polled => {
                    return Poll::Ready(Err(PyRuntimeError::new_err("the Rust stream is being polled already")));
                }
            };
            let polled = {
                let _closing = CloseOnPanic { py, source: &this.source };
                match this.most {
                    None => items.as_mut().poll_next(cx),
                    Some(most) => poll_batch(py, &mut items, most, cx),
                }
            };
            if this.waits {
                waiting.0.retain(|(known, _)| *known != key);
            }
            this.waits = polled.is_pending();
            if this.waits {
                waiting.0.push((key, cx.waker().clone()));
            }
            let others = if this.waits { None } else { waiting.others() };
            let ended = matches!(polled, Poll::Ready(None | Some(Err(_))));
            // It may have been closed by what the poll ran.
            let left = this.source.with(py, |source| {
                if ended {
                    *source = Source::Closed;
                }
                match source {
                    Source::Closed => Some((items, waiting)),
                    _ => {
                        *source = Source::Open(items, waiting);
                        None
                    }
                }
            });
            if let Some((items, waiting)) = left {
                drop_inside(|| drop(items));
                drop(waiting);
            }
            drop(others);
            polled.map(|item| item.unwrap_or_else(|| Err(PyStopAsyncIteration::new_err(()))))
        })
    }
}

impl Drop for Next {
    fn drop(&mut self) {
        if self.waits {
            // At interpreter exit nobody waits any more.
            attach_anywhere(|py| {
                let waiting = self.source.with(py, |source| match source {
                    Source::Open(_, waiting) => std::mem::take(waiting),
                    _ => Waiting::default(),
                });
                drop(waiting);
            });
        }
    }
}

/// A stream that panicked has ended.
struct CloseOnPanic<'a, 'py> {
    py: Python<'py>,
    source: &'a GilCell<Source>,
}

impl Drop for CloseOnPanic<'_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            drop(self.source.replace(self.py, Source::Closed));
        }
    }
}

fn poll_batch(py: Python<'_>, items: &mut Items, most: usize, cx: &mut Context<'_>) -> Poll<Option<Output>> {
    let mut batch = Vec::new();
    while batch.len() < most {
        match items.as_mut().poll_next(cx) {
            Poll::Ready(Some(Ok(item))) => batch.push(item),
            // After a batch that is not empty the stream is asked again: what comes now must not be lost.
            Poll::Ready(ended) if batch.is_empty() => return Poll::Ready(ended),
            Poll::Ready(ended) => {
                let rest = futures::stream::iter(ended);
                **items = Box::pin(rest);
                break;
            }
            Poll::Pending if batch.is_empty() => return Poll::Pending,
            Poll::Pending => break,
        }
    }
    Poll::Ready(Some(PyList::new(py, batch).map(|list| list.into_any().unbind())))
}

/// A Rust stream over a Python async iterator (an async generator, or anything with `__anext__`).
///
/// Each item is awaited on the loop that is current now. Dropping the stream before its end closes an async generator
/// (`aclose()`, run as a task of the loop); StopAsyncIteration ends it, any other exception is an item and the last.
///
/// # Errors
/// RuntimeError when there is no current event loop; TypeError for what is no async iterator.
pub fn into_stream(iterator: Bound<'_, PyAny>) -> PyResult<PyStream> {
    let locals = get_current_locals(iterator.py())?;
    into_stream_with_locals(locals, iterator)
}

/// [`into_stream`] on the loop and in the context of these locals.
///
/// # Errors
/// TypeError for what is no async iterator.
pub fn into_stream_with_locals(locals: TaskLocals, iterator: Bound<'_, PyAny>) -> PyResult<PyStream> {
    let py = iterator.py();
    let iterator = iterator.try_call_method(pyo3::intern!(py, "__aiter__"), ())?;
    Ok(PyStream { locals, iterator: Some(iterator.unbind()), next: None })
}

/// See [`into_stream`].
#[must_use = "streams do nothing unless polled"]
pub struct PyStream {
    locals: TaskLocals,
    /// Until it has ended.
    iterator: Option<Py<PyAny>>,
    next: Option<PyFuture>,
}

impl Stream for PyStream {
    type Item = Output;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Output>> {
        let this = &mut *self;
        let Some(iterator) = &this.iterator else { return Poll::Ready(None) };
        let next = match &mut this.next {
            Some(next) => next,
            slot => match Python::attach(|py| from_py::next_item(&this.locals, iterator.bind(py))) {
                Ok(next) => slot.insert(next),
                Err(raised) => {
                    this.iterator = None;
                    return Poll::Ready(Some(Err(raised)));
                }
            },
        };
        let item = ready!(Pin::new(next).poll(cx));
        this.next = None;
        match item {
            Ok(item) => Poll::Ready(Some(Ok(item))),
            Err(raised) => {
                this.iterator = None;
                let ended = Python::attach(|py| raised.is_instance_of::<PyStopAsyncIteration>(py));
                Poll::Ready(if ended { None } else { Some(Err(raised)) })
            }
        }
    }
}

impl Drop for PyStream {
    fn drop(&mut self) {
        // First: an async generator that is running cannot be closed.
        self.next = None;
        let Some(iterator) = self.iterator.take() else { return };
        // At interpreter exit nothing is closed any more.
        attach_anywhere(|py| {
            if let Err(raised) = from_py::close(&self.locals, iterator.bind(py)) {
                error::unraisable(py, raised, None);
            }
            drop(iterator);
        });
    }
}
