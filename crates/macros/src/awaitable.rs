//! What `#[pyloop::awaitable]` makes of a function, and of an impl block of `#[pymethods]`.
//!
//! The function stays what it was, where Rust finds it: in a function of its name (inside of the one that Python
//! calls), or in an impl block beside that of `#[pymethods]`. What Python calls has its arguments, takes the token
//! after them, and gives the future to one of the functions of `pyloop::__expansion`. A method with `self` is called by
//! another `async fn`, which has the object and borrows it when it is polled.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{Attribute, Block, Error, ImplItem, ImplItemFn, Item, ItemFn, ItemImpl, Meta, Result, Signature, Visibility};

use crate::options::Way;
use crate::signature::{Parts, Receiver, check_kind, is_for_python, is_or_has, is_pyo3, python_name, token};

const WHAT_FOR: &str =
    "#[pyloop::awaitable] is for a function above `#[pyfunction]` and for an impl block above `#[pymethods]`";
const ABOVE_FUNCTION: &str = "#[pyloop::awaitable] stands above `#[pyfunction]`, which is missing below it";
const ABOVE_METHODS: &str = "#[pyloop::awaitable] stands above `#[pymethods]`, which is missing below it";
const ON_THE_BLOCK: &str = "#[pyloop::awaitable] stands above the `#[pymethods]` of the impl block (in which \
                            `#[awaitable(…)]` says what is special about one method)";
const NOT_ASYNC: &str = "this function is not `async`; `#[awaitable(blocking)]` runs it on a thread that may block";
const ASYNC_BLOCKS: &str = "`blocking` is for a function without `async`";

/// The expansion, or the errors.
pub fn expand(arguments: TokenStream, item: TokenStream) -> TokenStream {
    syn::parse2(arguments).and_then(|way| expand_item(way, item)).unwrap_or_else(|failed| failed.to_compile_error())
}

fn expand_item(way: Way, item: TokenStream) -> Result<TokenStream> {
    match syn::parse2::<Item>(item.clone()) {
        Ok(Item::Fn(function)) => expand_function(way, function),
        Ok(Item::Impl(block)) => expand_block(way, block),
        _ => Err(Error::new_spanned(item, WHAT_FOR)),
    }
}

/// Whether `async` and the way go together.
fn check_way(signature: &Signature, way: Way) -> Result<()> {
    match (signature.asyncness, way) {
        (None, Way::Blocking) => Ok(()),
        (Some(_), Way::Blocking) => Err(Error::new_spanned(signature.asyncness, ASYNC_BLOCKS)),
        (None, _) => Err(Error::new_spanned(signature.fn_token, NOT_ASYNC)),
        (Some(_), _) => Ok(()),
    }
}

