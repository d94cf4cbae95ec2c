//! What is known of a task, guarded by its `GilCell`.
//!
//! | `Wait`        | the task is                                    | woken by                              |
//! |---------------|------------------------------------------------|---------------------------------------|
//! | `Queued`      | in the ready queue (or about to be)            | the turn                              |
//! | `Future`      | waiting for one of our futures                 | that future's waiter                  |
//! | `Foreign`     | waiting for an asyncio future                  | its done callback                     |
//! | `Rust`        | waiting for a Rust future                      | its waker (any number of times)       |
//! | `Woken`       | in the ready queue, its future is done         | the turn, which throws a failure in   |
//! | `Running`     | in its step                                    | -                                     |

use pyo3::prelude::*;

use super::name::Name;
use crate::core::ready::Lane;
use crate::future::Future;

/// What a task waits for.
#[derive(Debug, Default)]
pub enum Wait {
    #[default]
    Queued,
    Running,
    Future(Py<Future>),
    Foreign(Py<PyAny>),
    Rust(Py<PyAny>),
    Woken(Py<Future>),
    WokenForeign(Py<PyAny>),
}

/// The fields of a task beyond its future's.
#[derive(Debug)]
pub struct TaskState {
    pub coroutine: Option<Py<PyAny>>,
    pub context: Option<Py<PyAny>>,
    pub name: Name,
    pub wait: Wait,
    /// To be thrown in by the next step: the answer to a mistaken yield.
    pub throw: Option<Box<PyErr>>,
    pub lane: Lane,
    pub cancels: u32,
    /// The first step has been made.
    pub begun: bool,
    /// The next step throws CancelledError in.
    pub must_cancel: bool,
    pub log_destroy_pending: bool,
}

impl Default for TaskState {
    fn default() -> Self {
        Self {
            coroutine: None,
            context: None,
            name: Name::Number(0),
            wait: Wait::Queued,
            throw: None,
            lane: Lane::Normal,
            cancels: 0,
            begun: false,
            must_cancel: false,
            log_destroy_pending: true,
        }
    }
}
