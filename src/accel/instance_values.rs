//! Where an instance of a class without slots keeps its attributes: those of asyncio's streams are read in place.
//!
//! CPython 3.13 and later have them behind the instance, in the order in which the class has seen them first, until
//! somebody replaces the dictionary or adds too much to it. In front of them stand four bytes: how many there is room
//! for, how many there are, that they are here, and that they are valid. To look one up by its name costs 250
//! instructions; to feed a `StreamReader` eight of them are needed, and that it has no methods of its own.
//!
//! Plain path: the attributes, by their names.

use std::ffi::c_ulong;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyType};
use pyo3::{Borrowed, ffi};

use super::{Acceleration, Probed, expect, raised};
use crate::py::call::{self, Object};
use crate::py::memory;

pub static INSTANCE_VALUES: Acceleration = Acceleration::new("instance_values");

/// `Py_TPFLAGS_INLINE_VALUES` of CPython 3.13 and later; before, nobody sets it.
const INLINE_VALUES: c_ulong = 1 << 2;

/// What stands in front of the values: capacity, size, embedded, valid.
type Head = [u8; 4];

/// The head, and what is left of its word.
const HEAD: usize = size_of::<usize>();

/// The most that a class has room for (`SHARED_KEYS_MAX_SIZE`).
const MOST: u8 = 30;

/// Where the instances of one class keep their attributes.
pub struct Values<const NAMED: usize> {
    class: Py<PyType>,
    /// How large an instance is without them.
    size: usize,
    /// How many values an instance has room for that has all of them. CPython gives those that are made first more.
    least: u8,
    /// The places of some, in the order in which they were asked for.
    named: [usize; NAMED],
    /// The places of all that asyncio sets.
    all: Box<[usize]>,
}

/// Attributes of one of asyncio's classes: their places, and each of them.
macro_rules! attributes {
    ($places:ident, $which:ident of $class:literal { $($name:ident = $text:literal,)* }) => {
        #[doc = concat!("Where `", $class, "` has what `", stringify!($which), "` names.")]
        pub static $places: PyOnceLock<Values<{ [$($text),*].len() }>> = PyOnceLock::new();

        #[doc = concat!("An attribute of `", $class, "`.")]
        #[derive(Clone, Copy, Debug)]
        pub enum $which {
            $($name,)*
        }

        impl $which {
            const NAMES: [&str; [$($text),*].len()] = [$($text),*];

            /// The attribute of this object: in its place, or by its name.
            ///
            /// # Errors
            /// What the look-up raises.
            #[inline]
            pub fn of<'py>(self, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
                let py = object.py();
                match $places.get(py).and_then(|places| places.value(object, self as usize)) {
                    Some(value) => Ok(value.to_owned()),
                    None => object.try_getattr(self.name(py)),
                }
            }

            /// What it is called.
            pub fn name(self, py: Python<'_>) -> &Bound<'_, PyString> {
                match self {
                    $(Self::$name => pyo3::intern!(py, $text),)*
                }
            }
        }
    };
}

attributes!(OF_READER, OfReader of "asyncio.StreamReader" {
    Eof = "_eof",
    Buffer = "_buffer",
    Limit = "_limit",
    Waiter = "_waiter",
    Exception = "_exception",
    Paused = "_paused",
    Transport = "_transport",
    Loop = "_loop",
});
attributes!(OF_PROTOCOL, OfProtocol of "asyncio.StreamReaderProtocol" {
    Reader = "_stream_reader_wr",
    ConnectionLost = "_connection_lost",
    Paused = "_paused",
});
attributes!(OF_WRITER, OfWriter of "asyncio.StreamWriter" {
    Reader = "_reader",
    Protocol = "_protocol",
    Transport = "_transport",
    Loop = "_loop",
});

/// # Safety
/// An instance of a class whose instances have values behind them, and are of this size without.
#[inline(always)]
unsafe fn head(object: &Bound<'_, PyAny>, size: usize) -> Head {
    // SAFETY: the Bound holds the object, behind which the caller says there is a head.
    unsafe { object.as_ptr().byte_add(size).cast::<Head>().read() }
}

