//! What a TLS connection receives from and sends to: `BIO`s of our own, in front of its two `MemoryBIO`s.
//!
//! OpenSSL's memory BIO copies what is put into it, writes zeros before it does, and grows by moving everything: for
//! 100 KiB that costs more than to encrypt them. So while records are taken apart natively, they are read from where
//! the kernel has put them; and while some are made, they are collected in a buffer that is sent as it is. At all other
//! times what is asked of these BIOs is asked of the `MemoryBIO`s, as if they were not there.

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_long, c_void};
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

use super::openssl::{Bio, Library, Method, Ssl};

/// `BIO_TYPE_SOURCE_SINK`, of no type in particular.
const SOURCE_SINK: c_int = 0x0400;

/// `BIO_TYPE_MEM`.
const MEMORY: c_int = 0x0401;

/// `BIO_FLAGS_RWS | BIO_FLAGS_SHOULD_RETRY`: what a BIO says of a read or a write that it could not do.
const RETRY_FLAGS: c_int = 0x0f;

/// `BIO_CTRL_PUSH`, `BIO_CTRL_POP`, `BIO_CTRL_PENDING`, `BIO_CTRL_FLUSH`, `BIO_CTRL_DUP`; `BIO_CTRL_GET_KTLS_SEND` and
/// `_RECV`.
const PUSH: c_int = 6;
const POP: c_int = 7;
const PENDING: c_int = 10;
const FLUSH: c_int = 11;
const DUP: c_int = 12;
const KTLS_SEND: c_int = 73;
const KTLS_RECV: c_int = 76;

/// The two kinds.
struct Methods {
    incoming: NonNull<Method>,
    outgoing: NonNull<Method>,
}

// SAFETY: a BIO_METHOD is not changed when it has been made, and OpenSSL only reads it.
unsafe impl Send for Methods {}
// SAFETY: a BIO_METHOD is not changed when it has been made.
unsafe impl Sync for Methods {}

/// What the two BIOs of a connection know. They are called by OpenSSL, within a call of ours or of CPython's for the
/// connection, of which there is one at a time.
pub struct Ways {
    library: &'static Library,
    ssl: NonNull<Ssl>,
    /// Those of the `MemoryBIO`s, to which it has references.
    incoming: NonNull<Bio>,
    outgoing: NonNull<Bio>,
    /// What has been received and not been read yet: where it is, and how much.
    received: Cell<*const u8>,
    left: Cell<usize>,
    /// There may be something in `incoming`, which has come before.
    has_earlier: Cell<bool>,
    /// Where records are collected; null: they go into `outgoing`.
    collected: Cell<*mut Vec<u8>>,
    /// There may be something in `outgoing`.
    has_outgoing: Cell<bool>,
}

/// The BIOs of a connection, while they are in front of its own.
pub struct Bios(NonNull<Ways>);

impl Bios {
    /// Put them there. None: it has other BIOs than `MemoryBIO`s; there is no memory.
    ///
    /// # Safety
    /// The connection has these two BIOs, for receiving and sending, and lives as long as what is returned. No function
    /// of OpenSSL's runs for it, now or when that is dropped.
    pub unsafe fn open(
        library: &'static Library,
        ssl: NonNull<Ssl>,
        [incoming, outgoing]: [NonNull<Bio>; 2],
    ) -> Option<Self> {
        // SAFETY: the caller says that they live.
        let is_plain = |bio: NonNull<Bio>| unsafe { (library.bio_type)(bio.as_ptr()) } == MEMORY;
        if !is_plain(incoming) || !is_plain(outgoing) {
            return None;
        }
        let methods = methods(library)?;
        let ways = Box::new(Ways {
            library,
            ssl,
            incoming,
            outgoing,
            received: Cell::new(ptr::null()),
            left: Cell::new(0),
            has_earlier: Cell::new(true),
            collected: Cell::new(ptr::null_mut()),
            has_outgoing: Cell::new(true),
        });
        // SAFETY: the methods are whole. A BIO that is not given to the connection is freed. The connection has
        // references to its BIOs: its own are kept by another, for `drop` to give back.
        unsafe {
            let reader = NonNull::new((library.bio_new)(methods.incoming.as_ptr()))?;
            let Some(writer) = NonNull::new((library.bio_new)(methods.outgoing.as_ptr())) else {
                (library.bio_free)(reader.as_ptr());
                return None;
            };
            let ways = NonNull::from(Box::leak(ways));
            (library.bio_set_data)(reader.as_ptr(), ways.as_ptr().cast());
            (library.bio_set_data)(writer.as_ptr(), ways.as_ptr().cast());
            (library.bio_up_ref)(incoming.as_ptr());
            (library.bio_up_ref)(outgoing.as_ptr());
            (library.set_read_bio)(ssl.as_ptr(), reader.as_ptr());
            (library.set_write_bio)(ssl.as_ptr(), writer.as_ptr());
            Some(Self(ways))
        }
    }
}

