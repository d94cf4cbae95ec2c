//! `pyloop.sync.Semaphore`: permits, given out in the order of asking.

use std::sync::Arc;

use pyo3::prelude::*;
use tokio::sync::{OwnedSemaphorePermit, Semaphore as TokioSemaphore, TryAcquireError};

use super::arguments::{none, within};
use super::fault::Fault;
use crate::bridge::RustFuture;
use crate::py::cell::GilCell;

/// The most that may be free. As many again are left to those that are held: tokio panics when permits come back that
/// it has no room for.
const MOST: usize = TokioSemaphore::MAX_PERMITS / 2;

const CLOSED: Fault = Fault::Closed("the semaphore is closed");

/// A counter of permits: who acquires one waits while there is none.
#[pyclass(frozen, weakref, module = "pyloop.sync")]
#[derive(Debug)]
pub struct Semaphore(Arc<TokioSemaphore>);

impl Semaphore {
    /// From tokio's.
    pub fn from_tokio(semaphore: Arc<TokioSemaphore>) -> Self {
        Self(semaphore)
    }

    /// tokio's, which any thread may use without the GIL.
    pub fn to_tokio(&self) -> Arc<TokioSemaphore> {
        Arc::clone(&self.0)
    }
}

#[pymethods]
impl Semaphore {
    /// With so many permits, 0 to 2**60 - 1.
    #[new]
    fn new(permits: i64) -> PyResult<Self> {
        let permits = within(permits, "permits", 0, MOST)?;
        Ok(Self(Arc::new(TokioSemaphore::new(permits))))
    }

    /// `async with semaphore.acquire():` or `permit = await semaphore.acquire()`. Several permits come all at once.
    ///
    /// Cancelled: none was taken. Raises Closed.
    #[pyo3(signature = (permits = 1))]
    fn acquire(&self, permits: i64) -> PyResult<Acquire> {
        let permits = many(permits)?;
        Ok(Acquire { semaphore: Arc::clone(&self.0), permits, held: Arc::default() })
    }

    /// A permit for so many now. From any thread.
    ///
    /// Raises NoPermits, Closed.
    #[pyo3(signature = (permits = 1))]
    fn try_acquire(&self, permits: i64) -> PyResult<Permit> {
        match Arc::clone(&self.0).try_acquire_many_owned(many(permits)?) {
            Ok(permit) => Ok(Permit::new(permit)),
            Err(TryAcquireError::NoPermits) => Err(Fault::NoPermits.into()),
            Err(TryAcquireError::Closed) => Err(CLOSED.into()),
        }
    }

    /// Add permits.
    fn add_permits(&self, permits: i64) -> PyResult<()> {
        let most = MOST.saturating_sub(self.0.available_permits());
        self.0.add_permits(within(permits, "permits", 0, most)?);
        Ok(())
    }

    /// How many permits are free.
    #[getter]
    fn available_permits(&self) -> usize {
        self.0.available_permits()
    }

    /// Give out no more permits: who waits, and who comes, gets Closed.
    fn close(&self) {
        self.0.close();
    }

    /// Whether `close` was called.
    fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

/// How many permits one may ask for at a time.
fn many(permits: i64) -> PyResult<u32> {
    let permits = within(permits, "permits", 0, u32::MAX as usize)?;
    Ok(u32::try_from(permits).unwrap_or(u32::MAX))
}

/// What `Semaphore.acquire` gives: await it for a permit, or enter it for the length of a block.
#[pyclass(frozen, module = "pyloop.sync")]
#[derive(Debug)]
pub struct Acquire {
    semaphore: Arc<TokioSemaphore>,
    permits: u32,
    /// The permit of the block.
    held: Arc<GilCell<Option<Py<Permit>>>>,
}

#[pymethods]
impl Acquire {
    fn __await__(&self) -> RustFuture {
        let acquiring = Arc::clone(&self.semaphore).acquire_many_owned(self.permits);
        RustFuture::new("acquire", async move {
            let permit = Permit::new(acquiring.await.map_err(|_| CLOSED)?);
            Python::attach(|py| Ok(Py::new(py, permit)?.into_any()))
        })
    }

    fn __aenter__(&self) -> RustFuture {
        let acquiring = Arc::clone(&self.semaphore).acquire_many_owned(self.permits);
        let held = Arc::clone(&self.held);
        RustFuture::new("acquire", async move {
            let permit = Permit::new(acquiring.await.map_err(|_| CLOSED)?);
            Python::attach(|py| {
                let permit = Py::new(py, permit)?;
                drop(held.replace(py, Some(permit.clone_ref(py))));
                Ok(permit.into_any())
            })
        })
    }

    #[pyo3(signature = (*_args))]
    fn __aexit__(&self, py: Python<'_>, _args: &Bound<'_, PyAny>) -> RustFuture {
        if let Some(permit) = self.held.take(py) {
            permit.get().release(py);
        }
        RustFuture::new("release", async { Ok(none()) })
    }
}

/// Permits of a semaphore, held until `release`, the end of a `with` block, or the end of this object.
#[pyclass(frozen, weakref, module = "pyloop.sync")]
#[derive(Debug)]
pub struct Permit(GilCell<Option<OwnedSemaphorePermit>>);

impl Permit {
    fn new(permit: OwnedSemaphorePermit) -> Self {
        Self(GilCell::new(Some(permit)))
    }
}

#[pymethods]
impl Permit {
    /// Give them back. A second time does nothing. From any thread.
    fn release(&self, py: Python<'_>) {
        let permit = self.0.take(py);
        drop(permit);
    }

    /// Never give them back: the semaphore has so many fewer from here on.
    fn forget(&self, py: Python<'_>) {
        if let Some(permit) = self.0.take(py) {
            permit.forget();
        }
    }

    /// How many they are; 0 after `release`.
    #[getter]
    fn permits(&self, py: Python<'_>) -> usize {
        self.0.with(py, |permit| permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits))
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_args))]
    fn __exit__(&self, py: Python<'_>, _args: &Bound<'_, PyAny>) {
        self.release(py);
    }
}
