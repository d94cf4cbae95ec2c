//! CPython with a sanitizer's runtime in it: extension modules that are built for the sanitizer find it here.

#![no_main]

use std::ffi::{c_char, c_int};

unsafe extern "C" {
    fn Py_BytesMain(argc: c_int, argv: *mut *mut c_char) -> c_int;
}

#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, argv: *mut *mut c_char) -> c_int {
    // SAFETY: the arguments as they came.
    unsafe { Py_BytesMain(argc, argv) }
}
