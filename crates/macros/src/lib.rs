//! `#[pyloop::main]`: an async main on a pyloop event loop. `#[pyloop::awaitable]`: async functions and methods for
//! Python.

use proc_macro::TokenStream;

mod awaitable;
mod main_function;
mod options;
mod signature;
#[cfg(test)]
mod tests;

/// Makes an `async fn main()` into the main of a program: Python is started, and the function runs on a new event
/// loop in the main thread. An error that it gives is printed as Python prints one, and the program exits with 1
/// (with its code for `SystemExit`).
///
/// `flavor = "current_thread"`, or `flavor = "multi_thread"` and `worker_threads = 4`, say what the background runtime
/// is like that runs what is spawned away from the loop: the default is tokio's, a thread for each core.
#[proc_macro_attribute]
pub fn main(arguments: TokenStream, item: TokenStream) -> TokenStream {
    main_function::expand(arguments.into(), item.into()).into()
}

/// Makes an `async fn` a Python function that returns a native awaitable: above `#[pyfunction]`, or above the
/// `#[pymethods]` of an impl block, for each `async fn` in it.
///
/// PyO3 converts the arguments when it is called: each is owned, as it is there longer than the call. It gives a
/// `Result` with an error that is `Into<PyErr>` (an `io::Error` is an OSError with `errno`), or a plain value. Name,
/// signature and documentation are those of the function, and `#[pyo3(…)]` says what it says on any other.
///
/// The future is polled in place, by the task that awaits it. It may be made on one thread and awaited on another if it
/// is `Send`.
///
/// | | |
/// |---|---|
/// | `&self`, `&mut self` | the object is borrowed at the first poll, until the future has ended or is dropped; what PyO3 refuses (`&mut self` beside another) raises RuntimeError there. A frozen class has nothing to borrow. |
/// | `slf: Py<Self>` | the object itself, not borrowed |
/// | `#[staticmethod]`, `#[classmethod]` (`cls: Py<PyType>`) | as on other methods |
/// | `async fn __anext__` | gives an `Option`, or a `Result` of one: `None` is the end |
///
/// In the brackets, for one function, for a whole impl block, or for one method of it as `#[awaitable(…)]`:
///
/// | | |
/// |---|---|
/// | `cancel = "drop"` | cancelled, it is dropped where it stands: the default |
/// | `cancel = "shield"` | it runs on the background runtime to its end, as [`shielded_into_py`]; an argument of the type `CancellationToken` is the token that tells it |
/// | `spawn` | it runs on the background runtime, as [`spawn_into_py`] |
/// | `blocking` | for a function without `async`: it runs on a thread that may block, as [`spawn_blocking_into_py`] |
///
/// In Rust a method is called as before. A function has another argument, the `Python` token after the others, and
/// gives the awaitable.
///
/// [`shielded_into_py`]: https://docs.rs/pyloop/latest/pyloop/fn.shielded_into_py.html
/// [`spawn_into_py`]: https://docs.rs/pyloop/latest/pyloop/fn.spawn_into_py.html
/// [`spawn_blocking_into_py`]: https://docs.rs/pyloop/latest/pyloop/fn.spawn_blocking_into_py.html
#[proc_macro_attribute]
pub fn awaitable(arguments: TokenStream, item: TokenStream) -> TokenStream {
    awaitable::expand(arguments.into(), item.into()).into()
}
