//! Python environments in the cache: for flatc, for the example clients, for the conformance suite.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{cache, console, environment};

/// What the Python example needs, relative to the checkout.
const EXAMPLE_REQUIREMENTS: &str = "docs/examples/python/requirements.txt";

/// What makes environments of Python 2.7; from its version 20.22 on it does not.
const VIRTUALENV: &str = "virtualenv==20.15.1\nsetuptools<80\n";

/// Names an interpreter of Python 2.7.
const PYTHON27: &str = "MOORING_PYTHON27";

/// An interpreter of Python 2.7: the one that is named, one on the path, or pyenv's.
pub(crate) fn find_python27() -> Option<PathBuf> {
    let named = std::env::var_os(PYTHON27).map(PathBuf::from);
    let on_path = PathBuf::from("python2.7");
    let output = |arguments: &[&str]| environment::output(Command::new("pyenv").args(arguments));
    let version = output(&["versions", "--bare"]).unwrap_or_default();
    let version = version.lines().find(|line| line.trim().starts_with("2.7"));
    let prefix = version.and_then(|version| output(&["prefix", version.trim()]).ok());
    let pyenv = prefix.map(|prefix| Path::new(prefix.trim()).join("bin/python2.7"));
    let is_27 = "import sys; sys.exit(sys.version_info[:2] != (2, 7))";
    [named, Some(on_path), pyenv].into_iter().flatten().find(|python| {
        Command::new(python).args(["-c", is_27]).output().is_ok_and(|done| done.status.success())
    })
}

/// A virtual environment with its packages installed.
pub(crate) struct Venv {
    folder: PathBuf,
}

impl Venv {
    /// The environment `name` with `requirements` (lines as pip reads them); made if it is missing.
    pub(crate) fn ensure(cache_dir: &Path, name: &str, requirements: &str) -> Result<Self> {
        let version = environment::output(Command::new("python3").arg("--version"))?;
        Self::ensure_made(cache_dir, name, requirements, version.trim(), |folder| {
            let mut python = Command::new("python3");
            environment::output(python.args(["-m", "venv"]).arg(folder))
        })
    }

    /// As [`Self::ensure`], on a Python 2.7: by the last virtualenv that makes such environments.
    pub(crate) fn ensure_python27(
        cache_dir: &Path,
        name: &str,
        requirements: &str,
        python: &Path,
    ) -> Result<Self> {
        let tools = Self::ensure(cache_dir, "virtualenv", VIRTUALENV)?;
        let version = python.display().to_string();
        Self::ensure_made(cache_dir, name, requirements, &version, |folder| {
            let mut virtualenv = Command::new(tools.program("virtualenv"));
            environment::output(virtualenv.args(["--quiet", "--python"]).arg(python).arg(folder))
        })
    }

    /// `make` makes an environment without packages in a folder; `version` tells its Python from
    /// others.
    fn ensure_made(
        cache_dir: &Path,
        name: &str,
        requirements: &str,
        version: &str,
        make: impl FnOnce(&Path) -> Result<String>,
    ) -> Result<Self> {
        let mut hasher = DefaultHasher::new();
        (version, requirements).hash(&mut hasher);
        let folder = cache_dir.join("python").join(format!("{name}-{:016x}", hasher.finish()));
        let venv = Self { folder };
        // Scripts in a venv contain its path, so it is made in place and marked when complete.
        let complete = venv.folder.join("complete");
        if complete.is_file() {
            return Ok(venv);
        }
        let _lock = cache::lock(&venv.folder.with_extension("lock"), "a Python environment")?;
        if !complete.is_file() {
            console::note(&format!("making the Python environment {name} in the cache (pip)"));
            cache::remove_dir_if_there(&venv.folder)?;
            make(&venv.folder)?;
            venv.install(requirements)?;
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

    fn install(&self, requirements: &str) -> Result<()> {
        let list = self.folder.join("requirements.txt");
        fs::write(&list, requirements)
            .with_context(|| format!("cannot write {}", list.display()))?;
        let mut pip = Command::new(self.program("python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        environment::output(pip.arg("--requirement").arg(&list))?;
        Ok(())
    }
}
