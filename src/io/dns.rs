//! `getaddrinfo` of numeric addresses: answered in the loop's thread, as nobody needs to be asked for them. What is not
//! numeric goes to the executor, as in asyncio.
//!
//! Which kinds of sockets the C library names for an address (`type`, `proto`, and in which order) is learned from its
//! own answer to the first question of each kind. That answer does not depend on the address, nor on the port, for the
//! plain ones that are answered here. GIL held.

use std::ffi::{c_char, c_int};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyCFunction, PyDict, PyFunction, PyInt, PyList, PyString, PyTuple};

use super::address;
use crate::py::call::{self, Object};
use crate::py::cell::GilCell;
use crate::py::error;
use crate::sched::LoopState;

/// How many kinds of questions are remembered. Programs ask a handful; this bounds what one asks that tries them all.
const MOST_KINDS: usize = 512;

/// Flags that change nothing for an address and a port in numbers.
const PLAIN_FLAGS: c_int = libc::AI_PASSIVE | libc::AI_NUMERICHOST | libc::AI_NUMERICSERV;

unsafe extern "C" {
    // CPython's, which PyO3 does not name.
    fn PySys_Audit(event: *const c_char, format: *const c_char, ...) -> c_int;
}

/// What the C library's answer depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Question {
    is_v6: bool,
    has_port: bool,
    family: c_int,
    kind: c_int,
    proto: c_int,
    flags: c_int,
}

/// What it answers: `(family, type, proto, canonname)` of each entry, as `socket.getaddrinfo` gives them.
#[derive(Debug)]
struct Answer(Vec<[Py<PyAny>; 4]>);

/// The socket module, and what has been learned from it.
struct Known {
    /// `socket.__dict__` and `_socket.__dict__`, in which both functions are looked for.
    namespaces: [Py<PyDict>; 2],
    /// CPython's `getaddrinfo` of each.
    own: Option<[Py<PyAny>; 2]>,
    answers: GilCell<Vec<(Question, Arc<Answer>)>>,
}

