//! What stands in the brackets of `#[pyloop::awaitable(…)]` and `#[pyloop::main(…)]`.

use syn::parse::{Parse, ParseStream};
use syn::{Ident, LitInt, LitStr, Result, Token};

/// Where the function runs, and what becomes of it when its awaiter is cancelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// In the step of the task that awaits it; dropped.
    #[default]
    InPlace,
    /// On the background runtime; dropped.
    Spawned,
    /// On the background runtime, to its end.
    Shielded,
    /// A function without `async`, on a thread that may block.
    Blocking,
}

const KNOWN: &str = "one of `spawn`, `blocking`, `cancel = \"drop\"` and `cancel = \"shield\"`";

impl Parse for Way {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let (mut spawns, mut blocks, mut shields) = (false, None, false);
        while !input.is_empty() {
            let name: Ident = input.parse()?;
            if name == "spawn" {
                spawns = true;
            } else if name == "blocking" {
                blocks = Some(name);
            } else if name == "cancel" {
                input.parse::<Token![=]>()?;
                let what: LitStr = input.parse()?;
                match what.value().as_str() {
                    "drop" => {}
                    "shield" => shields = true,
                    _ => return Err(syn::Error::new(what.span(), "\"drop\" or \"shield\"")),
                }
            } else {
                return Err(syn::Error::new(name.span(), KNOWN));
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        match blocks {
            Some(name) if spawns || shields => {
                let text =
                    "`blocking` stands alone: such a function has a thread of its own, and runs to its end there";
                Err(syn::Error::new(name.span(), text))
            }
            Some(_) => Ok(Self::Blocking),
            None if shields => Ok(Self::Shielded),
            None if spawns => Ok(Self::Spawned),
            None => Ok(Self::InPlace),
        }
    }
}

/// The background runtime of a program, by the names that tokio's own `main` has for them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Background {
    /// It has one thread.
    pub current_thread: bool,
    pub worker_threads: Option<usize>,
}

impl Background {
    /// Nothing is said of it.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Parse for Background {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut background = Self::default();
        while !input.is_empty() {
            let name: Ident = input.parse()?;
            input.parse::<Token![=]>()?;
            if name == "flavor" {
                let flavor: LitStr = input.parse()?;
                background.current_thread = match flavor.value().as_str() {
                    "current_thread" => true,
                    "multi_thread" => false,
                    _ => return Err(syn::Error::new(flavor.span(), "\"current_thread\" or \"multi_thread\"")),
                };
            } else if name == "worker_threads" {
                let count: LitInt = input.parse()?;
                background.worker_threads = Some(count.base10_parse()?);
                if background.worker_threads == Some(0) {
                    return Err(syn::Error::new(count.span(), "one thread at least"));
                }
            } else {
                return Err(syn::Error::new(name.span(), "`flavor` or `worker_threads`"));
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        if background.current_thread && background.worker_threads.is_some() {
            return Err(input.error("`worker_threads` is for the flavor \"multi_thread\""));
        }
        Ok(background)
    }
}
