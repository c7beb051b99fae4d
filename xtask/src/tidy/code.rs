//! Rust code: heads of crates, the length of functions, reasons of exceptions, leftovers.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::Findings;
use super::tree::{SourceFile, Tree};

/// A function that is longer does more than one thing.
const FUNCTION_LINES_MAX: usize = 70;

/// Tests may list more rows.
const TEST_FUNCTION_LINES_MAX: usize = 120;

/// Macros that mark unfinished or passing work.
const UNFINISHED: [&str; 3] = ["todo", "unimplemented", "dbg"];

/// Where hand-written unsafe code may be.
const UNSAFE_HOME: &str = "uring/";

/// The one crate besides that has unsafe code: the generated file, with an exception for it alone.
const UNSAFE_GENERATED: &str = "wire";

pub(super) fn check(tree: &Tree, findings: &mut Findings) {
    for file in tree.written("rs") {
        match syn::parse_file(&file.text) {
            Ok(syntax) => check_file(file, &syntax, findings),
            Err(error) => {
                findings.add(&file.path, error.span().start().line, format!("no Rust: {error}"));
            }
        }
    }
}

fn check_file(file: &SourceFile, syntax: &syn::File, findings: &mut Findings) {
    let place = file.path.split_once('/').map_or("", |(_, rest)| rest);
    if let "src/lib.rs" | "src/main.rs" = place {
        check_head(file, syntax, place == "src/lib.rs", findings);
    }
    if !file.path.starts_with(UNSAFE_HOME) {
        find_unsafe(&syntax.to_token_stream(), &mut |line| {
            findings.add(&file.path, line, format!("unsafe code lives in {UNSAFE_HOME} alone"));
        });
    }
    Inspector { file, findings, in_test: file.is_test() }.visit_file(syntax);
}

/// The head of a crate says that it is safe (but for the ring's) and, of a library, documented.
fn check_head(file: &SourceFile, syntax: &syn::File, is_library: bool, findings: &mut Findings) {
    let says = |lint: &str| {
        syntax.attrs.iter().any(|attribute| {
            attribute.to_token_stream().to_string().replace(' ', "").contains(lint)
        })
    };
    if is_library && !says("warn(missing_docs)") && !says("deny(missing_docs)") {
        findings.add(&file.path, 1, "a library's head says `#![warn(missing_docs)]`");
    }
    let is_safe = match file.crate_name() {
        name if UNSAFE_HOME.trim_end_matches('/') == name => true,
        UNSAFE_GENERATED => says("deny(unsafe_code)"),
        _ => says("forbid(unsafe_code)"),
    };
    if !is_safe {
        findings.add(&file.path, 1, "a crate's head says `#![forbid(unsafe_code)]`");
    }
}

fn find_unsafe(tokens: &TokenStream, found: &mut impl FnMut(usize)) {
    for token in tokens.clone() {
        match token {
            TokenTree::Ident(ident) if ident == "unsafe" => found(ident.span().start().line),
            TokenTree::Group(group) => find_unsafe(&group.stream(), found),
            _ => {}
        }
    }
}

/// The line (from 1) at which a node begins.
pub(super) fn line_of(node: &impl Spanned) -> usize {
    node.span().start().line
}

/// Whether the attributes say `#[cfg(test)]`, alone or with more conditions.
pub(super) fn is_test_only(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return false };
        let condition = list.tokens.to_string();
        list.path.is_ident("cfg") && (condition == "test" || condition.starts_with("all (test"))
    })
}

struct Inspector<'a> {
    file: &'a SourceFile,
    findings: &'a mut Findings,
    in_test: bool,
}

impl Inspector<'_> {
    fn add(&mut self, line: usize, message: impl Into<String>) {
        self.findings.add(&self.file.path, line, message);
    }

    fn check_length(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let first = line_of(signature);
        let count = block.brace_token.span.close().end().line + 1 - first;
        let limit = if self.in_test { TEST_FUNCTION_LINES_MAX } else { FUNCTION_LINES_MAX };
        if count > limit {
            let name = &signature.ident;
            self.add(first, format!("`{name}` has {count} lines; {limit} are the limit"));
        }
    }

    /// `inner` is what stands in an attribute's brackets.
    fn check_reason(&mut self, line: usize, inner: &str) {
        let inner = inner.trim();
        let has_reason = inner.contains("reason =");
        for lint in ["allow", "expect"] {
            if inner.starts_with(&format!("{lint} (")) && !has_reason {
                self.add(line, format!("say why: `#[{lint}(..., reason = \"...\")]`"));
            }
        }
        if inner == "ignore" {
            self.add(line, "say why: `#[ignore = \"...\"]`");
        }
        let conditional = inner.strip_prefix("cfg_attr (").and_then(|rest| rest.split_once(','));
        if let Some((_, attribute)) = conditional {
            self.check_reason(line, attribute);
        }
    }
}