impl<const NAMED: usize> Values<NAMED> {
    /// The attributes that were asked for, without counts: for as long as no Python code runs. None: one of them is
    /// missing, there are others than asyncio sets (methods, say), or nobody knows where they are.
    #[inline]
    pub fn held<'a, 'py>(&self, object: &'a Bound<'py, PyAny>) -> Option<[Borrowed<'a, 'py, PyAny>; NAMED]> {
        let size = self.size_of_valid(object)?;
        // SAFETY: the values are valid, and there are enough of them for each place: NULL or an object that the
        // instance holds.
        let value = |place: usize| unsafe { memory::held(object, place) };
        let known = self.all.iter().filter(|&&place| value(place).is_some()).count();
        if known != usize::from(size) {
            return None;
        }
        let mut missing = false;
        let found = self.named.map(|place| {
            let value = value(place);
            missing |= value.is_none();
            value
        });
        if missing {
            return None;
        }
        // None is missing.
        Some(found.map(|value| value.unwrap_or_else(|| object.as_borrowed())))
    }

    /// One of the attributes that were asked for, without a count. None: it is missing, or nobody knows where it is.
    #[inline]
    fn value<'a, 'py>(&self, object: &'a Bound<'py, PyAny>, which: usize) -> Option<Borrowed<'a, 'py, PyAny>> {
        self.size_of_valid(object)?;
        // SAFETY: the values are valid, and there are enough of them for each place: NULL or an object that the
        // instance holds.
        unsafe { memory::held(object, *self.named.get(which)?) }
    }

    /// How many values the instance has. None: not where they are expected.
    #[inline]
    fn size_of_valid(&self, object: &Bound<'_, PyAny>) -> Option<u8> {
        if !call::has_type(object, self.class.bind(object.py())) {
            return None;
        }
        // SAFETY: it is an instance of the class, whose instances have been seen to have a head there.
        let [capacity, size, embedded, valid] = unsafe { head(object, self.size) };
        (capacity >= self.least && embedded == 1 && valid == 1).then_some(size)
    }

    /// Learn the places: of an instance that nobody else has, with all the attributes that asyncio sets, of these
    /// names.
    fn learn(object: &Bound<'_, PyAny>, names: &[Bound<'_, PyString>], named: [&str; NAMED]) -> PyResult<Self> {
        let failed = |why: &str| PyRuntimeError::new_err(why.to_owned());
        let class = object.get_type();
        // SAFETY: the Bound holds the class.
        let flags = unsafe { ffi::PyType_GetFlags(class.as_type_ptr()) };
        let size = memory::size(object);
        if flags & INLINE_VALUES == 0 {
            return Err(failed("instances keep their attributes elsewhere"));
        }
        // What is behind the object may be anything, and is not read before it is known to be what is expected.
        let behind = memory::copy::<{ 1 + MOST as usize }>(object.as_ptr() as usize + size).map_err(failed)?;
        let [capacity, count, embedded, valid, ..] = behind[0].to_ne_bytes();
        let is_plain = usize::from(count) == names.len() && count <= capacity && capacity <= MOST;
        if !is_plain || embedded != 1 || valid != 1 {
            return Err(failed("what stands in front of an instance's attributes is not known"));
        }
        let values = &behind[1..=usize::from(capacity)];
        if values.iter().filter(|&&value| value != 0).count() != names.len() {
            return Err(failed("there are not as many attributes as it says"));
        }
        let places: Vec<usize> =
            (0..usize::from(capacity)).map(|index| size + HEAD + index * size_of::<usize>()).collect();
        let place_of = |name: &Bound<'_, PyString>| -> PyResult<usize> {
            let (before, value) = (object.try_getattr(name)?, object.py().get_type::<PyAny>().try_call(())?);
            object.try_setattr(name, &value)?;
            // SAFETY: as many values as there is capacity stand behind the object, as has been looked.
            let is_there = |&&place: &&usize| unsafe { memory::word(object, place) } == value.as_ptr() as usize;
            let found: Vec<_> = places.iter().filter(is_there).copied().collect();
            object.try_setattr(name, before)?;
            match found[..] {
                [place] => Ok(place),
                _ => Err(failed("an attribute is in no one place")),
            }
        };
        let all = names.iter().map(place_of).collect::<PyResult<Box<[usize]>>>()?;
        let mut found = [0; NAMED];
        for (place, name) in found.iter_mut().zip(named) {
            *place = place_of(&PyString::intern(object.py(), name))?;
        }
        if found.iter().any(|place| !all.contains(place)) {
            return Err(failed("an instance has other attributes"));
        }
        let last = all.iter().copied().max().unwrap_or(0);
        // No more than `capacity`.
        let least = places.iter().position(|&place| place == last).map_or(capacity, |index| index as u8 + 1);
        Ok(Self { class: class.unbind(), size, least, named: found, all })
    }
}

