//! What the attribute makes, and what it says of what it does not take: token by token, without a compiler.

use proc_macro2::TokenStream;
use quote::quote;

use crate::awaitable::expand;

/// The message of a compile error.
fn refused(arguments: TokenStream, item: TokenStream) -> String {
    let text = expand(arguments, item).to_string();
    let (_, message) = text.split_once("compile_error ! { \"").unwrap_or_else(|| panic!("it is taken: {text}"));
    message.split("\" }").next().unwrap_or_default().replace("\\\"", "\"")
}

fn expanded(arguments: TokenStream, item: TokenStream) -> String {
    let text = expand(arguments, item).to_string();
    assert!(!text.contains("compile_error"), "{text}");
    text
}

fn has(text: &str, part: TokenStream) {
    assert!(squeezed(text).contains(&squeezed(&part.to_string())), "{part}\nis not in\n{text}");
}

fn has_not(text: &str, part: TokenStream) {
    assert!(!squeezed(text).contains(&squeezed(&part.to_string())), "{part}\nis in\n{text}");
}

/// Without the spaces, which are the printer's.
fn squeezed(text: &str) -> String {
    text.split_whitespace().collect()
}

#[test]
fn a_function_stays_inside_of_the_one_that_python_calls() {
    let text = expanded(
        quote!(),
        quote! {
            /// Greets.
            #[pyfunction]
            #[pyo3(signature = (name, times = 1))]
            #[cfg(feature = "greets")]
            #[tracing::instrument]
            pub async fn greet(mut name: String, #[pyo3(from_py_with = wide)] times: u32) -> io::Result<String> {
                work(name).await
            }
        },
    );
    has(
        &text,
        quote! {
            #[doc = r" Greets."]
            #[pyfunction]
            #[pyo3(signature = (name, times = 1))]
            #[cfg(feature = "greets")]
            #[allow(clippy::too_many_arguments, deprecated, non_snake_case)]
            pub fn greet<'__pyloop>(
                name: String,
                #[pyo3(from_py_with = wide)] times: u32,
                __pyloop_py: ::pyloop::__expansion::Python<'__pyloop>,
            )
        },
    );
    has(
        &text,
        quote! {
            #[cfg(feature = "greets")]
            #[tracing::instrument]
            async fn greet(mut name: String, times: u32) -> io::Result<String> {
                work(name).await
            }
        },
    );
    has(&text, quote!(::pyloop::__expansion::InPlace(greet(name, times))));
    assert!(text.contains("into_py (__pyloop_py , \"greet\" ,"), "{text}");
}

