//! Who may import whom, and what a crate must not know of: section "Code map" of ARCHITECTURE.md.

use syn::visit::{self, Visit};

use super::code::{is_test_only, line_of};
use super::tree::{SourceFile, Tree};
use super::{Findings, manifests};

/// A crate's arrows.
struct Arrows {
    name: &'static str,
    /// Crates of ours that it may import.
    imports: &'static [&'static str],
    /// Crates of ours that its tests may import besides.
    tests_import: &'static [&'static str],
}

/// The whole picture. A crate that is not here fails: place it first.
const ARROWS: [Arrows; 18] = [
    Arrows { name: "wire", imports: &[], tests_import: &[] },
    Arrows { name: "ws", imports: &[], tests_import: &[] },
    Arrows { name: "uring", imports: &[], tests_import: &[] },
    Arrows { name: "variants", imports: &[], tests_import: &[] },
    Arrows { name: "router", imports: &["wire", "variants"], tests_import: &[] },
    Arrows { name: "store", imports: &["wire", "variants"], tests_import: &[] },
    Arrows {
        name: "gateway",
        imports: &["wire", "ws", "uring", "router", "store", "variants"],
        tests_import: &[],
    },
    Arrows { name: "discovery", imports: &[], tests_import: &[] },
    Arrows { name: "client", imports: &["wire", "ws"], tests_import: &["gateway"] },
    Arrows { name: "polling", imports: &["wire", "client"], tests_import: &[] },
    Arrows {
        name: "api",
        imports: &["client", "polling", "discovery", "wire", "ws"],
        tests_import: &[],
    },
    Arrows { name: "push", imports: &["gateway", "client"], tests_import: &[] },
    Arrows {
        name: "mooring",
        imports: &["gateway", "api", "push", "client", "polling", "discovery"],
        tests_import: &["wire", "ws"],
    },
    Arrows { name: "loadgen", imports: &["wire", "ws", "uring"], tests_import: &[] },
    Arrows {
        name: "benches",
        imports: &["wire", "ws", "uring", "router", "store", "gateway", "client"],
        tests_import: &[],
    },
    Arrows {
        name: "conformance",
        imports: &["ws", "uring", "router", "gateway"],
        tests_import: &[],
    },
    Arrows {
        name: "fuzz",
        imports: &["wire", "ws", "router", "store", "gateway"],
        tests_import: &[],
    },
    Arrows { name: "xtask", imports: &[], tests_import: &[] },
];

/// Something that a part of the code must not know of, outside its tests.
struct Absence {
    /// Paths of files, by their beginning.
    within: &'static [&'static str],
    except: &'static [&'static str],
    /// Paths of items, by their beginning.
    items: &'static [&'static str],
    why: &'static str,
}

const ABSENCES: [Absence; 5] = [
    Absence {
        within: &["wire/src/", "ws/src/", "router/src/"],
        except: &["router/src/mesh.rs"],
        items: &["std::thread", "std::os", "std::process"],
        why: "the crate is pure: threads are the gateway's",
    },
    Absence {
        within: &["wire/src/", "ws/src/", "router/src/", "gateway/src/shard"],
        except: &[],
        items: &[
            "std::fs",
            "std::net",
            "std::env",
            "std::time::Instant",
            "std::time::SystemTime",
            "rustix",
            "libc",
            "io_uring",
            "rocksdb",
            "rand",
            "tokio",
            "monoio",
        ],
        why: "the code is pure: it gets bytes, events and the time, and returns values",
    },
    Absence {
        within: &["wire/src/", "ws/src/", "router/src/"],
        except: &[],
        items: &["tracing"],
        why: "the crate is pure: return the error; it is logged where it is handled",
    },
    Absence {
        within: &["store/src/"],
        except: &[],
        items: &["std::net", "rustix::net", "io_uring", "monoio"],
        why: "the store knows no connection",
    },
    Absence {
        within: &[
            "wire/src/",
            "ws/src/",
            "uring/src/",
            "router/src/",
            "store/src/batch.rs",
            "gateway/src/reactor",
            "gateway/src/portable",
            "gateway/src/shard",
            "gateway/src/send_queue.rs",
            "gateway/src/connection.rs",
        ],
        except: &[],
        items: &["std::sync::Mutex", "std::sync::RwLock", "std::sync::Condvar", "parking_lot"],
        why: "no lock stands on a message's way; use a queue of the mesh",
    },
];

