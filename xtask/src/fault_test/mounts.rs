//! Small file systems that a fault can fill, break or make read-only.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::environment;
use crate::prerequisites::MKFS;

/// Attempts to take what is free.
const FILL_TRIES_MAX: u32 = 100;

/// A mounted file system, unmounted when it is dropped.
pub(super) struct Mount {
    path: PathBuf,
}

impl Mount {
    /// Memory of so many bytes.
    pub(super) fn memory(path: PathBuf, bytes: u64) -> Result<Self> {
        let size = format!("size={bytes}");
        Self::new(path, &["-t", "tmpfs", "-o", &size, "mooring-fault"])
    }

    /// ext4 in the file `image`, which is made with so many bytes and none of them allocated.
    pub(super) fn image(path: PathBuf, image: &Path, bytes: u64) -> Result<Self> {
        File::create(image)?.set_len(bytes)?;
        environment::output(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(image))?;
        Self::loop_of(path, image)
    }

    /// The same file system again.
    pub(super) fn loop_of(path: PathBuf, image: &Path) -> Result<Self> {
        let image = image.display().to_string();
        Self::new(path, &["-o", "loop", &image])
    }

    /// What is in `path`, and none of it can be written.
    pub(super) fn read_only(path: PathBuf) -> Result<Self> {
        let name = path.display().to_string();
        let mount = Self::new(path, &["--bind", &name])?;
        let mut command = Command::new("mount");
        environment::output(command.args(["-o", "remount,ro,bind"]).arg(&mount.path))?;
        Ok(mount)
    }

    fn new(path: PathBuf, arguments: &[&str]) -> Result<Self> {
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        environment::output(Command::new("mount").args(arguments).arg(&path))?;
        Ok(Self { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Unmounts it, and says so if that fails.
    pub(super) fn end(self) -> Result<()> {
        environment::output(Command::new("umount").arg(&self.path)).map(drop)
    }

    /// Takes all space but so many bytes; what it takes it with.
    pub(super) fn fill(&self, left: u64) -> Result<PathBuf> {
        let filler = self.path.join("filler");
        let free = || -> Result<u64> {
            let stat = rustix::fs::statvfs(&self.path)?;
            Ok(stat.f_bavail * stat.f_frsize)
        };
        let file = File::create(&filler)?;
        // The server writes meanwhile, so what was free a moment ago may not be.
        for _ in 0..FILL_TRIES_MAX {
            let bytes = free()?.saturating_sub(left);
            if bytes == 0 {
                break;
            }
            match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
                Err(rustix::io::Errno::NOSPC) => {}
                result => {
                    result?;
                    break;
                }
            }
        }
        ensure!(free()? <= left + (1 << 20), "{} is not full", self.path.display());
        Ok(filler)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // At the end of a trial that failed half-way a server may still have it: then it goes when
        // that has ended.
        let mut command = Command::new("umount");
        command.arg("--lazy").arg(&self.path).stdout(Stdio::null()).stderr(Stdio::null());
        let _ = command.status();
    }
}

/// Why nothing can be mounted here.
pub(super) fn cannot_mount() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("mounting a file system takes root");
    }
    // A container's root may not.
    let can = tempfile::tempdir().is_ok_and(|folder| {
        Mount::memory(folder.path().to_owned(), 1 << 20).and_then(Mount::end).is_ok()
    });
    (!can).then_some("this root may not mount a file system (in a container: CAP_SYS_ADMIN)")
}

/// Why there can be no disk here whose writes fail.
pub(super) fn cannot_make_disk() -> Option<&'static str> {
    let loops = Path::new("/dev/loop-control").exists();
    cannot_mount()
        .or_else(|| (!loops).then_some("there are no loop devices (modprobe loop)"))
        .or_else(|| {
            let missing = !MKFS.is_there();
            missing.then_some("mkfs.ext4 is not installed (apt-get install e2fsprogs)")
        })
}
