//! Cargo manifests: what members inherit, and why each dependency is there.

use super::Findings;
use super::tree::{SourceFile, Tree};

/// Keys that every member takes from the workspace, so that they are equal everywhere.
const INHERITED: [&str; 5] = ["version", "edition", "rust-version", "license", "publish"];

/// Tables of a member's manifest that list dependencies, and whether only tests see them.
const DEPENDENCY_TABLES: [(&str, bool); 3] =
    [("dependencies", false), ("build-dependencies", false), ("dev-dependencies", true)];

/// A dependency as a member's manifest states it.
pub(super) struct Dependency {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) is_dev: bool,
    from_workspace: bool,
}

/// Whether this is the manifest of a crate at the root of the checkout.
pub(super) fn is_of_a_crate(path: &str) -> bool {
    path.split_once('/').is_some_and(|(_, rest)| rest == "Cargo.toml")
}

pub(super) fn check(tree: &Tree, findings: &mut Findings) {
    if let Some(root) = tree.get("Cargo.toml") {
        check_reasons(root, findings);
    }
    for file in tree.texts().filter(|file| is_of_a_crate(&file.path)) {
        check_member(file, findings);
    }
}

/// The dependencies of a member.
pub(super) fn dependencies(file: &SourceFile) -> Vec<Dependency> {
    let Ok(manifest) = file.text.parse::<toml::Table>() else { return Vec::new() };
    let mut found = Vec::new();
    for (title, is_dev) in DEPENDENCY_TABLES {
        let Some(table) = manifest.get(title).and_then(toml::Value::as_table) else { continue };
        for (name, value) in table {
            found.push(Dependency {
                name: name.clone(),
                line: line_in_table(file, title, name),
                is_dev,
                from_workspace: inherits(value),
            });
        }
    }
    found
}

fn inherits(value: &toml::Value) -> bool {
    value.get("workspace").and_then(toml::Value::as_bool) == Some(true)
}

/// The line at which `name` stands in table `title`; the file's first if it is not found.
fn line_in_table(file: &SourceFile, title: &str, name: &str) -> usize {
    let mut in_table = false;
    for (number, line) in file.lines() {
        if line.starts_with('[') {
            in_table = line.trim() == format!("[{title}]");
            if line.trim() == format!("[{title}.{name}]") {
                return number;
            }
        } else if in_table && key_of(line) == Some(name) {
            return number;
        }
    }
    1
}

/// The first part of a line's key: `bytes` of `bytes.workspace = true`.
fn key_of(line: &str) -> Option<&str> {
    let end = line.find(['.', '=', ' '])?;
    Some(line[..end].trim()).filter(|key| !key.is_empty())
}

/// Each dependency of the workspace says in a comment of its line what it is for.
fn check_reasons(root: &SourceFile, findings: &mut Findings) {
    let mut in_table = false;
    for (number, line) in root.lines() {
        if line.starts_with('[') {
            in_table = line.trim() == "[workspace.dependencies]";
            continue;
        }
        let Some(name) = key_of(line).filter(|_| in_table && !line.starts_with('#')) else {
            continue;
        };
        let is_ours = line.contains("path =");
        let reason = line.split_once(" # ").map(|(_, reason)| reason.trim());
        if !is_ours && reason.is_none_or(str::is_empty) {
            findings.add(&root.path, number, format!("say in a comment what `{name}` is for"));
        }
    }
}

fn check_member(file: &SourceFile, findings: &mut Findings) {
    let manifest = match file.text.parse::<toml::Table>() {
        Ok(manifest) => manifest,
        Err(error) => {
            findings.add(&file.path, 1, format!("not valid TOML: {}", error.message()));
            return;
        }
    };
    let package = manifest.get("package");
    if package.and_then(|package| package.get("name")?.as_str()) != Some(file.crate_name()) {
        findings.add(&file.path, 1, "a crate is named like its folder");
    }
    for key in INHERITED {
        if !package.and_then(|package| package.get(key)).is_some_and(inherits) {
            findings.add(&file.path, 1, format!("write `{key}.workspace = true`"));
        }
    }
    if !manifest.get("lints").is_some_and(inherits) {
        findings.add(&file.path, 1, "take the lints of the workspace: `[lints] workspace = true`");
    }
    for dependency in dependencies(file).iter().filter(|dependency| !dependency.from_workspace) {
        let message = format!(
            "`{0}.workspace = true`, and its version with a reason in the root Cargo.toml",
            dependency.name
        );
        findings.add(&file.path, dependency.line, message);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::check;

    const MEMBER: &str = "[package]\nname = \"wire\"\nversion.workspace = true\n\
         edition.workspace = true\nrust-version.workspace = true\nlicense.workspace = true\n\
         publish.workspace = true\n[lints]\nworkspace = true\n";

    #[test]
    fn a_dependency_of_the_workspace_without_a_reason_is_found() {
        let text = "[workspace.dependencies]\n# Ours.\nwire = { path = \"wire\" }\n\
             a = \"1\" # for a\nb = \"1\"\nc = { version = \"1\" } #\n[profile.release]\nd = 1\n";
        check("Cargo.toml", text, &[(5, "what `b` is for"), (6, "what `c` is for")]);
    }

    #[test]
    fn a_member_that_takes_all_from_the_workspace_is_fine() {
        check("wire/Cargo.toml", &format!("{MEMBER}[dependencies]\na.workspace = true\n"), &[]);
    }

    #[test]
    fn a_member_that_goes_its_own_way_is_found() {
        let rows = [
            (MEMBER.replace("\"wire\"", "\"other\""), (1, "named like its folder")),
            (MEMBER.replace("rust-version.workspace = true\n", ""), (1, "`rust-version.work")),
            (MEMBER.replace("[lints]\nworkspace = true\n", ""), (1, "lints of the workspace")),
            (format!("{MEMBER}[dependencies]\nb.workspace = true\na = \"1\"\n"), (12, "a.work")),
            (format!("{MEMBER}[dev-dependencies.a]\nversion = \"1\"\n"), (10, "`a.workspace")),
            ("[package\n".to_owned(), (1, "not valid TOML")),
        ];
        for (text, expected) in rows {
            check("wire/Cargo.toml", &text, &[expected]);
        }
    }
}