pub(super) fn check(tree: &Tree, findings: &mut Findings) {
    for file in tree.texts().filter(|file| manifests::is_of_a_crate(&file.path)) {
        check_manifest(file, findings);
    }
    for file in tree.written("rs") {
        // What does not parse is reported by the rules about code.
        let Ok(syntax) = syn::parse_file(&file.text) else { continue };
        for item in items_of(&syntax) {
            check_import(file, &item, findings);
            check_absences(file, &item, findings);
        }
    }
}

fn arrows_of(name: &str) -> Option<&'static Arrows> {
    ARROWS.iter().find(|arrows| arrows.name == name)
}

fn check_manifest(file: &SourceFile, findings: &mut Findings) {
    let name = file.crate_name();
    let Some(arrows) = arrows_of(name) else {
        let message = format!("crate `{name}` has no place in xtask/src/tidy/arrows.rs");
        findings.add(&file.path, 1, message);
        return;
    };
    for dependency in manifests::dependencies(file) {
        let is_ours = arrows_of(&dependency.name).is_some();
        let may_be = arrows.imports.contains(&dependency.name.as_str())
            || dependency.is_dev && arrows.tests_import.contains(&dependency.name.as_str());
        if is_ours && !may_be {
            findings.add(&file.path, dependency.line, forbidden(name, &dependency.name));
        }
    }
}

fn forbidden(source: &str, target: &str) -> String {
    format!("`{source}` must not import `{target}`; ARCHITECTURE.md shows who may import whom")
}

/// A path of an item as it stands in the code: `std::sync::Mutex`.
struct Item {
    path: String,
    line: usize,
    /// Compiled for tests alone.
    in_test: bool,
}

impl Item {
    /// Whether it is `other` or something inside it. A glob may name anything inside.
    fn is_within(&self, other: &str) -> bool {
        let starts = |path: &str, prefix: &str| {
            path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        match self.path.strip_suffix("::*") {
            Some(parent) => starts(parent, other) || starts(other, parent),
            None => starts(&self.path, other),
        }
    }
}

fn check_import(file: &SourceFile, item: &Item, findings: &mut Findings) {
    let first = item.path.split("::").next().unwrap_or("");
    let (Some(source), Some(_)) = (arrows_of(file.crate_name()), arrows_of(first)) else { return };
    let in_test = item.in_test || file.is_test();
    let may_be = first == source.name
        || source.imports.contains(&first)
        || in_test && source.tests_import.contains(&first);
    if !may_be {
        findings.add(&file.path, item.line, forbidden(source.name, first));
    }
}

fn check_absences(file: &SourceFile, item: &Item, findings: &mut Findings) {
    if item.in_test || file.is_test() {
        return;
    }
    let begins = |beginnings: &[&str]| beginnings.iter().any(|path| file.path.starts_with(path));
    for absence in &ABSENCES {
        if begins(absence.within)
            && !begins(absence.except)
            && absence.items.iter().any(|items| item.is_within(items))
        {
            findings.add(&file.path, item.line, format!("`{}`: {}", item.path, absence.why));
        }
    }
}

/// Every path of two or more parts, from `use` and from code, but for those that begin with a name
/// of the file's own: `client` may be a module here and a crate elsewhere.
fn items_of(syntax: &syn::File) -> Vec<Item> {
    let mut collector = Collector { items: Vec::new(), own_names: Vec::new(), in_test: false };
    collector.visit_file(syntax);
    let Collector { mut items, mut own_names, .. } = collector;
    if items.iter().any(|item| item.path == "super::*" || item.path == "crate::*") {
        // Any of our names may have come with the glob; the manifest is judged all the same.
        own_names.extend(ARROWS.iter().map(|arrows| arrows.name.to_owned()));
    }
    items.retain(|item| !own_names.iter().any(|name| item.is_within(name)));
    items
}

struct Collector {
    items: Vec<Item>,
    /// Modules of the file, and names that `use` brings in from elsewhere. A crate that `use`
    /// brings in under its own name is not among them.
    own_names: Vec<String>,
    in_test: bool,
}

impl Collector {
    fn add(&mut self, path: String, line: usize) {
        self.items.push(Item { path, line, in_test: self.in_test });
    }

    fn add_use(&mut self, tree: &syn::UseTree, prefix: &str) {
        let join = |name: String| match prefix {
            "" => name,
            _ => format!("{prefix}::{name}"),
        };
        match tree {
            syn::UseTree::Path(path) => self.add_use(&path.tree, &join(path.ident.to_string())),
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_use(tree, prefix);
                }
            }
            syn::UseTree::Name(name) if name.ident == "self" => {
                self.add(prefix.to_owned(), line_of(name));
            }
            syn::UseTree::Name(name) => {
                if !prefix.is_empty() {
                    self.own_names.push(name.ident.to_string());
                }
                self.add(join(name.ident.to_string()), line_of(name));
            }
            syn::UseTree::Rename(name) => {
                self.own_names.push(name.rename.to_string());
                self.add(join(name.ident.to_string()), line_of(name));
            }
            syn::UseTree::Glob(glob) => self.add(join("*".to_owned()), line_of(glob)),
        }
    }
}

