//! Tells our own code which CPython it is built for (`cfg(Py_3_14)` and the like), and which it is not for.

use pyo3_build_config::PythonAbiKind;

/// The first with eager tasks and `asyncio.run(loop_factory=)`; what its C API lacks would be errors in our code.
const OLDEST: (u8, u8) = (3, 12);

fn main() {
    let version = pyo3_build_config::get().version();
    if (version.major, version.minor) < OLDEST {
        let (major, minor) = OLDEST;
        println!(
            "cargo::error=pyloop is for CPython {major}.{minor} and newer, and PyO3 has found {}.{}: PYO3_PYTHON in the \
             environment names another (PYO3_PYTHON=/path/to/python{major}.{minor})",
            version.major, version.minor
        );
        std::process::exit(1);
    }
    pyo3_build_config::use_pyo3_cfgs();
    let for_many = matches!(pyo3_build_config::get().target_abi().kind(), PythonAbiKind::Stable(_));
    if for_many && std::env::var_os("CARGO_FEATURE_LOOP").is_some() {
        println!(
            "cargo::error=the event loop (feature `loop`) needs more of CPython than its limited API has (`abi3`): \
             depend on pyloop with `default-features = false, features = [\"abi3\"]`"
        );
    }
}
