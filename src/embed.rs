//! The package `pyloop` inside a Rust program: its native module is the program's own copy of this crate, its Python
//! modules are compiled in. Nothing needs to be installed, and futures of the program and the loop share one runtime.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::_native;
use crate::accel::OWN_SLEEP;
use crate::py::call::Object;

/// The package's Python modules (`tests/house` knows that none is missing).
const MODULES: &[(&str, &str)] = &[
    ("pyloop", include_str!("../python/pyloop/__init__.py")),
    ("pyloop._accel", include_str!("../python/pyloop/_accel.py")),
    ("pyloop._awaits", include_str!("../python/pyloop/_awaits.py")),
    ("pyloop._compat", include_str!("../python/pyloop/_compat.py")),
    ("pyloop._forks", include_str!("../python/pyloop/_forks.py")),
    ("pyloop._include", include_str!("../python/pyloop/_include.py")),
    ("pyloop._leaks", include_str!("../python/pyloop/_leaks.py")),
    ("pyloop._loop", include_str!("../python/pyloop/_loop.py")),
    ("pyloop._pipes", include_str!("../python/pyloop/_pipes.py")),
    ("pyloop._policy", include_str!("../python/pyloop/_policy.py")),
    ("pyloop._run", include_str!("../python/pyloop/_run.py")),
    ("pyloop._run_in_thread", include_str!("../python/pyloop/_run_in_thread.py")),
    ("pyloop._command", include_str!("../python/pyloop/_command.py")),
    ("pyloop.__main__", include_str!("../python/pyloop/__main__.py")),
    ("pyloop._wakeup", include_str!("../python/pyloop/_wakeup.py")),
    ("pyloop._signals", include_str!("../python/pyloop/_signals.py")),
    ("pyloop._sockets", include_str!("../python/pyloop/_sockets.py")),
    ("pyloop._subprocess", include_str!("../python/pyloop/_subprocess.py")),
    ("pyloop._tls", include_str!("../python/pyloop/_tls.py")),
    ("pyloop._datagrams", include_str!("../python/pyloop/_datagrams.py")),
    ("pyloop._tree", include_str!("../python/pyloop/_tree.py")),
    ("pyloop._top", include_str!("../python/pyloop/_top.py")),
    ("pyloop._transports", include_str!("../python/pyloop/_transports.py")),
    ("pyloop._window_client", include_str!("../python/pyloop/_window_client.py")),
    ("pyloop._window_server", include_str!("../python/pyloop/_window_server.py")),
    ("pyloop._whole", include_str!("../python/pyloop/_whole.py")),
    ("pyloop._trace", include_str!("../python/pyloop/_trace.py")),
    ("pyloop._watchdog", include_str!("../python/pyloop/_watchdog.py")),
    ("pyloop.metrics", include_str!("../python/pyloop/metrics.py")),
    ("pyloop.fs", include_str!("../python/pyloop/fs.py")),
    ("pyloop.pytest_plugin", include_str!("../python/pyloop/pytest_plugin.py")),
    ("pyloop.sync", include_str!("../python/pyloop/sync.py")),
    ("pyloop.window", include_str!("../python/pyloop/window.py")),
    ("pyloop.testing", include_str!("../python/pyloop/testing.py")),
    ("pyloop.testing_plugin", include_str!("../python/pyloop/testing_plugin.py")),
];

/// Have `import pyloop` find this program's own copy of the package, before any that is installed. `#[pyloop::main]`
/// does it. Calling it again does nothing.
///
/// # Errors
/// ImportError when another copy of the package has been imported already.
pub fn prepare(py: Python<'_>) -> PyResult<()> {
    static FINDER: pyo3::sync::PyOnceLock<()> = pyo3::sync::PyOnceLock::new();
    let installed = FINDER.get_or_try_init(py, || {
        let modules = py.import("sys")?.try_getattr("modules")?;
        if modules.contains("pyloop._native")? {
            return Err(pyo3::exceptions::PyImportError::new_err("another copy of pyloop has been imported already"));
        }
        let sources = PyDict::new(py);
        for (name, source) in MODULES {
            sources.set_item(name, source)?;
        }
        let finder = PyModule::from_code(py, FINDER_SOURCE, c"pyloop/embed.py", c"pyloop_embed")?;
        finder.try_call_method("install", (sources, pyo3::wrap_pyfunction!(make_native, py)?)).map(drop)
    });
    installed.copied()
}

#[pyfunction]
fn make_native(py: Python<'_>) -> PyResult<Py<PyModule>> {
    let module = pyo3::wrap_pymodule!(_native)(py);
    module.bind(py).try_setattr("__name__", "pyloop._native")?;
    OWN_SLEEP.turn_off(py, "the program may wait in tokio's driver, too".into());
    Ok(module)
}

const FINDER_SOURCE: &std::ffi::CStr = c"
import importlib.abc
import importlib.util
import sys

NATIVE = 'pyloop._native'


class Embedded(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    def __init__(self, sources, make_native):
        self.sources = sources
        self.make_native = make_native

    def find_spec(self, fullname, path=None, target=None):
        if fullname == NATIVE or fullname in self.sources:
            return importlib.util.spec_from_loader(fullname, self)

    def is_package(self, fullname):
        return fullname == 'pyloop'

    def get_source(self, fullname):
        return self.sources.get(fullname)

    def get_code(self, fullname):
        return self.source_to_code(self.sources[fullname], fullname.replace('.', '/') + '.py')

    def create_module(self, spec):
        return self.make_native() if spec.name == NATIVE else None

    def exec_module(self, module):
        if module.__name__ != NATIVE:
            super().exec_module(module)


def install(sources, make_native):
    sys.meta_path.insert(0, Embedded(sources, make_native))
";
