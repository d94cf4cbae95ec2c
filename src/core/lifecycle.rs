//! Whether a loop may run, must stop, or is closed: one atomic state, readable and stoppable from any thread.
//!
//! | from \ event   | `begin`       | `request_stop` | `end`  | `close`          |
//! |----------------|---------------|----------------|--------|------------------|
//! | `Idle`         | `Running`     | `IdleStopped`  | -      | `Closed`         |
//! | `IdleStopped`  | `Stopping`    | same           | -      | `Closed`         |
//! | `Running`      | error Running | `Stopping`     | `Idle` | error Running    |
//! | `Stopping`     | error Running | same           | `Idle` | error Running    |
//! | `Closed`       | error Closed  | same           | -      | same, not first  |
//!
//! `IdleStopped` is asyncio's `stop()` before the run: the run then lasts one turn.

use std::sync::atomic::{AtomicU8, Ordering};

/// Where a loop is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    Idle = 0,
    IdleStopped = 1,
    Running = 2,
    Stopping = 3,
    Closed = 4,
}

impl Stage {
    #[inline(always)]
    fn of(raw: u8) -> Self {
        match raw {
            0 => Self::Idle,
            1 => Self::IdleStopped,
            2 => Self::Running,
            3 => Self::Stopping,
            _ => Self::Closed,
        }
    }
}

/// Why a transition was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    Closed,
    Running,
}

/// The atomic stage of one loop.
#[derive(Debug)]
pub struct Lifecycle(AtomicU8);

impl Default for Lifecycle {
    fn default() -> Self {
        Self(AtomicU8::new(Stage::Idle as u8))
    }
}

impl Lifecycle {
    /// The stage now; another thread may change it at once.
    pub fn stage(&self) -> Stage {
        Stage::of(self.0.load(Ordering::SeqCst))
    }

    fn update(&self, next: impl Fn(Stage) -> Result<Stage, Refused>) -> Result<Stage, Refused> {
        let mut now = self.0.load(Ordering::SeqCst);
        loop {
            let to = next(Stage::of(now))? as u8;
            match self.0.compare_exchange_weak(now, to, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(before) => return Ok(Stage::of(before)),
                Err(actual) => now = actual,
            }
        }
    }

    /// A run begins.
    ///
    /// # Errors
    /// The loop is closed, or it is running already.
    #[must_use = "a refused run must not happen"]
    pub fn begin(&self) -> Result<(), Refused> {
        self.update(|stage| match stage {
            Stage::Idle => Ok(Stage::Running),
            Stage::IdleStopped => Ok(Stage::Stopping),
            Stage::Running | Stage::Stopping => Err(Refused::Running),
            Stage::Closed => Err(Refused::Closed),
        })
        .map(drop)
    }

    /// `stop()`: the run ends after its turn; without a run the next one lasts one turn.
    pub fn request_stop(&self) {
        let asked = self.update(|stage| {
            Ok(match stage {
                Stage::Idle => Stage::IdleStopped,
                Stage::Running => Stage::Stopping,
                other => other,
            })
        });
        debug_assert!(asked.is_ok(), "a stop is never refused");
    }

    /// The run has ended.
    pub fn end(&self) {
        self.0.store(Stage::Idle as u8, Ordering::SeqCst);
    }

    /// Close for good. `Ok(true)`: this call closed it; `Ok(false)`: it was closed.
    ///
    /// # Errors
    /// The loop is running.
    #[must_use = "a running loop is not closed"]
    pub fn close(&self) -> Result<bool, Refused> {
        let before = self.update(|stage| match stage {
            Stage::Running | Stage::Stopping => Err(Refused::Running),
            _ => Ok(Stage::Closed),
        })?;
        Ok(before != Stage::Closed)
    }

    // Asked for each callback and each turn: of the number itself, without `Stage::of`.

    #[inline(always)]
    pub fn is_running(&self) -> bool {
        let raw = self.0.load(Ordering::SeqCst);
        raw == Stage::Running as u8 || raw == Stage::Stopping as u8
    }

    #[inline(always)]
    pub fn is_closed(&self) -> bool {
        self.0.load(Ordering::SeqCst) == Stage::Closed as u8
    }

    #[inline(always)]
    pub fn is_stopping(&self) -> bool {
        let raw = self.0.load(Ordering::SeqCst);
        raw == Stage::Stopping as u8 || raw == Stage::IdleStopped as u8
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_stop_before_the_run_is_seen_by_the_run() {
        let life = Lifecycle::default();
        life.request_stop();
        assert_eq!(life.begin(), Ok(()));
        assert!(life.is_running() && life.is_stopping());
        life.end();
        assert_eq!(life.stage(), Stage::Idle);
    }

    #[test]
    fn a_run_is_refused_while_running_and_when_closed() {
        let life = Lifecycle::default();
        assert_eq!(life.begin(), Ok(()));
        assert_eq!(life.begin(), Err(Refused::Running));
        assert_eq!(life.close(), Err(Refused::Running));
        life.end();
        assert_eq!(life.close(), Ok(true));
        assert_eq!(life.close(), Ok(false));
        assert_eq!(life.begin(), Err(Refused::Closed));
        life.request_stop();
        assert!(life.is_closed());
    }
}
