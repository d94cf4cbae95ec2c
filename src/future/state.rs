//! What is known of a future, and the transitions that asyncio allows.
//!
//! | from      | `resolve` | `fail`   | `cancel`    |
//! |-----------|-----------|----------|-------------|
//! | `Pending` | `Result`  | `Failed` | `Cancelled` |
//! | others    | error     | error    | false       |
//!
//! Guarded by the future's `GilCell`. Nothing here runs Python code; what a transition replaces is handed back for the
//! caller to drop.

use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;

use super::callbacks::Waiters;

/// How it stands with a future.
#[derive(Debug, Default)]
pub enum Outcome {
    #[default]
    Pending,
    Result(Py<PyAny>),
    /// Boxed: pending futures are to be small.
    Failed(Box<Failure>),
    Cancelled,
}

/// What a future failed with.
#[derive(Debug)]
pub struct Failure {
    pub exception: Py<PyBaseException>,
    /// As it was set: each `result()` raises with that one again.
    pub traceback: Option<Py<PyAny>>,
}

/// The fields of a future.
#[derive(Debug, Default)]
pub struct State {
    /// None until `__init__` has run.
    pub event_loop: Option<Py<PyAny>>,
    pub outcome: Outcome,
    pub waiters: Waiters,
    /// Exactly our class, not a Python subclass that may have methods of its own.
    pub exact: bool,
    /// Yielded by its iterator and not yet taken up by a task (asyncio's protocol).
    pub blocking: bool,
    /// The exception has not been retrieved: to be reported when the future goes away.
    pub log_traceback: bool,
    /// What few futures have.
    pub rare: Option<Box<Rare>>,
}

/// The fields that few futures use: boxed, as a million pending ones are to be small.
#[derive(Debug, Default)]
pub struct Rare {
    pub cancel_message: Option<Py<PyAny>>,
    /// The CancelledError that a cancelled task ended with: raised once with its traceback.
    pub cancelled_error: Option<Py<PyBaseException>>,
    pub source_traceback: Option<Py<PyAny>>,
}

impl State {
    /// The rare fields, to be set.
    pub fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    pub fn cancel_message(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.rare.as_ref()?.cancel_message.as_ref().map(|message| message.clone_ref(py))
    }

    /// The old message, for the caller to drop.
    #[must_use = "dropping it may run Python code: say where"]
    pub fn set_cancel_message(&mut self, message: Option<Py<PyAny>>) -> Option<Py<PyAny>> {
        if message.is_none() && self.rare.is_none() {
            return None;
        }
        std::mem::replace(&mut self.rare_mut().cancel_message, message)
    }

    pub fn source_traceback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.rare.as_ref()?.source_traceback.as_ref().map(|stack| stack.clone_ref(py))
    }

    #[inline]
    pub fn is_done(&self) -> bool {
        !matches!(self.outcome, Outcome::Pending)
    }

    pub fn is_cancelled(&self) -> bool {
        matches!(self.outcome, Outcome::Cancelled)
    }

    /// The waiters to schedule; None when the future was done.
    #[must_use = "the waiters are to be scheduled"]
    pub fn finish(&mut self, outcome: Outcome) -> Result<Waiters, Outcome> {
        if self.is_done() {
            return Err(outcome);
        }
        self.log_traceback = matches!(outcome, Outcome::Failed(..));
        self.outcome = outcome;
        Ok(std::mem::take(&mut self.waiters))
    }

    /// asyncio's word for the state, as in `Future._state`.
    pub fn word(&self) -> &'static str {
        match self.outcome {
            Outcome::Pending => "PENDING",
            Outcome::Cancelled => "CANCELLED",
            Outcome::Result(_) | Outcome::Failed(..) => "FINISHED",
        }
    }
}
