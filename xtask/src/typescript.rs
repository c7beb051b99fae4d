//! The TypeScript example: its packages and its compilation, beside its sources.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::prerequisites::{self, Node};
use crate::{console, environment};

/// Where it is, relative to the checkout.
const EXAMPLE: &str = "docs/examples/typescript";

/// Says which lock file the installed packages are of; inside `node_modules`.
const INSTALLED: &str = "node_modules/.installed";

/// Whether the example can run.
pub(crate) enum Prepared {
    /// With this command line before the script.
    Runs(&'static str),
    /// What the machine lacks, and what would help.
    Cannot(String),
    /// This checkout has no such example.
    Absent,
}

/// Installs what the lock file names, unless that is there, and compiles.
pub(crate) fn prepare(root: &Path) -> Result<Prepared> {
    let folder = root.join(EXAMPLE);
    if !folder.join("package.json").is_file() {
        return Ok(Prepared::Absent);
    }
    let node = match Node::find() {
        Node::Plain => "node",
        Node::WithFlag => "node --experimental-websocket",
        Node::Unfit(why) => {
            return Ok(Prepared::Cannot(format!("{why}. It needs Node.js 20 or later")));
        }
    };
    if !prerequisites::answers("npm", &["--version"]) {
        return Ok(Prepared::Cannot("there is no `npm`; install it with Node.js".to_owned()));
    }
    let lock = folder.join("package-lock.json");
    let wanted =
        fs::read_to_string(&lock).with_context(|| format!("cannot read {}", lock.display()))?;
    let installed = folder.join(INSTALLED);
    if fs::read_to_string(&installed).ok().as_ref() != Some(&wanted) {
        console::note("installing the TypeScript example's packages (npm)");
        npm(&folder, &["ci"])?;
        fs::write(&installed, &wanted)
            .with_context(|| format!("cannot write {}", installed.display()))?;
    }
    npm(&folder, &["run", "build"])?;
    Ok(Prepared::Runs(node))
}

fn npm(folder: &Path, arguments: &[&str]) -> Result<()> {
    environment::output(Command::new("npm").current_dir(folder).args(arguments))?;
    Ok(())
}
