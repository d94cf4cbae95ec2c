//! Writes into the programs where their libpython is: a Python of pyenv or uv has it where no loader looks.

// docs: rpath
fn main() {
    pyo3_build_config::add_libpython_rpath_link_args();
}
// docs: end
