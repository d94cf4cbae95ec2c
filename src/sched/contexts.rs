//! The contexts that callbacks run in, made when they are needed.
//!
//! asyncio copies the current context for each `call_soon`, so that what a callback sets is its own. Nearly all of these
//! copies are equal to the last one and never changed. So a handle is given a *snapshot*: a copy that nobody enters
//! and that all handles made from the same variables share. Its callback runs in a copy of that, and the copy is used
//! again for the next callback of the snapshot, when nobody holds it and its variables are still the snapshot's.
//! Whoever can see a handle's context sees one that is the handle's alone (`handle.rs`).
//!
//! Loop state, guarded by the GIL. A pause or the end of a run lets go of what is kept, and so of the variables' values.

use pyo3::prelude::*;

use crate::py::cell::GilCell;
use crate::py::context::{self, Variables};
use crate::py::gc;

/// The latest snapshot of a loop.
struct Kept {
    snapshot: Py<PyAny>,
    variables: Variables,
    /// A copy of the snapshot that nobody uses.
    spare: Option<Py<PyAny>>,
}

/// The snapshots of one loop.
#[derive(Default)]
pub struct Contexts(GilCell<Option<Kept>>);

impl Contexts {
    /// A snapshot of the current context, to be entered by nobody.
    ///
    /// # Errors
    /// MemoryError.
    #[inline(always)]
    pub fn snapshot<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let fresh = context::copy_current(py)?;
        let variables = context::variables(&fresh);
        let known = self.0.with(py, |kept| match kept {
            Some(kept) if Some(kept.variables) == variables => Some(kept.snapshot.clone_ref(py)),
            _ => None,
        });
        match known {
            Some(known) => Ok(known.into_bound(py)),
            None => {
                let kept = variables.map(|variables| Kept { snapshot: fresh.clone().unbind(), variables, spare: None });
                let old = self.0.replace(py, kept);
                release(py, old);
                Ok(fresh)
            }
        }
    }

    /// Run `f` in a context with the snapshot's variables that is nobody else's; it is given to `f`.
    ///
    /// # Errors
    /// Those of `f`; MemoryError.
    #[inline(always)]
    pub fn run_in_copy<'py, R>(
        &self,
        snapshot: Bound<'py, PyAny>,
        f: impl FnOnce() -> PyResult<R>,
        failed: impl FnOnce(&Bound<'py, PyAny>),
    ) -> PyResult<R> {
        let py = snapshot.py();
        let spare = self.0.with(py, |kept| match kept {
            Some(kept) if kept.snapshot.is(&snapshot) => kept.spare.take(),
            _ => None,
        });
        let copy = match spare {
            Some(spare) => spare.into_bound(py),
            None => context::copy(&snapshot)?,
        };
        let ran = context::run_in(&copy, f);
        if ran.is_err() {
            failed(&copy);
        }
        if !gc::is_shared(&copy) {
            let variables = context::variables(&copy);
            let refused = self.0.with(py, |kept| match kept {
                Some(kept)
                    if kept.spare.is_none() && kept.snapshot.is(&snapshot) && Some(kept.variables) == variables =>
                {
                    kept.spare = Some(copy.unbind());
                    None
                }
                _ => Some(copy),
            });
            drop(refused);
        }
        ran
    }

    /// Let go of what is kept.
    #[inline]
    pub fn forget(&self, py: Python<'_>) {
        let kept = self.0.take(py);
        release(py, kept);
    }

    /// What the collector is to see.
    pub fn traverse(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        match self.0.peek_in_traverse() {
            Some(Some(kept)) => {
                visit.call(&kept.snapshot)?;
                visit.call(&kept.spare)
            }
            _ => Ok(()),
        }
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
