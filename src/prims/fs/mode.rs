//! The modes that `pyloop.fs.open` takes: those of binary files.

use std::fs::OpenOptions;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// What a file is opened for.
#[derive(Clone, Debug)]
pub struct Mode {
    /// As Python's io shows it: "rb+" for "r+b", and for "w+b" before CPython 3.15.
    pub text: &'static str,
    /// r, w, a or x.
    kind: char,
    pub reads: bool,
    pub writes: bool,
}

impl Mode {
    pub fn parse(text: &str) -> PyResult<Self> {
        let mut letters: Vec<char> = text.chars().collect();
        letters.sort_unstable();
        let sorted: String = letters.into_iter().collect();
        let (text, kind, reads, writes) = match sorted.as_str() {
            "br" => ("rb", 'r', true, false),
            "bw" => ("wb", 'w', false, true),
            "ab" => ("ab", 'a', false, true),
            "bx" => ("xb", 'x', false, true),
            "+br" => ("rb+", 'r', true, true),
            // io shows no difference.
            "+bw" => (if cfg!(Py_3_15) { "wb+" } else { "rb+" }, 'w', true, true),
            "+ab" => ("ab+", 'a', true, true),
            "+bx" => ("xb+", 'x', true, true),
            text if !text.contains('b') => {
                return Err(PyValueError::new_err(format!(
                    "mode {text:?} is for text: pyloop.fs.open() opens binary files ('rb', 'wb', ...); read_text() and \
                     write_text() do text"
                )));
            }
            _ => return Err(PyValueError::new_err(format!("invalid mode: {text:?}"))),
        };
        Ok(Self { text, kind, reads, writes })
    }

    pub fn options(&self) -> OpenOptions {
        let mut options = OpenOptions::new();
        options.read(self.reads);
        match self.kind {
            'w' => options.write(true).create(true).truncate(true),
            'a' => options.append(true).create(true),
            'x' => options.write(true).create_new(true),
            _ => options.write(self.writes),
        };
        options
    }
    /// Whether each write goes to the end of the file.
    pub fn appends(&self) -> bool {
        self.kind == 'a'
    }
}
