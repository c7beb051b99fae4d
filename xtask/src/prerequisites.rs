//! What a machine needs besides Rust, and how it gets it.
//!
//! As root, what is missing is installed; otherwise the exact command is named and xtask ends with
//! status 2, having changed nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::{clock, console, environment};

/// Something to be found on the machine.
pub(crate) struct Tool {
    name: &'static str,
    why: &'static str,
    /// The package of Debian and its kin.
    package: &'static str,
    is_there: fn() -> bool,
}

/// What building and running need.
const TOOLS: [Tool; 3] = [
    Tool {
        name: "a C++ compiler",
        why: "compiles RocksDB and links",
        package: "g++",
        is_there: || answers("g++", &["--version"]),
    },
    Tool {
        name: "libclang",
        why: "reads RocksDB's C header",
        package: "libclang-dev",
        is_there: has_libclang,
    },
    Tool {
        name: "Python 3 with venv",
        why: "runs the schema compiler and the Python example",
        package: "python3-venv",
        is_there: || answers("python3", &["-c", "import venv, ensurepip"]),
    },
];

/// Names functions in what a fuzz target has reached.
pub(crate) const SYMBOLIZER: Tool = Tool {
    name: "llvm-symbolizer",
    why: "tells what the inputs of a fuzz target reach",
    package: "llvm",
    is_there: || answers("llvm-symbolizer", &["--version"]),
};

/// One of the databases of the API; its programs are not on the path.
pub(crate) const POSTGRESQL: Tool = Tool {
    name: "PostgreSQL",
    why: "is one of the databases that the API is tested on",
    package: "postgresql",
    is_there: || Path::new("/usr/lib/postgresql").is_dir(),
};

/// Shifts the wall clock of one process.
pub(crate) const LIBFAKETIME: Tool = Tool {
    name: "libfaketime",
    why: "lets the clock of the server jump",
    package: "libfaketime",
    is_there: || libfaketime().is_some(),
};

/// Makes file systems that a test may fill and break.
pub(crate) const MKFS: Tool = Tool {
    name: "mkfs.ext4",
    why: "makes a disk whose writes fail",
    package: "e2fsprogs",
    is_there: || answers("mkfs.ext4", &["-V"]),
};

/// Where gateways make themselves known.
pub(crate) const ZOOKEEPER: Tool = Tool {
    name: "ZooKeeper",
    why: "knows the gateways of several processes",
    package: "zookeeper",
    is_there: || Path::new(ZOOKEEPER_JAR).is_file() && answers("java", &["-version"]),
};

/// What Debian's package `zookeeper` installs.
pub(crate) const ZOOKEEPER_JAR: &str = "/usr/share/java/zookeeper.jar";

/// Another server that holds WebSockets.
pub(crate) const NCHAN: Tool = Tool {
    name: "nginx with nchan",
    why: "holds sessions to compare with",
    package: "libnginx-mod-nchan",
    is_there: || {
        let module = Path::new("/usr/lib/nginx/modules/ngx_nchan_module.so");
        module.is_file() && answers("nginx", &["-v"])
    },
};

/// And another.
pub(crate) const NATS: Tool = Tool {
    name: "nats-server",
    why: "holds sessions to compare with",
    package: "nats-server",
    is_there: || answers("nats-server", &["--version"]),
};

/// Tools are missing and this user may not install them.
#[derive(Debug)]
pub(crate) struct Missing {
    packages: Vec<&'static str>,
}

impl std::error::Error for Missing {}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let packages = self.packages.join(" ");
        if has_apt() {
            write!(
                f,
                "install what is missing and start again:\n    sudo apt-get install {packages}"
            )
        } else {
            write!(
                f,
                "install what is missing and start again; Debian's names for it are: {packages}"
            )
        }
    }
}

/// Makes sure that all is there.
pub(crate) fn ensure() -> Result<()> {
    let missing: Vec<&Tool> = TOOLS.iter().filter(|tool| !(tool.is_there)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    console::step("Prerequisites");
    for tool in &missing {
        console::note(&format!("missing: {} ({})", tool.name, tool.why));
    }
    let packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    if !(has_apt() && is_root()) {
        return Err(Missing { packages }.into());
    }
    install(&packages)?;
    match missing.iter().find(|tool| !(tool.is_there)()) {
        Some(tool) => {
            anyhow::bail!("{} is installed, but {} is not found", tool.package, tool.name)
        }
        None => Ok(()),
    }
}

impl Tool {
    /// Whether it is there.
    pub(crate) fn is_there(&self) -> bool {
        (self.is_there)()
    }

    /// Whether it is there, once it was installed where this user may do that. What cannot do
    /// without it is passed over by the caller; how to get it is said here.
    pub(crate) fn provide(&self) -> bool {
        if self.is_there() {
            return true;
        }
        console::note(&format!("missing: {} ({})", self.name, self.why));
        if has_apt() && is_root() {
            if let Err(error) = install(&[self.package]) {
                console::warn(&format!("{error:#}"));
            }
        } else {
            console::note(&Missing { packages: vec![self.package] }.to_string());
        }
        self.is_there()
    }
}

/// The library that [`LIBFAKETIME`] stands for.
pub(crate) fn libfaketime() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.filter_map(Result::ok);
    let mut paths = folders.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    paths.find(|path| path.is_file())
}

