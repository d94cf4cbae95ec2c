//! A function's signature, and what of it Python sees: which arguments, from whom, by which name.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::{Attribute, Error, FnArg, Ident, LitStr, Meta, Pat, Result, ReturnType, Signature, Type};

use crate::options::Way;

/// Attributes that are PyO3's, by the last part of their path.
const PYO3: [&str; 10] = [
    "pyo3",
    "pyfunction",
    "pymethods",
    "staticmethod",
    "classmethod",
    "getter",
    "setter",
    "deleter",
    "classattr",
    "new",
];

/// Those of them with which a function gives no awaitable.
const NO_METHODS: [&str; 5] = ["getter", "setter", "deleter", "classattr", "new"];

const NOT_OWNED: &str =
    "an argument is kept longer than the call, so it is owned: `String`, `Vec<u8>`, `Py<T>` (`slf: Py<Self>`)";
const NOT_OWNED_RESULT: &str = "what it gives is owned: `String`, `Vec<u8>`, `Py<T>`";
const NO_PYTHON: &str = "nobody holds the GIL from one poll to the next: `Python::attach` takes it where it is wanted";

/// How a method gets its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receiver {
    /// By no `self`.
    None,
    Shared,
    Exclusive,
}

/// The parts of a signature.
pub struct Parts {
    pub receiver: Receiver,
    /// The function's arguments as it has them, but for what is PyO3's.
    pub own: Vec<FnArg>,
    /// Those that Python gives, with what is PyO3's.
    pub given: Vec<FnArg>,
    /// What the function is called with.
    pub passed: Vec<Ident>,
    /// It takes the token of `cancel = "shield"`.
    pub takes_token: bool,
}

impl Parts {
    pub fn of(signature: &Signature, way: Way) -> Result<Self> {
        let mut parts =
            Self { receiver: Receiver::None, own: vec![], given: vec![], passed: vec![], takes_token: false };
        if !signature.generics.params.is_empty() {
            return Err(Error::new_spanned(&signature.generics, "what Python calls is not generic"));
        }
        for argument in &signature.inputs {
            parts.take(argument, way)?;
        }
        if let ReturnType::Type(_, output) = &signature.output {
            check_owned(output, NOT_OWNED_RESULT)?;
        }
        Ok(parts)
    }

    fn take(&mut self, argument: &FnArg, way: Way) -> Result<()> {
        let typed = match argument {
            FnArg::Receiver(receiver) if receiver.reference.is_some() && receiver.colon_token.is_none() => {
                let exclusive = receiver.mutability.is_some();
                self.receiver = if exclusive { Receiver::Exclusive } else { Receiver::Shared };
                self.own.push(argument.clone());
                return Ok(());
            }
            FnArg::Receiver(_) => return Err(Error::new_spanned(argument, "`&self`, `&mut self` or `slf: Py<Self>`")),
            FnArg::Typed(typed) => typed,
        };
        let Pat::Ident(pattern) = &*typed.pat else {
            return Err(Error::new_spanned(&typed.pat, "an argument of a Python function is a plain name"));
        };
        let (theirs, ours): (Vec<_>, Vec<_>) = typed.attrs.iter().cloned().partition(is_pyo3);
        self.own.push(FnArg::Typed(syn::PatType { attrs: ours, ..typed.clone() }));
        if last_name(&typed.ty).is_some_and(|name| name == "CancellationToken") {
            if way != Way::Shielded {
                return Err(Error::new_spanned(typed, "the token comes with `cancel = \"shield\"`"));
            }
            self.takes_token = true;
            self.passed.push(token());
            return Ok(());
        }
        if last_name(&typed.ty).is_some_and(|name| name == "Python") {
            return Err(Error::new_spanned(typed, NO_PYTHON));
        }
        check_owned(&typed.ty, NOT_OWNED)?;
        let mut given = syn::PatType { attrs: theirs, ..typed.clone() };
        let plain = syn::PatIdent { mutability: None, ..pattern.clone() };
        *given.pat = Pat::Ident(plain);
        self.given.push(FnArg::Typed(given));
        self.passed.push(pattern.ident.clone());
        Ok(())
    }
}

/// The name of the token among the arguments.
pub fn token() -> Ident {
    Ident::new("__pyloop_token", Span::call_site())
}

