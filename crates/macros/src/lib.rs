//! `#[pyloop::main]`: an async main on a pyloop event loop.

use proc_macro::TokenStream;
use quote::quote;
use syn::{ItemFn, parse_macro_input};

/// Makes an `async fn main()` into the main of a program: Python is started, and the function runs on a new event
/// loop in the main thread. An error that it gives is printed as Python prints one, and the program exits with 1
/// (with its code for `SystemExit`).
#[proc_macro_attribute]
pub fn main(_arguments: TokenStream, item: TokenStream) -> TokenStream {
    let function = parse_macro_input!(item as ItemFn);
    let (attributes, visibility, block, output) =
        (&function.attrs, &function.vis, &function.block, &function.sig.output);
    if function.sig.asyncness.is_none() || !function.sig.inputs.is_empty() || function.sig.ident != "main" {
        let text = "#[pyloop::main] is for `async fn main()` without arguments";
        return syn::Error::new_spanned(&function.sig, text).to_compile_error().into();
    }
    quote! {
        #(#attributes)*
        #visibility fn main() -> ::std::process::ExitCode {
            async fn main() #output #block
            ::pyloop::run_main(main)
        }
    }
    .into()
}
