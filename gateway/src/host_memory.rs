//! How much memory this process may have: what the machine has, or what its control groups permit.
//! Read beneath a root that tests choose.

use std::path::Path;

/// The least of what the machine has and what the control groups of this process permit, in bytes;
/// `None` where neither can be read.
#[must_use]
pub fn permitted_bytes(root: &Path) -> Option<u64> {
    total_bytes(root).into_iter().chain(limit_bytes(root)).min()
}

/// What the machine has.
fn total_bytes(root: &Path) -> Option<u64> {
    let text = text(&root.join("proc/meminfo"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The least that the control groups of this process permit; none if none of them bounds it.
/// The kernel's objects of a socket count there too.
#[must_use]
pub fn limit_bytes(root: &Path) -> Option<u64> {
    let groups = text(&root.join("proc/self/cgroup"))?;
    let limits = groups.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let (mount, file) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return None,
        };
        least(&root.join(mount), path, file)
    });
    // Version 1 says "no limit" as a number next to the greatest.
    limits.filter(|limit| *limit < 1 << 62).min()
}

/// The least of a group and those that hold it.
fn least(mount: &Path, group: &str, file: &str) -> Option<u64> {
    let group = Path::new(group.trim_start_matches('/'));
    let limits =
        group.ancestors().filter_map(|group| text(&mount.join(group).join(file))?.parse().ok());
    limits.min()
}

fn text(path: &Path) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree of files as a kernel shows them.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn the_least_limit_of_the_groups_bounds_the_memory() {
        let two = ("proc/self/cgroup", "0::/a/b\n");
        let one = ("proc/self/cgroup", "9:cpu:/x\n4:memory:/a\n0::/\n");
        type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], Option<u64>);
        let rows: [Row<'_>; 6] = [
            ("no groups", &[], None),
            ("own", &[two, ("sys/fs/cgroup/a/b/memory.max", "4096\n")], Some(4096)),
            (
                "parent's",
                &[
                    two,
                    ("sys/fs/cgroup/a/b/memory.max", "max\n"),
                    ("sys/fs/cgroup/a/memory.max", "8192\n"),
                ],
                Some(8192),
            ),
            ("none", &[two, ("sys/fs/cgroup/a/b/memory.max", "max\n")], None),
            (
                "version 1",
                &[one, ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1000\n")],
                Some(1000),
            ),
            (
                "version 1, none",
                &[one, ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n")],
                None,
            ),
        ];
        for (name, files, expected) in rows {
            assert_eq!(limit_bytes(tree(files).path()), expected, "{name}");
        }
    }

    #[test]
    fn the_machine_or_its_groups_permit_what_is_less() {
        let machine = ("proc/meminfo", "MemTotal:       16 kB\nMemFree: 4 kB\n");
        let group = ("proc/self/cgroup", "0::/a\n");
        type Row<'a> = (&'a [(&'a str, &'a str)], Option<u64>);
        let rows: [Row<'_>; 5] = [
            (&[], None),
            (&[("proc/meminfo", "MemTotal: many\n")], None),
            (&[machine], Some(16 * 1024)),
            (&[machine, group, ("sys/fs/cgroup/a/memory.max", "4096\n")], Some(4096)),
            (&[machine, group, ("sys/fs/cgroup/a/memory.max", "1048576\n")], Some(16 * 1024)),
        ];
        for (files, expected) in rows {
            assert_eq!(permitted_bytes(tree(files).path()), expected, "{files:?}");
        }
    }
}