impl Deref for Bios {
    type Target = Ways;

    #[inline(always)]
    fn deref(&self) -> &Ways {
        // SAFETY: it is freed when this is dropped.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Bios {
    fn drop(&mut self) {
        let (library, ssl) = (self.library, self.ssl.as_ptr());
        // SAFETY: the connection lives, says who made this. It takes its own BIOs, with the references that were kept,
        // and lets go of ours, which nobody else has and which nobody calls any more. What they know is the Box that
        // `open` has leaked.
        unsafe {
            (library.set_read_bio)(ssl, self.incoming.as_ptr());
            (library.set_write_bio)(ssl, self.outgoing.as_ptr());
            drop(Box::from_raw(self.0.as_ptr()));
        }
    }
}

impl Ways {
    /// How many bytes wait in `incoming`.
    #[inline]
    pub fn incoming(&self) -> usize {
        // SAFETY: there is a reference to the BIO.
        unsafe { (self.library.bio_pending)(self.incoming.as_ptr()) }
    }

    /// How many bytes wait in `outgoing`. Only what OpenSSL writes gets there.
    #[inline]
    pub fn outgoing(&self) -> usize {
        if !self.has_outgoing.get() {
            return 0;
        }
        // SAFETY: there is a reference to the BIO.
        let size = unsafe { (self.library.bio_pending)(self.outgoing.as_ptr()) };
        self.has_outgoing.set(size > 0);
        size
    }

    /// Put bytes into `incoming`, which copies them. False: there is no memory for them. Runs no Python code.
    pub fn put_incoming(&self, bytes: &[u8]) -> bool {
        self.put(self.incoming, bytes)
    }

    /// Put bytes into `outgoing`, which copies them. False: there is no memory for them. Runs no Python code.
    pub fn put_outgoing(&self, bytes: &[u8]) -> bool {
        self.has_outgoing.set(true);
        self.put(self.outgoing, bytes)
    }

    /// Take so many bytes of `outgoing`. False: it has fewer.
    ///
    /// # Safety
    /// `place` may be written to for `size` bytes.
    pub unsafe fn take_outgoing(&self, place: *mut u8, size: usize) -> bool {
        let Ok(length) = c_int::try_from(size) else { return false };
        // SAFETY: there is a reference to the BIO; the caller says that there is room.
        unsafe { (self.library.bio_read)(self.outgoing.as_ptr(), place.cast(), length) == length }
    }

    fn put(&self, bio: NonNull<Bio>, bytes: &[u8]) -> bool {
        let Ok(length) = c_int::try_from(bytes.len()) else { return false };
        // SAFETY: there is a reference to the BIO, which copies as many bytes as there are.
        length == 0 || unsafe { (self.library.bio_write)(bio.as_ptr(), bytes.as_ptr().cast(), length) } == length
    }