fn install(packages: &[&str]) -> Result<()> {
    console::note(&format!("installing {} with apt-get", packages.join(", ")));
    let started = clock::now();
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        environment::output(&mut command)
    };
    apt(&["update"])?;
    apt(&[&["install", "--yes", "--no-install-recommends"], packages].concat())?;
    console::note(&format!("installed in {}", console::duration(started.elapsed())));
    Ok(())
}

/// How the TypeScript example can run here. It needs a `WebSocket` in the runtime itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// Version 22 and later have it.
    Plain,
    /// Versions 20 and 21 have it behind `--experimental-websocket`.
    WithFlag,
    /// Older, or no Node.js at all: what to tell the person.
    Unfit(String),
}

impl Node {
    /// Asks the `node` on the path.
    pub(crate) fn find() -> Self {
        match environment::output(Command::new("node").arg("--version")) {
            Ok(version) => Self::of_version(version.trim()),
            Err(_) => Self::Unfit("there is no `node` on the path".into()),
        }
    }

    /// `version` as `node --version` prints it: `v22.1.0`.
    fn of_version(version: &str) -> Self {
        let major = version.strip_prefix('v').and_then(|rest| rest.split('.').next());
        match major.and_then(|major| major.parse::<u32>().ok()) {
            Some(22..) => Self::Plain,
            Some(20..22) => Self::WithFlag,
            _ => Self::Unfit(format!("node is {version}, and has no WebSocket before 20")),
        }
    }
}

/// Whether the program can be started and ends well.
pub(crate) fn answers(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}

fn has_apt() -> bool {
    answers("apt-get", &["--version"])
}

fn is_root() -> bool {
    environment::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

/// bindgen opens libclang by itself; these are the places where it looks on Linux.
fn has_libclang() -> bool {
    if std::env::var_os("LIBCLANG_PATH").is_some() {
        return true;
    }
    let mut folders = vec!["/usr/lib".into(), "/usr/lib64".into(), "/usr/local/lib".into()];
    for entry in fs::read_dir("/usr/lib").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("llvm") {
            folders.push(entry.path().join("lib"));
        } else if name.ends_with("-linux-gnu") {
            folders.push(entry.path());
        }
    }
    folders.iter().any(|folder| holds_libclang(folder))
}

fn holds_libclang(folder: &Path) -> bool {
    fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // `libclang-cpp.so` is another library.
        (name.starts_with("libclang.so") || name.starts_with("libclang-1")) && name.contains(".so")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_is_judged_by_its_major_version() {
        let rows = [
            ("v22.0.0", Some(Node::Plain)),
            ("v26.1.0", Some(Node::Plain)),
            ("v20.20.2", Some(Node::WithFlag)),
            ("v21.7.0", Some(Node::WithFlag)),
            ("v18.19.0", None),
            ("nonsense", None),
        ];
        for (version, expected) in rows {
            match (Node::of_version(version), expected) {
                (Node::Unfit(why), None) => assert!(why.contains(version)),
                (found, expected) => assert_eq!(Some(found), expected, "{version}"),
            }
        }
    }

    #[test]
    fn what_is_missing_is_named_by_its_packages() {
        let text = Missing { packages: vec!["g++", "libclang-dev"] }.to_string();
        assert!(text.contains("g++ libclang-dev"), "{text}");
    }

    #[test]
    fn libclang_is_recognised_by_its_file() -> Result<()> {
        let rows = [
            ("libclang-14.so.1", true),
            ("libclang.so", true),
            ("libclang-cpp.so.14", false),
            ("libclang.a", false),
        ];
        for (name, expected) in rows {
            let folder = tempfile::tempdir()?;
            fs::write(folder.path().join(name), "")?;
            assert_eq!(holds_libclang(folder.path()), expected, "{name}");
        }
        Ok(())
    }
}
