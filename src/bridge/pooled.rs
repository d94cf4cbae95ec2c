//! `RustFuture` for the accelerations: its instances are pooled, its slots without PyO3's wrappers. A build for many
//! Pythons (`abi3`) does without.

use pyo3::prelude::*;
use pyo3::types::PyType;

use super::awaitable::RustFuture;
use crate::accel::pool::{Pooled, has_pool};
use crate::accel::{slots, stop_iteration};

impl Pooled for RustFuture {
    has_pool!((RustFuture,), RustFuture);
    const SPARE: usize = 256;

    #[inline]
    fn release(values: (Self,), py: Python<'_>) {
        drop(values);
        stop_iteration::take_back(py);
    }

    fn install_slots(class: &Bound<'_, PyType>) {
        slots::install_await::<Self>(class);
        slots::install_next::<Self>(class);
        slots::install_send::<Self>(class);
    }
}