/// Find out where the attributes of asyncio's streams are: of a reader, a protocol and a writer that nobody else has,
/// and that have all attributes which one can have. `scratch` makes instances of a class of no consequence, with the
/// attribute `first`.
///
/// # Errors
/// RuntimeError: why that cannot be relied on.
#[pyfunction]
pub fn _know_instance_values(
    scratch: &Bound<'_, PyAny>,
    reader: (Bound<'_, PyAny>, Vec<Bound<'_, PyString>>),
    protocol: (Bound<'_, PyAny>, Vec<Bound<'_, PyString>>),
    writer: (Bound<'_, PyAny>, Vec<Bound<'_, PyString>>),
) -> PyResult<()> {
    let py = scratch.py();
    try_out(scratch).map_err(|why| PyRuntimeError::new_err(why.into_owned()))?;
    let of_reader = Values::learn(&reader.0, &reader.1, OfReader::NAMES)?;
    let of_protocol = Values::learn(&protocol.0, &protocol.1, OfProtocol::NAMES)?;
    let of_writer = Values::learn(&writer.0, &writer.1, OfWriter::NAMES)?;
    OF_READER.get_or_init(py, || of_reader);
    OF_PROTOCOL.get_or_init(py, || of_protocol);
    OF_WRITER.get_or_init(py, || of_writer);
    Ok(())
}

/// What is done to an instance shows.
fn try_out(make: &Bound<'_, PyAny>) -> Probed {
    let py = make.py();
    let new = || make.try_call(()).map_err(raised);
    let values = {
        let object = new()?;
        Values::learn(&object, &[PyString::new(py, "first")], ["first"]).map_err(raised)?
    };
    let is_found = |object: &Bound<'_, PyAny>| -> Result<bool, super::Why> {
        let value = object.try_getattr("first").map_err(raised)?;
        Ok(values.held(object).is_some_and(|[found]| found.is(&value)))
    };
    let object = new()?;
    expect(is_found(&object)?, "an attribute is not where another instance has it")?;
    object.try_setattr("first", 10_000).map_err(raised)?;
    expect(is_found(&object)?, "an attribute that is set anew is elsewhere")?;
    object.try_getattr("__dict__").map_err(raised)?.set_item("first", 20_000).map_err(raised)?;
    expect(is_found(&object)?, "an attribute that is set in the dictionary is elsewhere")?;
    object.try_setattr("second", 1).map_err(raised)?;
    expect(values.held(&object).is_none(), "another attribute is not noticed")?;
    object.delattr("second").map_err(raised)?;
    expect(is_found(&object)?, "an attribute that is gone is noticed")?;
    object.delattr("first").map_err(raised)?;
    expect(values.held(&object).is_none(), "a missing attribute is not noticed")?;
    let object = new()?;
    let names = object.try_getattr("__dict__").map_err(raised)?;
    for number in 0..100 {
        names.set_item(format!("name {number}"), number).map_err(raised)?;
    }
    expect(values.held(&object).is_none(), "a large dictionary is not noticed")?;
    let object = new()?;
    object.try_setattr("__dict__", pyo3::types::PyDict::new(py)).map_err(raised)?;
    expect(values.held(&object).is_none(), "another dictionary is not noticed")
}
