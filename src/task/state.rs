//! What is known of a task, guarded by its `GilCell`.
//!
//! | `Wait`        | the task is                                    | woken by                              |
//! |---------------|------------------------------------------------|---------------------------------------|
//! | `Queued`      | in the ready queue (or about to be)            | the turn                              |
//! | `Future`      | waiting for one of our futures                 | that future's waiter                  |
//! | `Foreign`     | waiting for an asyncio future                  | its done callback                     |
//! | `Rust`        | waiting for a Rust future                      | its waker (any number of times)       |
//! | `Woken`       | in the ready queue, its future is done         | the turn, which throws a failure in   |
//! | `Thrown`      | in the ready queue, after a mistaken yield, or | the turn, which throws it in          |
//! |               | its Rust future was dropped                    |                                       |
//! | `Running`     | in its step                                    | -                                     |
//! | `Unbegun`     | made, and to make its first step at once       | `begin_eagerly`                       |

use std::num::NonZeroU32;

use pyo3::prelude::*;

use super::name::Name;
use crate::accel::collector::{AwaitChain, Hidden};
use crate::core::ready::Lane;
use crate::future::Future;
use crate::sched::LoopState;

/// What a task waits for.
#[derive(Debug, Default)]
pub enum Wait {
    #[default]
    Queued,
    Running,
    Unbegun,
    Future(Hidden<Future>),
    Foreign(Py<PyAny>),
    Rust(Py<PyAny>),
    Woken(Py<Future>),
    WokenForeign(Py<PyAny>),
    Thrown(Box<PyErr>),
}

impl Wait {
    /// `*self = next`, which asks first what a task most often has done: nothing that must be dropped.
    #[inline(always)]
    pub fn put(&mut self, next: Self) {
        let before = std::mem::replace(self, next);
        if matches!(before, Self::Queued | Self::Running) {
            std::mem::forget(before);
        }
    }
}

/// The fields of a task beyond its future's.
#[derive(Debug)]
pub struct TaskState {
    /// The loop, when it is one of ours.
    pub home: Option<Py<LoopState>>,
    pub coroutine: Option<Hidden<PyAny>>,
    /// What the coroutine awaits, if it is out of the cycle collector's sight.
    pub awaits: Option<Box<AwaitChain>>,
    pub context: Option<Hidden<PyAny>>,
    pub name: Name,
    pub wait: Wait,
    /// Its place among the pending tasks of its loop, from 1.
    pub place: Option<NonZeroU32>,
    pub cancels: u32,
    /// When the loop had slept, or looked at its driver, before the last step began (`Times::busy_since`): the clock as
    /// the steps of tasks have it, which read none. 0: none has begun, or on a loop that is not ours.
    pub step_began: u64,
    pub lane: Lane,
    /// Out of the cycle collector's sight (`accel::collector`).
    pub hidden: bool,
    /// The first step has been made.
    pub begun: bool,
    /// The next step throws CancelledError in.
    pub must_cancel: bool,
    pub log_destroy_pending: bool,
}

impl Default for TaskState {
    fn default() -> Self {
        Self {
            home: None,
            coroutine: None,
            awaits: None,
            context: None,
            name: Name::Number(0),
            wait: Wait::Queued,
            place: None,
            cancels: 0,
            step_began: 0,
            lane: Lane::Normal,
            hidden: false,
            begun: false,
            must_cancel: false,
            log_destroy_pending: true,
        }
    }
}
