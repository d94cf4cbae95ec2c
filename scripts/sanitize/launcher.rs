//! CPython with a sanitizer's runtime in it: extension modules that are built for the sanitizer find it here.

#![no_main]
#![feature(cfg_sanitize)]

use std::ffi::{c_char, c_int, c_void};

unsafe extern "C" {
    fn Py_BytesMain(argc: c_int, argv: *mut *mut c_char) -> c_int;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn __sanitizer_symbolize_pc(pc: *mut c_void, format: *const c_char, text: *mut c_char, size: usize);
}

#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, argv: *mut *mut c_char) -> c_int {
    // AddressSanitizer knows an object of Python's when it has memory of its own. Set here, as tests start programs
    // without the variables that Python looks at.
    #[cfg(sanitize = "address")]
    // SAFETY: there is no other thread yet.
    unsafe {
        std::env::set_var("PYTHONMALLOC", "malloc");
    }
    let mut text: [c_char; 64] = [0; 64];
    // SAFETY: a buffer and its size, no place for a status; the arguments as they came. The runtime starts the program
    // that finds names when it first needs one: here, for a test would take the pipes to it for its own leak. That is
    // the script `llvm-symbolizer`, which leaves it running and ends: a test would take it for its own child.
    unsafe {
        __sanitizer_symbolize_pc(main as *mut c_void, c"%f".as_ptr(), text.as_mut_ptr(), text.len());
        waitpid(-1, std::ptr::null_mut(), 0);
        Py_BytesMain(argc, argv)
    }
}