    /// Have `f` read from these bytes, after what is in `incoming`. What it leaves is put there. False: there was no
    /// memory for that. `f` may run Python code, which receives nothing else for this connection.
    #[inline]
    pub fn reading<R>(&self, bytes: &[u8], f: impl FnOnce() -> R) -> (R, bool) {
        /// Nothing is read from the bytes when `f` is over, however that comes about.
        struct Within<'a>(&'a Ways);
        impl Drop for Within<'_> {
            fn drop(&mut self) {
                self.0.left.set(0);
            }
        }
        self.has_earlier.set(self.incoming() > 0);
        self.received.set(bytes.as_ptr());
        self.left.set(bytes.len());
        let within = Within(self);
        let answer = f();
        let rest = &bytes[bytes.len().saturating_sub(self.left.get())..];
        let is_kept = rest.is_empty() || self.put_incoming(rest);
        drop(within);
        (answer, is_kept)
    }

    /// Whether there are bytes to be read, of those that `reading` was given or of earlier ones.
    #[inline]
    pub fn has_more(&self) -> bool {
        self.left.get() > 0 || (self.has_earlier.get() && self.incoming() > 0)
    }

    /// Have `f` write into this buffer, behind what is in it.
    #[inline]
    pub fn collecting<R>(&self, records: &mut Vec<u8>, f: impl FnOnce() -> R) -> R {
        /// Nothing is written into the buffer when `f` is over.
        struct Within<'a>(&'a Ways, *mut Vec<u8>);
        impl Drop for Within<'_> {
            fn drop(&mut self) {
                self.0.collected.set(self.1);
            }
        }
        let _within = Within(self, self.collected.replace(records));
        f()
    }

    /// Read what comes next: how many bytes; None: what `incoming` says.
    #[inline]
    fn read(&self, place: *mut c_char, size: c_int) -> Option<c_int> {
        let left = self.left.get();
        if left == 0 || self.has_earlier.get() {
            return None;
        }
        let count = left.min(usize::try_from(size).unwrap_or(0));
        // SAFETY: `reading` has been given `left` bytes there, and is under way; OpenSSL has room for `size` in
        // `place`, which is its own.
        unsafe {
            ptr::copy_nonoverlapping(self.received.get(), place.cast::<u8>(), count);
            self.received.set(self.received.get().add(count));
        }
        self.left.set(left - count);
        // No more than `size`, which is one.
        Some(count as c_int)
    }

    /// Collect bytes: how many, or -1 when there is no memory. None: they are for `outgoing`.
    #[inline]
    fn write(&self, place: *const c_char, size: c_int) -> Option<c_int> {
        // SAFETY: `collecting` has a buffer there, which nobody else uses until it has ended; or it is null.
        let records = unsafe { self.collected.get().as_mut()? };
        let count = usize::try_from(size).unwrap_or(0);
        if records.try_reserve(count).is_err() {
            return Some(-1);
        }
        // SAFETY: OpenSSL gives that many bytes.
        records.extend_from_slice(unsafe { std::slice::from_raw_parts(place.cast::<u8>(), count) });
        Some(size)
    }
}

/// What a BIO knows.
///
/// # Safety
/// It is one of ours, and its connection has it.
#[inline]
unsafe fn ways<'a>(get_data: unsafe extern "C" fn(*mut Bio) -> *mut c_void, bio: *mut Bio) -> &'a Ways {
    // SAFETY: `open` has put it there, and `drop` takes the BIO from the connection before it frees it.
    unsafe { &*get_data(bio).cast::<Ways>() }
}

/// The library, for what OpenSSL calls.
static LIBRARY: OnceLock<&'static Library> = OnceLock::new();

