//! Python environments in the cache: one for flatc, one for the example clients.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{cache, console, environment};

/// What the Python example needs, relative to the checkout.
const EXAMPLE_REQUIREMENTS: &str = "docs/examples/python/requirements.txt";

/// A virtual environment with its packages installed.
pub(crate) struct Venv {
    folder: PathBuf,
}

impl Venv {
    /// The environment `name` with `requirements` (lines as pip reads them); made if it is missing.
    pub(crate) fn ensure(cache_dir: &Path, name: &str, requirements: &str) -> Result<Self> {
        let version = environment::output(Command::new("python3").arg("--version"))?;
        let mut hasher = DefaultHasher::new();
        (version.trim(), requirements).hash(&mut hasher);
        let folder = cache_dir.join("python").join(format!("{name}-{:016x}", hasher.finish()));
        let venv = Self { folder };
        // Scripts in a venv contain its path, so it is made in place and marked when complete.
        let complete = venv.folder.join("complete");
        if complete.is_file() {
            return Ok(venv);
        }
        let _lock = cache::lock(&venv.folder.with_extension("lock"), "a Python environment")?;
        if !complete.is_file() {
            venv.make(requirements)?;
            fs::write(&complete, requirements)
                .with_context(|| format!("cannot write {}", complete.display()))?;
        }
        Ok(venv)
    }

    /// The environment for the Python example, or none where the checkout has no such example.
    pub(crate) fn for_examples(root: &Path, cache_dir: &Path) -> Result<Option<Self>> {
        match fs::read_to_string(root.join(EXAMPLE_REQUIREMENTS)) {
            Ok(requirements) => Self::ensure(cache_dir, "examples", &requirements).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {EXAMPLE_REQUIREMENTS}")),
        }
    }

    /// A program of the environment.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.folder.join("bin").join(name)
    }

    fn make(&self, requirements: &str) -> Result<()> {
        console::note("making a Python environment in the cache (pip)");
        cache::remove_dir_if_there(&self.folder)?;
        environment::output(Command::new("python3").args(["-m", "venv"]).arg(&self.folder))?;
        let list = self.folder.join("requirements.txt");
        fs::write(&list, requirements)
            .with_context(|| format!("cannot write {}", list.display()))?;
        let mut pip = Command::new(self.program("python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        environment::output(pip.arg("--requirement").arg(&list))?;
        Ok(())
    }
}