/// `socket.getaddrinfo(host, port, family, type, proto, flags)` if nothing has to be looked up for it; else None: it is
/// for the executor. So is what somebody has put in the place of the function, and anything in debug mode.
///
/// # Errors
/// What `socket.getaddrinfo` raises.
#[pyfunction]
pub fn getaddrinfo<'py>(
    event_loop: &Bound<'py, LoopState>,
    host: &Bound<'py, PyAny>,
    port: &Bound<'py, PyAny>,
    family: &Bound<'py, PyAny>,
    r#type: &Bound<'py, PyAny>,
    proto: &Bound<'py, PyAny>,
    flags: &Bound<'py, PyAny>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = host.py();
    let known = Known::get(py)?;
    if event_loop.get().debug.get(py) || !known.is_own(py)? {
        return Ok(None);
    }
    let plain = plain(host, port, [family, r#type, proto, flags])?;
    if let Some((question, address)) = &plain
        && let Some(answer) = known.answer(py, *question)
    {
        audit(host, port, *question)?;
        return answer.with(address).map(|list| Some(list.into_any()));
    }
    if !is_numeric(host, port) {
        return Ok(None);
    }
    let Some([ask, _]) = &known.own else { return Ok(None) };
    let args = PyTuple::new(py, [host, port, family, r#type, proto, flags])?;
    let answered = call::call_all(ask.bind(py), &args, None)?;
    if let Some((question, address)) = plain {
        known.learn(question, &address, &answered)?;
    }
    Ok(Some(answered))
}

/// The question that is asked and the address of each entry, if both are of the plain sort.
fn plain<'py>(
    host: &Bound<'py, PyAny>,
    port: &Bound<'py, PyAny>,
    numbers: [&Bound<'py, PyAny>; 4],
) -> PyResult<Option<(Question, Bound<'py, PyTuple>)>> {
    let py = host.py();
    let mut asked = [0; 4];
    for (place, number) in asked.iter_mut().zip(numbers) {
        let Some(number) = number.cast::<PyInt>().ok().and_then(|number| number.extract().ok()) else {
            return Ok(None);
        };
        *place = number;
    }
    let [family, kind, proto, flags] = asked;
    if flags & !PLAIN_FLAGS != 0 {
        return Ok(None);
    }
    let Some(number) = port_number(port) else { return Ok(None) };
    let Some(ip) = text_of(host).and_then(|text| text.parse::<IpAddr>().ok()) else { return Ok(None) };
    let address = match ip {
        IpAddr::V4(_) => {
            let text = match host.cast_exact::<PyString>() {
                Ok(text) => text.clone(),
                Err(_) => PyString::new(py, &ip.to_string()),
            };
            PyTuple::new(py, [text.as_any(), number.into_pyobject(py)?.as_any()])?
        }
        IpAddr::V6(ip) if is_plain(ip) => (address::text_of_v6(py, ip), number, 0, 0).into_pyobject(py)?,
        IpAddr::V6(_) => return Ok(None),
    };
    let has_port = !port.is_none();
    Ok(Some((Question { is_v6: ip.is_ipv6(), has_port, family, kind, proto, flags }, address)))
}

/// Not one that belongs to an interface, nor one that is an IPv4 address as well.
fn is_plain(ip: Ipv6Addr) -> bool {
    !ip.is_unicast_link_local() && !ip.is_multicast() && ip.to_ipv4_mapped().is_none()
}

/// What `socket.getaddrinfo` tells those who audit the program.
fn audit(host: &Bound<'_, PyAny>, port: &Bound<'_, PyAny>, question: Question) -> PyResult<()> {
    let Question { family, kind, proto, .. } = question;
    let (event, format) = (c"socket.getaddrinfo".as_ptr(), c"OOiii".as_ptr());
    // SAFETY: two objects that live through the call, and three C ints, as the format says.
    let audited = unsafe { PySys_Audit(event, format, host.as_ptr(), port.as_ptr(), family, kind, proto) };
    error::answered(host.py(), audited).map(drop)
}

impl Known {
    fn get(py: Python<'_>) -> PyResult<&'static Self> {
        static KNOWN: PyOnceLock<Known> = PyOnceLock::new();
        KNOWN.get_or_try_init(py, || {
            let (module, native) = (py.import("socket")?, py.import("_socket")?);
            let own = match [module.try_getattr("getaddrinfo")?, native.try_getattr("getaddrinfo")?] {
                [function, builtin]
                    if function.is_exact_instance_of::<PyFunction>()
                        && function.try_getattr("__globals__")?.is(module.dict())
                        && builtin.is_exact_instance_of::<PyCFunction>() =>
                {
                    Some([function.unbind(), builtin.unbind()])
                }
                _ => None,
            };
            let namespaces = [module.dict().unbind(), native.dict().unbind()];
            Ok(Self { namespaces, own, answers: GilCell::default() })
        })
    }

    /// Whether the socket module's function is CPython's.
    fn is_own(&self, py: Python<'_>) -> PyResult<bool> {
        let Some(own) = &self.own else { return Ok(false) };
        for (namespace, own) in self.namespaces.iter().zip(own) {
            let found = namespace.bind(py).get_item(pyo3::intern!(py, "getaddrinfo"))?;
            if !found.is_some_and(|found| found.is(own)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn answer(&self, py: Python<'_>, question: Question) -> Option<Arc<Answer>> {
        self.answers.with(py, |answers| {
            answers.iter().find(|(known, _)| *known == question).map(|(_, answer)| Arc::clone(answer))
        })
    }

    /// Remember what the C library has answered, if it says of the address nothing but itself.
    fn learn(&self, question: Question, address: &Bound<'_, PyTuple>, answered: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = address.py();
        let mut entries = Vec::new();
        for entry in answered.cast::<PyList>()? {
            let [family, kind, proto, canonical, found] = entry.extract::<[Bound<'_, PyAny>; 5]>()?;
            if !found.try_eq(address)? {
                return Ok(());
            }
            entries.push([family, kind, proto, canonical].map(Bound::unbind));
        }
        let answer = Arc::new(Answer(entries));
        self.answers.with(py, |answers| {
            if answers.len() < MOST_KINDS {
                answers.push((question, answer));
            }
        });
        Ok(())
    }
}

impl Answer {
    /// For this address.
    fn with<'py>(&self, address: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyList>> {
        let py = address.py();
        let entry = |[family, kind, proto, canonical]: &[Py<PyAny>; 4]| {
            PyTuple::new(py, [family.bind(py), kind.bind(py), proto.bind(py), canonical.bind(py), address.as_any()])
        };
        match &self.0[..] {
            [only] => PyList::new(py, [entry(only)?]),
            all => PyList::new(py, all.iter().map(entry).collect::<PyResult<Vec<_>>>()?),
        }
    }
}

/// Whether `host` is an address in numbers and `port` is a number (or absent), so that `socket.getaddrinfo` does not
/// leave the process.
fn is_numeric(host: &Bound<'_, PyAny>, port: &Bound<'_, PyAny>) -> bool {
    let numeric_host = match host.cast::<PyString>() {
        Ok(text) => text.to_str().is_ok_and(is_address),
        Err(_) => host.cast::<PyBytes>().is_ok_and(|text| std::str::from_utf8(text.as_bytes()).is_ok_and(is_address)),
    };
    numeric_host && (port.is_none() || port.is_exact_instance_of::<PyInt>() || is_digits(port))
}

fn is_address(text: &str) -> bool {
    // A zone (`fe80::1%eth0`) is looked up by the C library among the interfaces: no name server is asked.
    let bare = text.split_once('%').map_or(text, |(address, _zone)| address);
    if bare.len() == text.len() {
        return text.parse::<IpAddr>().is_ok();
    }
    bare.parse::<Ipv6Addr>().is_ok()
}

/// The text of an exact `str` or `bytes`.
fn text_of<'a>(given: &'a Bound<'_, PyAny>) -> Option<&'a str> {
    match given.cast_exact::<PyString>() {
        Ok(text) => text.to_str().ok(),
        Err(_) => std::str::from_utf8(given.cast_exact::<PyBytes>().ok()?.as_bytes()).ok(),
    }
}

/// The port that a number, or digits, mean; 0 for None. None: not in the usual form.
fn port_number(port: &Bound<'_, PyAny>) -> Option<u16> {
    if port.is_none() {
        return Some(0);
    }
    if let Ok(number) = port.cast_exact::<PyInt>() {
        return number.extract().ok();
    }
    let text = text_of(port)?;
    let is_usual = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if is_usual { text.parse().ok() } else { None }
}

fn is_digits(port: &Bound<'_, PyAny>) -> bool {
    let digits = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    match port.cast::<PyString>() {
        Ok(text) => text.to_str().is_ok_and(|text| digits(text.as_bytes())),
        Err(_) => port.cast::<PyBytes>().is_ok_and(|text| digits(text.as_bytes())),
    }
}