impl<'ast> Visit<'ast> for Collector {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        let outer = self.in_test;
        self.in_test |= is_test_only(&module.attrs);
        self.own_names.push(module.ident.to_string());
        visit::visit_item_mod(self, module);
        self.in_test = outer;
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.add_use(&item.tree, "");
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            let names: Vec<String> =
                path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.add(names.join("::"), line_of(path));
        }
        visit::visit_path(self, path);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::check;

    #[test]
    fn an_import_against_the_arrows_is_found_in_every_form() {
        let rows = [
            ("ws/src/a.rs", "use wire::Seq;\n", "`ws` must not import `wire`"),
            ("ws/src/a.rs", "use {wire::Seq};\n", "`ws` must not import `wire`"),
            ("router/src/a.rs", "use store as other;\n", "`router` must not import `store`"),
            ("router/src/a.rs", "fn f(s: store::Store) {}\n", "must not import `store`"),
            ("loadgen/src/a.rs", "fn f() { gateway::run() }\n", "must not import `gateway`"),
            ("mooring/src/a.rs", "use wire::Seq;\n", "`mooring` must not import `wire`"),
        ];
        for (path, text, words) in rows {
            check(path, text, &[(1, words)]);
        }
    }

    #[test]
    fn an_import_along_the_arrows_is_fine_and_tests_may_import_more() {
        check("gateway/src/a.rs", "use store::Store;\nuse wire::Seq;\n", &[]);
        check("ws/src/a.rs", "mod client;\npub use client::Client;\n", &[]);
        check("ws/src/a.rs", "use crate::{client, ids};\nfn f() { client::f() }\n", &[]);
        check("ws/src/a.rs", "use super::*;\nfn f() { client::f() }\n", &[]);
        check("mooring/tests/a.rs", "use wire::Seq;\n", &[]);
        check("mooring/src/a.rs", "#[cfg(test)]\nmod tests {\n    use wire::Seq;\n}\n", &[]);
    }

    #[test]
    fn what_a_crate_must_not_know_of_is_found() {
        let rows = [
            ("router/src/a.rs", "use std::sync::{Arc, Mutex};\n", "no lock"),
            ("ws/src/a.rs", "use std::net::TcpStream;\n", "pure"),
            ("ws/src/a.rs", "use std::{fs, io};\n", "pure"),
            ("wire/src/a.rs", "fn f() { std::thread::yield_now() }\n", "threads"),
            ("gateway/src/shard.rs", "use rustix::*;\n", "pure"),
            ("store/src/a.rs", "use std::net::*;\n", "no connection"),
            ("uring/src/a.rs", "use std::sync::*;\n", "no lock"),
        ];
        for (path, text, words) in rows {
            check(path, text, &[(1, words)]);
        }
    }

    #[test]
    fn exceptions_and_tests_are_left_alone() {
        check("router/src/mesh.rs", "use std::thread::Thread;\n", &[]);
        check("router/src/a.rs", "use std::time::Duration;\n", &[]);
        check("ws/src/a.rs", "#[cfg(test)]\nmod tests {\n    use std::thread;\n}\n", &[]);
        check("router/tests/a.rs", "use std::thread;\n", &[]);
    }

    #[test]
    fn a_manifest_against_the_arrows_is_found_at_its_line() {
        let manifest = |dependencies: &str| {
            let inherited = ["version", "edition", "rust-version", "license", "publish"]
                .map(|key| format!("{key}.workspace = true\n"))
                .concat();
            let lints = "[lints]\nworkspace = true\n";
            format!("[package]\nname = \"router\"\n{inherited}{lints}{dependencies}")
        };
        let bad = manifest("[dependencies]\nwire.workspace = true\nstore.workspace = true\n");
        check("router/Cargo.toml", &bad, &[(12, "`router` must not import `store`")]);
        let dev = manifest("[dev-dependencies]\ngateway.workspace = true\n");
        check("router/Cargo.toml", &dev, &[(11, "`router` must not import `gateway`")]);
        let new = manifest("").replace("\"router\"", "\"utils\"");
        check("utils/Cargo.toml", &new, &[(1, "has no place")]);
    }
}
