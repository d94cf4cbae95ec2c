//! `pyloop.sync.Notify` and `pyloop.sync.Barrier`: tasks that wait for one another, without a value.
//!
//! The barrier is tokio's with one difference: a `wait` that is cancelled has not arrived (in tokio's it has, and the
//! others then pass one short). Hence its own count, around tokio's watch for the generations.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyBool;
use tokio::sync::{Notify as TokioNotify, watch};

use super::arguments::{none, within};
use crate::bridge::RustFuture;

/// Wakes one task, or all that wait.
#[pyclass(frozen, weakref, module = "pyloop.sync")]
#[derive(Debug)]
pub struct Notify(Arc<TokioNotify>);

impl Notify {
    /// From tokio's.
    pub fn from_tokio(notify: Arc<TokioNotify>) -> Self {
        Self(notify)
    }

    /// tokio's, which any thread may use without the GIL.
    pub fn to_tokio(&self) -> Arc<TokioNotify> {
        Arc::clone(&self.0)
    }
}

#[pymethods]
impl Notify {
    #[new]
    fn new() -> Self {
        Self(Arc::default())
    }

    /// Wake the task that has waited longest; if none waits, the next `notified` is ready at once. Two such calls
    /// count as one. From any thread.
    fn notify_one(&self) {
        self.0.notify_one();
    }

    /// Wake whoever has called `notified` up to now. From any thread.
    fn notify_waiters(&self) {
        self.0.notify_waiters();
    }

    /// Wait to be notified. Cancelled: a `notify_one` goes on to the next.
    fn notified(&self) -> RustFuture {
        let notified = Arc::clone(&self.0).notified_owned();
        RustFuture::new("notified", async move {
            notified.await;
            Ok(none())
        })
    }
}

#[derive(Debug)]
struct Count {
    parties: usize,
    here: Mutex<Here>,
    /// `Here::generation`, told to those who wait.
    passed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Here {
    arrived: usize,
    /// How many times the barrier has let its tasks pass.
    generation: u64,
}

impl Count {
    /// Held for a few instructions, never while anybody is woken.
    fn here(&self) -> MutexGuard<'_, Here> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this one is the last, the leader.
    async fn wait(self: Arc<Self>) -> bool {
        let mut passed = self.passed.subscribe();
        let (generation, last) = {
            let mut here = self.here();
            let generation = here.generation;
            here.arrived += 1;
            let last = here.arrived == self.parties;
            if last {
                *here = Here { arrived: 0, generation: generation + 1 };
            }
            (generation, last)
        };
        if last {
            self.passed.send_modify(|passed| *passed = (*passed).max(generation + 1));
            return true;
        }
        let arrival = Arrival { count: &self, generation };
        // The sender is in `self`, so there is always an answer.
        let waited = passed.wait_for(|passed| *passed > generation).await.is_ok();
        drop(arrival);
        debug_assert!(waited, "the barrier outlives its waits");
        false
    }
}

/// A task that waits: taken back when it stops before the barrier has let it pass.
struct Arrival<'a> {
    count: &'a Count,
    generation: u64,
}

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        let mut here = self.count.here();
        if here.generation == self.generation {
            here.arrived -= 1;
        }
    }
}

/// Lets tasks pass when a number of them have come.
#[pyclass(frozen, weakref, module = "pyloop.sync")]
#[derive(Debug)]
pub struct Barrier(Arc<Count>);

#[pymethods]
impl Barrier {
    /// For so many tasks, 1 at least.
    #[new]
    fn new(parties: i64) -> PyResult<Self> {
        let parties = within(parties, "parties", 1, usize::MAX)?;
        Ok(Self(Arc::new(Count { parties, here: Mutex::default(), passed: watch::Sender::new(0) })))
    }

    /// Wait for the others; True for one of them, the last to come. Cancelled: this one has not come.
    fn wait(&self) -> RustFuture {
        let waiting = Arc::clone(&self.0).wait();
        RustFuture::new("wait", async move {
            let leader = waiting.await;
            Ok(Python::attach(|py| PyBool::new(py, leader).to_owned().into_any().unbind()))
        })
    }

    /// How many tasks it takes.
    #[getter]
    fn parties(&self) -> usize {
        self.0.parties
    }

    /// How many wait now.
    #[getter]
    fn n_waiting(&self) -> usize {
        self.0.here().arrived
    }
}