#[test]
fn a_method_stays_what_it_is_in_a_block_of_its_own() {
    let text = expanded(
        quote!(),
        quote! {
            #[pymethods]
            impl Client {
                #[new]
                fn new() -> Self { Self }
                #[cfg(unix)]
                pub async fn get(&self, url: String) -> PyResult<Vec<u8>> { self.fetch(url).await }
                async fn add(&mut self) { self.0 += 1 }
                #[getter]
                fn url(&self) -> &str { &self.url }
            }
        },
    );
    // What gives no awaitable is untouched.
    has(
        &text,
        quote!(
            #[new]
            fn new() -> Self {
                Self
            }
        ),
    );
    has(
        &text,
        quote!(
            #[getter]
            fn url(&self) -> &str {
                &self.url
            }
        ),
    );
    has(
        &text,
        quote! {
            #[cfg(unix)]
            #[pyo3(name = "get")]
            #[allow(clippy::too_many_arguments, deprecated, non_snake_case)]
            fn __pyloop_get<'__pyloop>(
                __pyloop_slf: ::pyloop::__expansion::Py<Self>,
                url: String,
                __pyloop_py: ::pyloop::__expansion::Python<'__pyloop>,
            )
        },
    );
    has(
        &text,
        quote!(
            #[cfg(unix)]
            pub async fn get(&self, url: String) -> PyResult<Vec<u8>> {
                self.fetch(url).await
            }
        ),
    );
    has(&text, quote!(#[cfg(unix)] #[doc(hidden)]));
    has(&text, quote!(Self::get(&__pyloop_this, url).await));
    has(&text, quote!(Self::add(&mut __pyloop_this,).await));
    has(&text, quote!(qualified(CLASS, "add")));
    assert_eq!(text.matches("pymethods").count(), 1, "{text}");
}

#[test]
fn what_has_no_self_is_called_as_it_is() {
    let block = |method: TokenStream| expanded(quote!(), quote!(#[pymethods] impl Client { #method }));
    let text = block(quote!(
        #[staticmethod]
        async fn connect(url: String) -> PyResult<Self> {
            Self::to(url).await
        }
    ));
    has(&text, quote!(InPlace(Self::connect(url))));
    has(&text, quote!(#[staticmethod] #[pyo3(name = "connect")]));
    has(
        &text,
        quote!(
            async fn connect(url: String) -> PyResult<Self> {
                Self::to(url).await
            }
        ),
    );
    let text = block(quote!(
        async fn __aenter__(slf: Py<Self>) -> PyResult<Py<Self>> {
            Ok(slf)
        }
    ));
    has(&text, quote!(InPlace(Self::__aenter__(slf))));
    has(&text, quote!(slf: Py<Self>, __pyloop_py: ::pyloop::__expansion::Python<'__pyloop>));
    has_not(&text, quote!(__pyloop_slf));
}

#[test]
fn a_name_that_is_given_is_pythons() {
    let text = expanded(
        quote!(),
        quote!(
            #[pymethods]
            impl Client {
                #[pyo3(name = "fetch", signature = ())]
                async fn get(&self) {}
            }
        ),
    );
    has(&text, quote!(qualified(CLASS, "fetch")));
    has_not(&text, quote!(#[pyo3(name = "get")]));
    let text = expanded(
        quote!(),
        quote!(
            #[pyfunction(name = "fetch")]
            async fn get() {}
        ),
    );
    assert!(text.contains("into_py (__pyloop_py , \"fetch\" ,"), "{text}");
}

#[test]
fn each_way_has_its_function() {
    let function = quote!(
        #[pyfunction]
        async fn work() {}
    );
    has(&expanded(quote!(spawn), function.clone()), quote!(::pyloop::__expansion::spawn));
    has(&expanded(quote!(cancel = "drop"), function.clone()), quote!(::pyloop::__expansion::InPlace));
    has(&expanded(quote!(cancel = "drop", spawn), function.clone()), quote!(::pyloop::__expansion::spawn));
    has(&expanded(quote!(cancel = "shield"), function), quote!(::pyloop::__expansion::shield));
    let text = expanded(
        quote!(blocking),
        quote!(
            #[pyfunction]
            fn work(data: Vec<u8>) -> u32 {
                1
            }
        ),
    );
    has(&text, quote!(::pyloop::__expansion::block));
    has(
        &text,
        quote!(
            fn work(data: Vec<u8>) -> u32 {
                1
            }
        ),
    );

    // A method has its own, or that of its block.
    let text = expanded(
        quote!(spawn),
        quote! {
            #[pymethods]
            impl Client {
                async fn one(&self) {}
                #[awaitable(cancel = "shield")]
                async fn two(&self, a: u8, token: CancellationToken) {}
                #[pyloop::awaitable(blocking)]
                fn three(&self) {}
                fn four(&self) {}
            }
        },
    );
    has(&text, quote!(move |__pyloop_token| Self::__pyloop_held_two(__pyloop_slf, a, __pyloop_token)));
    has(
        &text,
        quote!(
            async fn two(&self, a: u8, token: CancellationToken) {}
        ),
    );
    for (name, times) in [("__expansion :: spawn", 1), ("__expansion :: shield", 1), ("__expansion :: block", 1)] {
        assert_eq!(text.matches(name).count(), times, "{name}: {text}");
    }
    has(
        &text,
        quote!(
            fn four(&self) {}
        ),
    );
    has_not(&text, quote!(awaitable));
}

#[test]
fn an_async_iterator_ends_with_none() {
    let text = expanded(
        quote!(),
        quote!(
            #[pymethods]
            impl Rows {
                async fn __anext__(&self) -> Option<u8> {
                    None
                }
                async fn next(&self) {}
            }
        ),
    );
    assert_eq!(text.matches("into_item").count(), 1, "{text}");
    assert_eq!(text.matches("into_result").count(), 1, "{text}");
}

#[test]
fn it_says_where_it_stands() {
    let function = "#[pyloop::awaitable] stands above `#[pyfunction]`, which is missing below it";
    assert_eq!(
        refused(
            quote!(),
            quote!(
                async fn work() {}
            )
        ),
        function
    );
    let methods = "#[pyloop::awaitable] stands above `#[pymethods]`, which is missing below it";
    assert_eq!(refused(quote!(), quote!(impl Client { async fn work(&self) {} })), methods);
    assert_eq!(
        refused(
            quote!(),
            quote!(
                #[pymethods]
                impl Trait for Client {}
            )
        ),
        methods
    );
    let block = "#[pyloop::awaitable] stands above the `#[pymethods]` of the impl block (in which `#[awaitable(…)]` says \
                 what is special about one method)";
    assert_eq!(
        refused(
            quote!(),
            quote!(
                async fn work(&self) {}
            )
        ),
        block
    );
    for item in [
        quote!(
            struct Client;
        ),
        quote!(
            mod client {}
        ),
        quote!(fn),
        quote!(),
    ] {
        assert!(refused(quote!(), item).starts_with("#[pyloop::awaitable] is for a function above"));
    }
}

#[test]
fn what_is_not_owned_is_refused() {
    let owned =
        "an argument is kept longer than the call, so it is owned: `String`, `Vec<u8>`, `Py<T>` (`slf: Py<Self>`)";
    for borrowed in [
        quote!(text: &str),
        quote!(text: &mut Client),
        quote!(text: Option<&str>),
        quote!(text: Cow<'_, str>),
        quote!(object: Bound<'py, PyAny>),
        quote!(object: &Bound<PyAny>),
        quote!(object: Vec<pyo3::Bound<PyAny>>),
        quote!(slf: PyRef<'_, Self>),
    ] {
        assert_eq!(refused(quote!(), quote!(#[pyfunction] async fn work(#borrowed) {})), owned, "{borrowed}");
    }
    let python = "nobody holds the GIL from one poll to the next: `Python::attach` takes it where it is wanted";
    assert_eq!(
        refused(
            quote!(),
            quote!(
                #[pyfunction]
                async fn work(py: Python<'_>) {}
            )
        ),
        python
    );
    let result = "what it gives is owned: `String`, `Vec<u8>`, `Py<T>`";
    for borrowed in [quote!(&str), quote!(PyResult<Bound<'_, PyAny>>), quote!(PyResult<PyRef<Self>>)] {
        let method = quote!(#[pymethods] impl Client { async fn work(&self) -> #borrowed {} });
        assert_eq!(refused(quote!(), method), result);
    }
    for kept in [quote!(text: &'static str), quote!(text: Cow<'static, str>), quote!(object: Option<Py<PyAny>>)] {
        expanded(quote!(), quote!(#[pyfunction] async fn work(#kept) {}));
    }
}

#[test]
fn what_is_no_function_of_pythons_is_refused() {
    let of = |function: TokenStream| refused(quote!(), quote!(#[pyfunction] #function));
    assert_eq!(
        of(quote!(
            async fn work<T>(a: T) {}
        )),
        "what Python calls is not generic"
    );
    assert_eq!(
        of(quote!(
            async fn work((a, b): (u8, u8)) {}
        )),
        "an argument of a Python function is a plain name"
    );
    let blocks = "this function is not `async`; `#[awaitable(blocking)]` runs it on a thread that may block";
    assert_eq!(
        of(quote!(
            fn work() {}
        )),
        blocks
    );
    let method = |method: TokenStream| refused(quote!(), quote!(#[pymethods] impl Client { #method }));
    assert_eq!(
        method(quote!(
            async fn work(self) {}
        )),
        "`&self`, `&mut self` or `slf: Py<Self>`"
    );
    assert_eq!(
        method(quote!(
            #[awaitable]
            fn work(&self) {}
        )),
        blocks
    );
    for kind in [quote!(new), quote!(getter), quote!(setter(value))] {
        assert_eq!(method(quote!(#[#kind] async fn work(&self) {})), "this is no method: it cannot be awaited");
    }
    assert_eq!(
        method(quote!(
            async fn work() {}
        )),
        "a method without `self` is a `#[staticmethod]`"
    );
    // All of them at once.
    let text = expand(
        quote!(),
        quote!(
            #[pymethods]
            impl A {
                async fn a(&self, b: &str) {}
                async fn b(&self, a: &str) {}
            }
        ),
    );
    assert_eq!(text.to_string().matches("compile_error").count(), 2);
}

#[test]
fn what_stands_in_its_brackets_is_checked() {
    let of = |arguments: TokenStream| {
        refused(
            arguments,
            quote!(
                #[pyfunction]
                async fn work() {}
            ),
        )
    };
    let known = "one of `spawn`, `blocking`, `cancel = \"drop\"` and `cancel = \"shield\"`";
    assert_eq!(of(quote!(spawned)), known);
    assert_eq!(of(quote!(cancel = "never")), "\"drop\" or \"shield\"");
    assert_eq!(of(quote!(blocking)), "`blocking` is for a function without `async`");
    let alone = "`blocking` stands alone: such a function has a thread of its own, and runs to its end there";
    assert_eq!(of(quote!(blocking, spawn)), alone);
    assert_eq!(of(quote!(cancel = "shield", blocking)), alone);
    assert!(of(quote!(spawn spawn)).starts_with("expected `,`"));
    let token = refused(
        quote!(spawn),
        quote!(
            #[pyfunction]
            async fn work(token: pyloop::CancellationToken) {}
        ),
    );
    assert_eq!(token, "the token comes with `cancel = \"shield\"`");
    let block = refused(
        quote!(blocking),
        quote!(
            #[pymethods]
            impl Client {}
        ),
    );
    assert_eq!(block, "`blocking` is for a single function: `#[awaitable(blocking)]`");
    let method = refused(
        quote!(),
        quote!(
            #[pymethods]
            impl Client {
                #[awaitable(spwan)]
                async fn work(&self) {}
            }
        ),
    );
    assert_eq!(method, known);
}

fn main_expanded(arguments: TokenStream) -> String {
    let function = quote! {
        async fn main() -> PyResult<()> {
            Ok(())
        }
    };
    crate::main_function::expand(arguments, function).to_string()
}

#[test]
fn main_says_what_the_background_runtime_is_like() {
    has_not(&main_expanded(quote!()), quote!(init_background));
    has_not(&main_expanded(quote!(flavor = "multi_thread")), quote!(init_background));
    let text = main_expanded(quote!(flavor = "current_thread"));
    has(&text, quote!(::pyloop::__expansion::init_background(true, 0usize); ::pyloop::run_main(main)));
    let text = main_expanded(quote!(flavor = "multi_thread", worker_threads = 10));
    has(&text, quote!(::pyloop::__expansion::init_background(false, 10usize);));
    for (arguments, message) in [
        (quote!(flavor = "two"), "\\\"current_thread\\\" or \\\"multi_thread\\\""),
        (quote!(threads = 3), "`flavor` or `worker_threads`"),
        (quote!(worker_threads = 0), "one thread at least"),
        (quote!(flavor = "current_thread", worker_threads = 2), "is for the flavor"),
    ] {
        let text = main_expanded(arguments);
        assert!(text.contains("compile_error") && text.contains(message), "{message} is not in {text}");
    }
}
