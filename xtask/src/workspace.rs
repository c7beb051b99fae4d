//! The checkout: where it is and what its manifests say.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The root of the checkout.
///
/// Cargo sets `CARGO_MANIFEST_DIR` for what it runs; the compiled-in value serves a binary that was
/// started by hand.
pub(crate) fn root() -> PathBuf {
    let manifest_dir = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    match manifest_dir.parent() {
        Some(root) => root.to_path_buf(),
        None => manifest_dir,
    }
}

/// A TOML file of the checkout, named relative to `root`.
pub(crate) fn read_toml(root: &Path, name: &str) -> Result<toml::Table> {
    let path = root.join(name);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}; run xtask inside a checkout", path.display()))?;
    text.parse().with_context(|| format!("{} is not valid TOML", path.display()))
}

/// The version of `package` that `Cargo.lock` pins.
pub(crate) fn locked_version(root: &Path, package: &str) -> Result<String> {
    let lock = read_toml(root, "Cargo.lock")?;
    let packages = lock.get("package").and_then(toml::Value::as_array);
    packages
        .into_iter()
        .flatten()
        .find(|entry| entry.get("name").and_then(toml::Value::as_str) == Some(package))
        .and_then(|entry| entry.get("version")?.as_str())
        .map(str::to_owned)
        .with_context(|| format!("Cargo.lock pins no package named {package}"))
}
