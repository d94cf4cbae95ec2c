//! The OpenSSL that CPython's `_ssl` is linked with: the functions of it that are called here, by their addresses.

use std::borrow::Cow;
use std::ffi::{CStr, CString, c_char, c_int, c_long, c_ulong, c_void};
use std::ptr::NonNull;

/// OpenSSL's `SSL`: one connection.
#[repr(C)]
pub struct Ssl(c_void);

/// OpenSSL's `BIO`: of a `MemoryBIO`, bytes on their way.
#[repr(C)]
pub struct Bio(c_void);

/// OpenSSL's `BIO_METHOD`: what a kind of BIO does.
#[repr(C)]
pub struct Method(c_void);

/// Of a BIO of one's own: read.
pub type Read = unsafe extern "C" fn(*mut Bio, *mut c_char, c_int) -> c_int;
/// Write.
pub type Write = unsafe extern "C" fn(*mut Bio, *const c_char, c_int) -> c_int;
/// Everything else.
pub type Control = unsafe extern "C" fn(*mut Bio, c_int, c_long, *mut c_void) -> c_long;

/// The functions of OpenSSL that are called.
pub struct Library {
    pub read: unsafe extern "C" fn(*mut Ssl, *mut c_void, usize, *mut usize) -> c_int,
    pub write: unsafe extern "C" fn(*mut Ssl, *const c_void, usize, *mut usize) -> c_int,
    pub get_error: unsafe extern "C" fn(*const Ssl, c_int) -> c_int,
    pub has_pending: unsafe extern "C" fn(*const Ssl) -> c_int,
    pub peek_error: unsafe extern "C" fn() -> c_ulong,
    pub clear_errors: unsafe extern "C" fn(),
    pub read_bio: unsafe extern "C" fn(*const Ssl) -> *mut Bio,
    pub write_bio: unsafe extern "C" fn(*const Ssl) -> *mut Bio,
    pub set_read_bio: unsafe extern "C" fn(*mut Ssl, *mut Bio),
    pub set_write_bio: unsafe extern "C" fn(*mut Ssl, *mut Bio),
    pub bio_new: unsafe extern "C" fn(*const Method) -> *mut Bio,
    pub bio_free: unsafe extern "C" fn(*mut Bio) -> c_int,
    pub bio_up_ref: unsafe extern "C" fn(*mut Bio) -> c_int,
    pub bio_type: unsafe extern "C" fn(*const Bio) -> c_int,
    pub bio_read: unsafe extern "C" fn(*mut Bio, *mut c_void, c_int) -> c_int,
    pub bio_write: unsafe extern "C" fn(*mut Bio, *const c_void, c_int) -> c_int,
    pub bio_ctrl: unsafe extern "C" fn(*mut Bio, c_int, c_long, *mut c_void) -> c_long,
    pub bio_pending: unsafe extern "C" fn(*mut Bio) -> usize,
    pub bio_set_data: unsafe extern "C" fn(*mut Bio, *mut c_void),
    pub bio_get_data: unsafe extern "C" fn(*mut Bio) -> *mut c_void,
    pub bio_set_flags: unsafe extern "C" fn(*mut Bio, c_int),
    pub bio_clear_flags: unsafe extern "C" fn(*mut Bio, c_int),
    pub bio_test_flags: unsafe extern "C" fn(*const Bio, c_int) -> c_int,
    pub method_new: unsafe extern "C" fn(c_int, *const c_char) -> *mut Method,
    pub method_set_read: unsafe extern "C" fn(*mut Method, Read) -> c_int,
    pub method_set_write: unsafe extern "C" fn(*mut Method, Write) -> c_int,
    pub method_set_ctrl: unsafe extern "C" fn(*mut Method, Control) -> c_int,
}

impl Library {
    /// The functions that the extension module at `path` is linked with.
    ///
    /// # Errors
    /// What is missing.
    pub fn linked_with(path: &str) -> Result<Self, Cow<'static, str>> {
        let path = CString::new(path).map_err(|_| "a path with a NUL in it")?;
        // SAFETY: `path` ends with NUL. What is loaded already is not loaded again, and is never unloaded: CPython
        // keeps its extension modules.
        let module = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
        let module = NonNull::new(module).ok_or("the ssl module is not loaded from a file")?;
        let find = |name: &'static CStr| -> Result<*mut c_void, Cow<'static, str>> {
            // SAFETY: the handle is dlopen's, and the name ends with NUL.
            let found = unsafe { libc::dlsym(module.as_ptr(), name.as_ptr()) };
            if found.is_null() {
                Err(format!("the ssl module has no {}", name.to_string_lossy()).into())
            } else {
                Ok(found)
            }
        };
        // SAFETY: these are OpenSSL's functions of these names, whose types its documentation gives.
        unsafe {
            use std::mem::transmute;
            #[expect(clippy::missing_transmute_annotations, reason = "the types stand in the fields above")]
            Ok(Self {
                read: transmute(find(c"SSL_read_ex")?),
                write: transmute(find(c"SSL_write_ex")?),
                get_error: transmute(find(c"SSL_get_error")?),
                has_pending: transmute(find(c"SSL_has_pending")?),
                peek_error: transmute(find(c"ERR_peek_error")?),
                clear_errors: transmute(find(c"ERR_clear_error")?),
                read_bio: transmute(find(c"SSL_get_rbio")?),
                write_bio: transmute(find(c"SSL_get_wbio")?),
                set_read_bio: transmute(find(c"SSL_set0_rbio")?),
                set_write_bio: transmute(find(c"SSL_set0_wbio")?),
                bio_new: transmute(find(c"BIO_new")?),
                bio_free: transmute(find(c"BIO_free")?),
                bio_up_ref: transmute(find(c"BIO_up_ref")?),
                bio_type: transmute(find(c"BIO_method_type")?),
                bio_read: transmute(find(c"BIO_read")?),
                bio_write: transmute(find(c"BIO_write")?),
                bio_ctrl: transmute(find(c"BIO_ctrl")?),
                bio_pending: transmute(find(c"BIO_ctrl_pending")?),
                bio_set_data: transmute(find(c"BIO_set_data")?),
                bio_get_data: transmute(find(c"BIO_get_data")?),
                bio_set_flags: transmute(find(c"BIO_set_flags")?),
                bio_clear_flags: transmute(find(c"BIO_clear_flags")?),
                bio_test_flags: transmute(find(c"BIO_test_flags")?),
                method_new: transmute(find(c"BIO_meth_new")?),
                method_set_read: transmute(find(c"BIO_meth_set_read")?),
                method_set_write: transmute(find(c"BIO_meth_set_write")?),
                method_set_ctrl: transmute(find(c"BIO_meth_set_ctrl")?),
            })
        }
    }
}