impl<'ast> Visit<'ast> for Inspector<'_> {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        let outer = self.in_test;
        self.in_test |= is_test_only(&module.attrs);
        visit::visit_item_mod(self, module);
        self.in_test = outer;
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.check_length(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.check_length(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        self.check_reason(line_of(attribute), &attribute.meta.to_token_stream().to_string());
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        if let Some(name) = UNFINISHED.iter().find(|name| call.path.is_ident(name)) {
            self.add(line_of(call), format!("`{name}!` is not for a commit"));
        }
        visit::visit_macro(self, call);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::check;
    use super::*;

    #[test]
    fn a_head_without_its_promises_is_found() {
        let documented = "#![warn(missing_docs)]\n";
        let whole = "#![forbid(unsafe_code)]\n#![warn(missing_docs)]\n";
        check("ws/src/lib.rs", whole, &[]);
        check("ws/src/other.rs", "", &[]);
        check("uring/src/lib.rs", documented, &[]);
        check("ws/src/lib.rs", documented, &[(1, "forbid(unsafe_code)")]);
        check("mooring/src/main.rs", documented, &[(1, "forbid(unsafe_code)")]);
        check("mooring/src/main.rs", "#![forbid(unsafe_code)]\n", &[]);
        check("ws/src/lib.rs", "#![forbid(unsafe_code)]\n", &[(1, "missing_docs")]);
        check("wire/src/lib.rs", "#![deny(unsafe_code)]\n#![warn(missing_docs)]\n", &[]);
        let denied = "#![deny(unsafe_code)]\n#![warn(missing_docs)]\n";
        check("ws/src/lib.rs", denied, &[(1, "forbid(unsafe_code)")]);
    }

    #[test]
    fn unsafe_code_outside_its_home_is_found_also_in_a_macro() {
        let block = "fn f() {\n    unsafe { g() }\n}\n";
        check("ws/src/a.rs", block, &[(2, "unsafe code")]);
        check("ws/tests/a.rs", "m! {\n    unsafe impl Send for A {}\n}\n", &[(2, "unsafe code")]);
        check("uring/src/a.rs", block, &[]);
        check("ws/src/a.rs", "// unsafe\nconst A: &str = \"unsafe\";\n", &[]);
    }

    #[test]
    fn a_function_over_the_limit_is_found_and_tests_have_more_room() {
        let function =
            |lines: usize| format!("fn long() {{\n{}}}\n", "    g();\n".repeat(lines - 2));
        let test = |lines| format!("#[cfg(test)]\nmod tests {{\n{}}}\n", function(lines));
        check("ws/src/a.rs", &function(FUNCTION_LINES_MAX), &[]);
        check("ws/src/a.rs", &function(FUNCTION_LINES_MAX + 1), &[(1, "`long` has 71 lines")]);
        let method = format!("impl A {{\n{}}}\n", function(FUNCTION_LINES_MAX + 1));
        check("ws/src/a.rs", &method, &[(2, "`long` has 71 lines")]);
        check("ws/src/a.rs", &test(TEST_FUNCTION_LINES_MAX), &[]);
        check("ws/src/a.rs", &test(TEST_FUNCTION_LINES_MAX + 1), &[(3, "`long` has 121 lines")]);
        check("ws/tests/a.rs", &function(TEST_FUNCTION_LINES_MAX), &[]);
    }

    #[test]
    fn an_exception_without_a_reason_is_found() {
        let rows = [
            ("#[allow(dead_code)]\nfn f() {}\n", Some("reason")),
            ("#![allow(dead_code)]\n", Some("reason")),
            ("#[expect(dead_code)]\nfn f() {}\n", Some("reason")),
            ("#[cfg_attr(test, allow(dead_code))]\nfn f() {}\n", Some("reason")),
            ("#[ignore]\nfn f() {}\n", Some("#[ignore =")),
            ("#[allow(dead_code, reason = \"used by a script\")]\nfn f() {}\n", None),
            ("#[ignore = \"needs a network\"]\nfn f() {}\n", None),
        ];
        for (text, words) in rows {
            let expected: Vec<_> = words.map(|words| (1, words)).into_iter().collect();
            check("ws/src/a.rs", text, &expected);
        }
    }

    #[test]
    fn unfinished_work_is_found() {
        for name in UNFINISHED {
            let text = format!("fn f() {{\n    {name}!()\n}}\n");
            check("ws/src/a.rs", &text, &[(2, "is not for a commit")]);
        }
    }

    #[test]
    fn a_file_that_is_no_rust_is_found() {
        check("ws/src/a.rs", "fn f() {}\nfn {\n", &[(2, "no Rust")]);
    }
}
