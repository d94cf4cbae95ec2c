//! The contexts that callbacks run in, made when they are needed.
//!
//! asyncio copies the current context for each `call_soon`, so that what a callback sets is its own. Nearly all of
//! these copies are equal to the last one and never changed. So a handle is given a *snapshot*: a copy that nobody
//! enters and that all handles made from the same variables share. Its callback runs in a copy of that, in which the
//! turn stays for the next callback of the snapshot as long as nothing is set in it; a copy that was left unchanged and
//! that nobody holds is used again. Whoever can see a handle's context sees one that is the handle's alone
//! (`handle.rs`).
//!
//! Loop state, guarded by the GIL. A pause or the end of a run lets go of what is kept, and so of the variables'
//! values.

use pyo3::prelude::*;

use crate::accel::contexts::{self, CONTEXTS, Variables};
use crate::py::cell::GilCell;
use crate::py::{context, error, refs};

/// The latest snapshot of a loop.
struct Kept {
    snapshot: Py<PyAny>,
    variables: Variables,
    /// A copy of the snapshot that nobody uses.
    spare: Option<Py<PyAny>>,
}

/// The copy of a snapshot that the turn is in.
struct Entered {
    copy: Py<PyAny>,
    snapshot: Py<PyAny>,
    variables: Option<Variables>,
}

#[derive(Default)]
struct State {
    kept: Option<Kept>,
    entered: Option<Entered>,
}

/// The snapshots of one loop.
#[derive(Default)]
pub struct Snapshots(GilCell<State>);

impl Snapshots {
    /// The context for a callback that was given none: true, a snapshot; false, a copy of the current one, its own.
    ///
    /// # Errors
    /// MemoryError.
    #[inline(always)]
    pub fn for_callback<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, bool)> {
        if CONTEXTS.is_on() { Ok((self.snapshot(py)?, true)) } else { Ok((context::copy_current(py)?, false)) }
    }

    /// A snapshot of the current context, to be entered by nobody.
    ///
    /// # Errors
    /// MemoryError.
    #[inline(always)]
    fn snapshot<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let current = contexts::current(py).map(|current| current.variables);
        match self.known(py, current) {
            Some(known) => Ok(known),
            None => self.fresh(py),
        }
    }

    /// The latest snapshot, if it has these variables.
    #[inline(always)]
    fn known<'py>(&self, py: Python<'py>, variables: Option<Variables>) -> Option<Bound<'py, PyAny>> {
        let known = self.0.with(py, |state| match &state.kept {
            Some(kept) if Some(kept.variables) == variables => Some(kept.snapshot.clone_ref(py)),
            _ => None,
        });
        known.map(|known| known.into_bound(py))
    }

    fn fresh<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let fresh = context::copy_current(py)?;
        let variables = contexts::variables(&fresh);
        if let Some(known) = self.known(py, variables) {
            return Ok(known);
        }
        let snapshot = fresh.clone().unbind();
        let kept = variables.map(|variables| Kept { snapshot, variables, spare: None });
        let old = self.0.with(py, |state| std::mem::replace(&mut state.kept, kept));
        release(py, old);
        Ok(fresh)
    }

    /// Run `f` in a context with the snapshot's variables that is nobody else's. When `f` fails (gives false),
    /// `failed` gets the context, which has been left.
    ///
    /// # Errors
    /// MemoryError.
    #[inline(always)]
    pub fn run_in_copy<'py>(
        &self,
        snapshot: Bound<'py, PyAny>,
        f: &mut impl FnMut() -> bool,
        failed: impl FnOnce(&Bound<'py, PyAny>),
    ) -> PyResult<()> {
        let py = snapshot.py();
        let current = contexts::current(py);
        let is_there = self.0.with(py, |state| match (&state.entered, &current) {
            (Some(entered), Some(current)) => {
                entered.snapshot.is(&snapshot)
                    && Some(current.variables) == entered.variables
                    && current.is(&entered.copy)
            }
            _ => false,
        });
        if is_there {
            drop(snapshot);
        } else {
            self.leave(py);
            self.enter(snapshot)?;
        }
        if !f()
            && let Some(entered) = self.exit(py)
        {
            failed(&entered.copy.into_bound(py));
            entered.snapshot.drop_ref(py);
        }
        Ok(())
    }

    #[inline]
    fn enter(&self, snapshot: Bound<'_, PyAny>) -> PyResult<()> {
        let py = snapshot.py();
        let spare = self.0.with(py, |state| match &mut state.kept {
            Some(kept) if kept.snapshot.is(&snapshot) => kept.spare.take(),
            _ => None,
        });
        let copy = match spare {
            Some(spare) => spare.into_bound(py),
            None => context::copy(&snapshot)?,
        };
        let variables = contexts::variables(&copy);
        context::enter(&copy)?;
        let entered = Entered { copy: copy.unbind(), snapshot: snapshot.unbind(), variables };
        self.0.with(py, |state| state.entered = Some(entered));
        Ok(())
    }

    /// Leave the copy that the turn is in, if it is in one.
    fn exit(&self, py: Python<'_>) -> Option<Entered> {
        let entered = self.0.with(py, |state| state.entered.take())?;
        if let Err(raised) = context::exit(entered.copy.bind(py)) {
            error::unraisable(py, raised, None);
        }
        Some(entered)
    }

    /// Before anything that is no callback of a snapshot.
    #[inline(always)]
    pub fn leave(&self, py: Python<'_>) {
        if self.0.with(py, |state| state.entered.is_some()) {
            self.leave_entered(py);
        }
    }

    fn leave_entered(&self, py: Python<'_>) {
        let Some(Entered { copy, snapshot, .. }) = self.exit(py) else { return };
        let copy = copy.into_bound(py);
        let variables = if refs::is_shared(&copy) { None } else { contexts::variables(&copy) };
        let refused = self.0.with(py, |state| match &mut state.kept {
            Some(kept) if kept.spare.is_none() && kept.snapshot.is(&snapshot) && Some(kept.variables) == variables => {
                kept.spare = Some(copy.unbind());
                None
            }
            _ => Some(copy),
        });
        drop(refused);
        snapshot.drop_ref(py);
    }

    /// Let go of what is kept.
    #[inline]
    pub fn forget(&self, py: Python<'_>) {
        self.leave(py);
        let kept = self.0.with(py, |state| state.kept.take());
        release(py, kept);
    }

    /// What the collector is to see.
    pub fn traverse(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        let Some(state) = self.0.peek_in_traverse(visit) else { return Ok(()) };
        if let Some(kept) = &state.kept {
            visit.call(&kept.snapshot)?;
            visit.call(&kept.spare)?;
        }
        if let Some(entered) = &state.entered {
            visit.call(&entered.copy)?;
            visit.call(&entered.snapshot)?;
        }
        Ok(())
    }
}

/// Drop it here and now: another thread of Python's own may be the one that calls.
fn release(py: Python<'_>, kept: Option<Kept>) {
    if let Some(kept) = kept {
        kept.snapshot.drop_ref(py);
        if let Some(spare) = kept.spare {
            spare.drop_ref(py);
        }
    }
}
