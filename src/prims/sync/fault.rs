//! What goes wrong with a channel, and the exceptions that say so.

use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

create_exception!(pyloop.sync, Closed, PyException, "The other side is gone, or this handle was closed.");
create_exception!(pyloop.sync, Full, PyException, "`try_send`: the channel holds as many items as it may.");
create_exception!(pyloop.sync, Empty, PyException, "`try_recv`: there is nothing to receive now.");
create_exception!(pyloop.sync, NoPermits, PyException, "`try_acquire`: fewer permits are free than were asked for.");

/// A receiver of a broadcast was too slow: `count` items that it had not received were overwritten.
///
/// The next receive gives the oldest item that is still there.
#[pyclass(frozen, extends = PyException, subclass, module = "pyloop.sync")]
#[derive(Debug)]
pub struct Lagged {
    /// How many items this receiver has missed.
    #[pyo3(get)]
    count: u64,
}

#[pymethods]
impl Lagged {
    #[new]
    fn new(count: u64) -> Self {
        Self { count }
    }

    fn __str__(&self) -> String {
        let items = if self.count == 1 { "item was" } else { "items were" };
        format!("{} {items} overwritten before this receiver came to them", self.count)
    }
}

/// Why an operation on a channel failed. Made without the GIL, turned into an exception with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The text says what is closed.
    Closed(&'static str),
    Full,
    Empty,
    NoPermits,
    /// So many items were missed.
    Lagged(u64),
}

/// Every receiver of a channel is gone, or has been closed.
pub const NO_RECEIVER: Fault = Fault::Closed("the receiving side is closed");
/// Every sender of a channel is gone, and nothing is left in it.
pub const NO_SENDER: Fault = Fault::Closed("the sending side is closed and nothing is left to receive");
/// This very handle was closed, or given away.
pub const HANDLE_CLOSED: Fault = Fault::Closed("this end of the channel was closed");

impl From<Fault> for PyErr {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Closed(what) => Closed::new_err(what),
            Fault::Full => Full::new_err("the channel is full"),
            Fault::Empty => Empty::new_err("the channel is empty"),
            Fault::NoPermits => NoPermits::new_err("not enough permits are free"),
            Fault::Lagged(count) => PyErr::new::<Lagged, _>((count,)),
        }
    }
}

/// What `__anext__` makes of a fault: a closed channel ends the iteration.
pub fn end_of_iteration(fault: Fault) -> PyErr {
    match fault {
        Fault::Closed(_) => pyo3::exceptions::PyStopAsyncIteration::new_err(()),
        other => other.into(),
    }
}
