//! CPython with a sanitizer's runtime in it: extension modules that are built for the sanitizer find it here.

#![no_main]

use std::ffi::{c_char, c_int, c_void};

unsafe extern "C" {
    fn Py_BytesMain(argc: c_int, argv: *mut *mut c_char) -> c_int;
    fn __sanitizer_symbolize_pc(pc: *mut c_void, format: *const c_char, text: *mut c_char, size: usize);
}

#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, argv: *mut *mut c_char) -> c_int {
    let mut text: [c_char; 64] = [0; 64];
    // SAFETY: a buffer and its size; the arguments as they came. The runtime starts the program that finds names when it
    // first needs one: here, for a test would take the pipes to it for its own leak.
    unsafe {
        __sanitizer_symbolize_pc(main as *mut c_void, c"%f".as_ptr(), text.as_mut_ptr(), text.len());
        Py_BytesMain(argc, argv)
    }
}
