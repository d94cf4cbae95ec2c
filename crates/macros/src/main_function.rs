//! What `#[pyloop::main]` makes of a program's main.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, ItemFn, Result};

use crate::options::Background;

/// The expansion, or the error.
pub fn expand(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let expanded = syn::parse2(arguments).and_then(|background| expand_main(&background, item));
    expanded.unwrap_or_else(|failed| failed.to_compile_error())
}

fn expand_main(background: &Background, item: TokenStream) -> Result<TokenStream> {
    let function: ItemFn = syn::parse2(item)?;
    let (attributes, visibility, block, output) =
        (&function.attrs, &function.vis, &function.block, &function.sig.output);
    if function.sig.asyncness.is_none() || !function.sig.inputs.is_empty() || function.sig.ident != "main" {
        let text = "#[pyloop::main] is for `async fn main()` without arguments";
        return Err(Error::new_spanned(&function.sig, text));
    }
    let (current_thread, workers) = (background.current_thread, background.worker_threads.unwrap_or(0));
    let init =
        (!background.is_default()).then(|| quote!(::pyloop::__expansion::init_background(#current_thread, #workers);));
    Ok(quote! {
        #(#attributes)*
        #visibility fn main() -> ::std::process::ExitCode {
            async fn main() #output #block
            #init
            ::pyloop::run_main(main)
        }
    })
}