/// The last part of a type's path.
fn last_name(written: &Type) -> Option<&Ident> {
    match written {
        Type::Path(path) => path.path.segments.last().map(|last| &last.ident),
        Type::Group(group) => last_name(&group.elem),
        _ => None,
    }
}

/// Refuse a type that borrows: with a lifetime that is not `'static`, or one that PyO3 bounds by the GIL.
fn check_owned(written: &Type, text: &str) -> Result<()> {
    if borrows(written.to_token_stream()) { Err(Error::new_spanned(written, text)) } else { Ok(()) }
}

fn borrows(tokens: TokenStream) -> bool {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let found = match token {
            TokenTree::Group(group) => borrows(group.stream()),
            TokenTree::Ident(name) => ["Bound", "Borrowed", "PyRef", "PyRefMut"].iter().any(|known| name == known),
            // Its lifetime is what counts, if it has one.
            TokenTree::Punct(mark) if mark.as_char() == '&' => {
                !matches!(tokens.peek(), Some(TokenTree::Punct(next)) if next.as_char() == '\'')
            }
            TokenTree::Punct(mark) if mark.as_char() == '\'' => {
                !matches!(tokens.peek(), Some(TokenTree::Ident(name)) if name == "static")
            }
            _ => false,
        };
        if found {
            return true;
        }
    }
    false
}

fn name_of(attribute: &Attribute) -> Option<String> {
    attribute.path().segments.last().map(|last| last.ident.to_string())
}

/// Whether an attribute is PyO3's.
pub fn is_pyo3(attribute: &Attribute) -> bool {
    name_of(attribute).is_some_and(|name| PYO3.contains(&name.as_str()))
        || (attribute.path().is_ident("cfg_attr") && attribute.meta.to_token_stream().to_string().contains("pyo3"))
}

/// Whether an attribute is this one of PyO3's, also where a feature decides.
pub fn is_or_has(attribute: &Attribute, wanted: &str) -> bool {
    fn has(tokens: TokenStream, wanted: &str) -> bool {
        tokens.into_iter().any(|token| match token {
            TokenTree::Ident(name) => name == wanted,
            TokenTree::Group(group) => has(group.stream(), wanted),
            _ => false,
        })
    }
    name_of(attribute).is_some_and(|name| name == wanted)
        || (attribute.path().is_ident("cfg_attr") && has(attribute.meta.to_token_stream(), wanted))
}

/// Whether what Python calls has the attribute, too: what is PyO3's, what says whether it is there, what documents it.
pub fn is_for_python(attribute: &Attribute) -> bool {
    is_pyo3(attribute) || ["doc", "cfg", "cfg_attr"].iter().any(|name| attribute.path().is_ident(name))
}

/// Refuse what gives no awaitable, and what has no object to be called on.
pub fn check_kind(attributes: &[Attribute], signature: &Signature) -> Result<()> {
    let is = |one: &Attribute, names: &[&str]| name_of(one).is_some_and(|name| names.contains(&name.as_str()));
    if let Some(found) = attributes.iter().find(|one| is(one, &NO_METHODS)) {
        return Err(Error::new_spanned(found, "this is no method: it cannot be awaited"));
    }
    if signature.inputs.is_empty() && !attributes.iter().any(|one| is(one, &["staticmethod"])) {
        return Err(Error::new_spanned(&signature.ident, "a method without `self` is a `#[staticmethod]`"));
    }
    Ok(())
}

/// Its name in Python, and whether an attribute says so.
pub fn python_name(attributes: &[Attribute], name: &Ident) -> (String, bool) {
    let given = attributes.iter().filter(|one| is_pyo3(one)).find_map(|one| match &one.meta {
        Meta::List(list) => given_name(list.tokens.clone()),
        _ => None,
    });
    let is_given = given.is_some();
    (given.unwrap_or_else(|| name.unraw().to_string()), is_given)
}

/// The `"…"` of `name = "…"`.
fn given_name(tokens: TokenStream) -> Option<String> {
    let tokens: Vec<_> = tokens.into_iter().collect();
    tokens.windows(3).find_map(|three| match three {
        [TokenTree::Ident(key), TokenTree::Punct(is), text @ TokenTree::Literal(_)]
            if key == "name" && is.as_char() == '=' =>
        {
            syn::parse2::<LitStr>(text.to_token_stream()).ok().map(|text| text.value())
        }
        _ => None,
    })
}