/// The kinds of BIOs, made once. None: there is no memory.
fn methods(library: &'static Library) -> Option<&'static Methods> {
    static METHODS: OnceLock<Option<Methods>> = OnceLock::new();
    LIBRARY.get_or_init(|| library);
    METHODS
        .get_or_init(|| {
            // SAFETY: the name ends with NUL, and lives for ever, as the functions do, which are of the types that
            // OpenSSL calls. What is not complete is not freed: nothing of ours runs without memory for these.
            unsafe {
                let incoming = NonNull::new((library.method_new)(SOURCE_SINK, c"pyloop incoming".as_ptr()))?;
                let outgoing = NonNull::new((library.method_new)(SOURCE_SINK, c"pyloop outgoing".as_ptr()))?;
                let is_complete = (library.method_set_read)(incoming.as_ptr(), read) == 1
                    && (library.method_set_ctrl)(incoming.as_ptr(), control_incoming) == 1
                    && (library.method_set_write)(outgoing.as_ptr(), write) == 1
                    && (library.method_set_ctrl)(outgoing.as_ptr(), control_outgoing) == 1;
                is_complete.then_some(Methods { incoming, outgoing })
            }
        })
        .as_ref()
}

/// Say of a read or a write, as a BIO does, what another has said of it.
///
/// # Safety
/// Both live.
#[cold]
unsafe fn say_as(library: &Library, bio: *mut Bio, other: NonNull<Bio>) {
    // SAFETY: the caller says that both live.
    unsafe {
        (library.bio_clear_flags)(bio, RETRY_FLAGS);
        (library.bio_set_flags)(bio, (library.bio_test_flags)(other.as_ptr(), RETRY_FLAGS));
    }
}

unsafe extern "C" fn read(bio: *mut Bio, place: *mut c_char, size: c_int) -> c_int {
    let Some(library) = LIBRARY.get() else { return -1 };
    // SAFETY: OpenSSL calls it for a BIO of this kind, of a connection that lives.
    let ways = unsafe { ways(library.bio_get_data, bio) };
    if let Some(count) = ways.read(place, size) {
        return count;
    }
    // SAFETY: OpenSSL has room for `size` bytes; the connection has both BIOs.
    unsafe {
        let count = (library.bio_read)(ways.incoming.as_ptr(), place.cast(), size);
        if ways.left.get() > 0 && ways.incoming() == 0 {
            ways.has_earlier.set(false);
        }
        if count > 0 {
            return count;
        }
        if let Some(count) = ways.read(place, size) {
            return count;
        }
        say_as(library, bio, ways.incoming);
        count
    }
}

unsafe extern "C" fn write(bio: *mut Bio, place: *const c_char, size: c_int) -> c_int {
    let Some(library) = LIBRARY.get() else { return -1 };
    // SAFETY: OpenSSL calls it for a BIO of this kind, of a connection that lives.
    let ways = unsafe { ways(library.bio_get_data, bio) };
    if let Some(count) = ways.write(place, size) {
        return count;
    }
    ways.has_outgoing.set(true);
    // SAFETY: OpenSSL gives `size` bytes; the connection has both BIOs.
    unsafe {
        let count = (library.bio_write)(ways.outgoing.as_ptr(), place.cast(), size);
        say_as(library, bio, ways.outgoing);
        count
    }
}

unsafe extern "C" fn control_incoming(bio: *mut Bio, what: c_int, number: c_long, with: *mut c_void) -> c_long {
    let Some(library) = LIBRARY.get() else { return 0 };
    match what {
        // A memory BIO says the same.
        FLUSH => return 1,
        KTLS_RECV | KTLS_SEND | PUSH | POP | DUP => return 0,
        _ => {}
    }
    // SAFETY: OpenSSL calls it for a BIO of this kind, of a connection that lives, and has a BIO of its memory asked.
    unsafe {
        let ways = ways(library.bio_get_data, bio);
        let answer = (library.bio_ctrl)(ways.incoming.as_ptr(), what, number, with);
        // What has been received is there too.
        if what == PENDING { answer + c_long::try_from(ways.left.get()).unwrap_or(0) } else { answer }
    }
}

unsafe extern "C" fn control_outgoing(bio: *mut Bio, what: c_int, number: c_long, with: *mut c_void) -> c_long {
    let Some(library) = LIBRARY.get() else { return 0 };
    match what {
        // A memory BIO says the same.
        FLUSH => return 1,
        KTLS_RECV | KTLS_SEND | PUSH | POP | DUP => return 0,
        _ => {}
    }
    // SAFETY: OpenSSL calls it for a BIO of this kind, of a connection that lives, and has a BIO of its memory asked.
    unsafe { (library.bio_ctrl)(ways(library.bio_get_data, bio).outgoing.as_ptr(), what, number, with) }
}