fn expand_function(way: Way, function: ItemFn) -> Result<TokenStream> {
    if let Some(receiver) = function.sig.receiver() {
        return Err(Error::new_spanned(receiver, ON_THE_BLOCK));
    }
    if !function.attrs.iter().any(|one| is_or_has(one, "pyfunction")) {
        return Err(Error::new_spanned(&function.sig.ident, ABOVE_FUNCTION));
    }
    check_way(&function.sig, way)?;
    let parts = Parts::of(&function.sig, way)?;
    let name = &function.sig.ident;
    let (python_name, _) = python_name(&function.attrs, name);
    let passed = &parts.passed;
    let call = quote!(#name(#(#passed),*));
    let body = body(way, at(name), &quote!(#python_name), &call, &parts, &quote!(__pyloop_output), false);
    let own = Own { visibility: &Visibility::Inherited, attributes: &function.attrs, documented: false };
    let own = own.with(&function.sig, &parts, &function.block);
    let outer = for_python(&function.attrs);
    let head = head(&function.vis, name, &[], &parts);
    Ok(quote! {
        #(#outer)*
        #[allow(clippy::too_many_arguments, deprecated, non_snake_case)]
        #head {
            #own
            #body
        }
    })
}

fn expand_block(default: Way, mut block: ItemImpl) -> Result<TokenStream> {
    if default == Way::Blocking {
        return Err(Error::new_spanned(
            &block.self_ty,
            "`blocking` is for a single function: `#[awaitable(blocking)]`",
        ));
    }
    if block.trait_.is_some() || !block.attrs.iter().any(|one| is_or_has(one, "pymethods")) {
        return Err(Error::new_spanned(&block.self_ty, ABOVE_METHODS));
    }
    let mut own = Vec::new();
    let mut failed: Option<Error> = None;
    for item in &mut block.items {
        let ImplItem::Fn(method) = item else { continue };
        match take_way(&mut method.attrs, default, method.sig.asyncness.is_some()) {
            Ok(None) => {}
            Ok(Some(way)) => match expand_method(way, method, &block.self_ty) {
                Ok((public, rest)) => {
                    *item = ImplItem::Verbatim(public);
                    own.push(rest);
                }
                Err(error) => combine(&mut failed, error),
            },
            Err(error) => combine(&mut failed, error),
        }
    }
    if let Some(failed) = failed {
        return Err(failed);
    }
    let attributes = block.attrs.iter().filter(|one| !is_pyo3(one) && !one.path().is_ident("doc"));
    let class = &block.self_ty;
    Ok(quote! {
        #block
        #(#attributes)*
        impl #class {
            #(#own)*
        }
    })
}

fn combine(failed: &mut Option<Error>, error: Error) {
    match failed {
        Some(failed) => failed.combine(error),
        None => *failed = Some(error),
    }
}

/// Take `#[awaitable(…)]` off a method. None: it gives no awaitable.
fn take_way(attributes: &mut Vec<Attribute>, default: Way, is_async: bool) -> Result<Option<Way>> {
    let mut way = is_async.then_some(default);
    let mut result = Ok(());
    attributes.retain(|one| {
        let path = one.path();
        let ours = path.segments.last().is_some_and(|last| last.ident == "awaitable")
            && (path.segments.len() == 1 || path.segments.first().is_some_and(|first| first.ident == "pyloop"));
        if ours {
            match &one.meta {
                Meta::Path(_) => way = Some(default),
                Meta::List(list) => match list.parse_args() {
                    Ok(said) => way = Some(said),
                    Err(failed) => result = Err(failed),
                },
                Meta::NameValue(_) => result = Err(Error::new_spanned(one, "`#[awaitable(…)]`")),
            }
        }
        !ours
    });
    result.map(|()| way)
}

/// What Python calls, and what stands in the impl block beside it.
fn expand_method(way: Way, method: &ImplItemFn, class: &syn::Type) -> Result<(TokenStream, TokenStream)> {
    check_way(&method.sig, way)?;
    check_kind(&method.attrs, &method.sig)?;
    let parts = Parts::of(&method.sig, way)?;
    let name = &method.sig.ident;
    let (python_name, is_given) = python_name(&method.attrs, name);
    let has_self = parts.receiver != Receiver::None;
    let cfg: Vec<_> = method.attrs.iter().filter(|one| one.path().is_ident("cfg")).collect();
    let passed = &parts.passed;
    let at = at(name);
    let asked = quote_spanned!(at=> ::pyloop::__expansion::Borrowing(&__pyloop_slf));
    let (borrowed, this) = match parts.receiver {
        Receiver::None => (None, None),
        Receiver::Shared => {
            (Some(quote_spanned!(at=> let __pyloop_this = #asked.shared()?;)), Some(quote!(&__pyloop_this,)))
        }
        Receiver::Exclusive => {
            (Some(quote_spanned!(at=> let mut __pyloop_this = #asked.exclusive()?;)), Some(quote!(&mut __pyloop_this,)))
        }
    };
    let (call, output, held) = if way == Way::Blocking {
        let call = quote!(#borrowed Self::#name(#this #(#passed),*));
        (call, quote!(__pyloop_output), None)
    } else if has_self {
        let held_name = format_ident!("__pyloop_held_{}", name);
        let output = match &method.sig.output {
            syn::ReturnType::Default => quote!(()),
            syn::ReturnType::Type(_, output) => output.to_token_stream(),
        };
        let arguments = held_arguments(&parts);
        let held = quote! {
            #(#cfg)*
            #[doc(hidden)]
            #[allow(clippy::too_many_arguments, deprecated, non_snake_case)]
            async fn #held_name(
                __pyloop_slf: ::pyloop::__expansion::Py<Self>,
                #(#arguments),*
            ) -> ::pyloop::__expansion::PyResult<#output> {
                #[allow(unused_imports)]
                use ::pyloop::__expansion::Guarded as _;
                #borrowed
                ::core::result::Result::Ok(Self::#name(#this #(#passed),*).await)
            }
        };
        (quote!(Self::#held_name(__pyloop_slf, #(#passed),*)), quote!(__pyloop_output?), Some(held))
    } else {
        (quote!(Self::#name(#(#passed),*)), quote!(__pyloop_output), None)
    };
    let full = quote!(__PYLOOP_NAME);
    let body = body(way, at, &full, &call, &parts, &output, python_name == "__anext__");
    let own = Own { visibility: &method.vis, attributes: &method.attrs, documented: true };
    let own = own.with(&method.sig, &parts, &method.block);
    let slf = has_self.then(|| quote!(__pyloop_slf: ::pyloop::__expansion::Py<Self>));
    let public = format_ident!("__pyloop_{}", name);
    let head = head(&Visibility::Inherited, &public, slf.as_slice(), &parts);
    let named = (!is_given).then(|| quote!(#[pyo3(name = #python_name)]));
    let outer = for_python(&method.attrs);
    let public = quote! {
        #(#outer)*
        #named
        #[allow(clippy::too_many_arguments, deprecated, non_snake_case)]
        #head {
            const __PYLOOP_NAME: &str = {
                const CLASS: &str = <#class as ::pyloop::__expansion::PyClass>::NAME;
                const BYTES: [u8; CLASS.len() + 1 + #python_name.len()] =
                    ::pyloop::__expansion::qualified(CLASS, #python_name);
                match ::core::str::from_utf8(&BYTES) {
                    ::core::result::Result::Ok(name) => name,
                    ::core::result::Result::Err(_) => #python_name,
                }
            };
            #body
        }
    };
    Ok((public, quote!(#own #held)))
}

/// The arguments of the function that borrows the object: as they are passed on.
fn held_arguments(parts: &Parts) -> Vec<TokenStream> {
    let typed = parts.own.iter().filter_map(|argument| match argument {
        syn::FnArg::Typed(typed) => Some(&typed.ty),
        syn::FnArg::Receiver(_) => None,
    });
    parts.passed.iter().zip(typed).map(|(name, written)| quote!(#name: #written)).collect()
}

/// The attributes of what Python calls.
fn for_python(attributes: &[Attribute]) -> Vec<&Attribute> {
    attributes.iter().filter(|one| is_for_python(one)).collect()
}

/// The signature of what Python calls.
fn head(visibility: &Visibility, name: &Ident, slf: &[TokenStream], parts: &Parts) -> TokenStream {
    let given = parts.given.iter().map(ToTokens::to_token_stream);
    let arguments = slf.iter().cloned().chain(given);
    quote! {
        #visibility fn #name<'__pyloop>(
            #(#arguments,)*
            __pyloop_py: ::pyloop::__expansion::Python<'__pyloop>,
        ) -> ::pyloop::__expansion::PyResult<
            ::pyloop::__expansion::Bound<'__pyloop, ::pyloop::__expansion::PyAny>
        >
    }
}

/// What Python calls does: it gives the future to its way.
fn body(
    way: Way,
    at: Span,
    name: &TokenStream,
    call: &TokenStream,
    parts: &Parts,
    output: &TokenStream,
    is_item: bool,
) -> TokenStream {
    let finished = |output: &TokenStream| {
        if is_item {
            quote_spanned!(at=> ::pyloop::__expansion::into_item(#output))
        } else {
            quote_spanned!(at=> ::pyloop::__expansion::Returned(#output).into_result())
        }
    };
    let (by_name, by_output) = (quote!(__pyloop_py, #name), finished(output));
    let finish = quote!(|__pyloop_output| #by_output);
    let given = match way {
        Way::InPlace => quote_spanned!(at=> ::pyloop::__expansion::InPlace(#call).into_py(#by_name, #finish)),
        Way::Spawned => quote_spanned!(at=> ::pyloop::__expansion::spawn(#by_name, #call, #finish)),
        Way::Shielded => {
            let token = if parts.takes_token { token().to_token_stream() } else { quote!(_) };
            quote_spanned!(at=> ::pyloop::__expansion::shield(#by_name, move |#token| #call, #finish))
        }
        Way::Blocking => {
            let output = finished(&quote!({ #call }));
            quote_spanned!(at=> ::pyloop::__expansion::block(#by_name, move || #output))
        }
    };
    quote! {
        #[allow(unused_imports)]
        use ::pyloop::__expansion::{Guarded as _, NotSend as _, Plain as _};
        #given
    }
}

/// Where what a compiler has to say about the expansion is the function's, and the names are the macro's.
fn at(name: &Ident) -> Span {
    Span::call_site().located_at(name.span())
}

/// The function itself.
struct Own<'a> {
    visibility: &'a Visibility,
    attributes: &'a [Attribute],
    documented: bool,
}

impl Own<'_> {
    fn with(&self, signature: &Signature, parts: &Parts, block: &Block) -> TokenStream {
        let attributes =
            self.attributes.iter().filter(|one| !is_pyo3(one) && (self.documented || !one.path().is_ident("doc")));
        let signature = Signature { inputs: parts.own.iter().cloned().collect(), ..signature.clone() };
        let visibility = self.visibility;
        quote!(#(#attributes)* #visibility #signature #block)
    }
}
