#!/usr/bin/python3
"""Runs a command under the system call filter of mooring.service, without systemd as init.

    tuning/try-filter.py COMMAND...          what is not permitted fails with EPERM, as in the unit
    tuning/try-filter.py --kill COMMAND...   or ends the process, which names what is missing

Groups (@file-system) are those of the installed systemd. Needs Debian's packages systemd and
python3-seccomp; needs no privileges.
"""

import errno
import os
import pathlib
import subprocess
import sys

import seccomp

# What systemd permits in every list: how a process starts and ends.
ALWAYS = ["execve", "exit", "exit_group", "getrlimit", "rt_sigreturn"]


def groups() -> dict[str, list[str]]:
    """The groups of `systemd-analyze syscall-filter`, with their members."""
    command = ["systemd-analyze", "syscall-filter"]
    # It remarks on standard error that some calls of the kernel are in no group.
    text = subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL)
    found: dict[str, list[str]] = {}
    members: list[str] = []
    for line in text.splitlines():
        word = line.strip()
        if line.startswith("@"):
            members = found.setdefault(word, [])
        elif word and not word.startswith("#"):
            members.append(word)
    return found


def expand(words: list[str], known: dict[str, list[str]]) -> set[str]:
    """The calls that `words` name."""
    calls: set[str] = set()
    for word in words:
        calls |= expand(known[word], known) if word.startswith("@") else {word}
    return calls


def main() -> None:
    """Installs the filter and becomes the command."""
    command = sys.argv[1:]
    outcome = seccomp.ERRNO(errno.EPERM)
    if command[:1] == ["--kill"]:
        command, outcome = command[1:], seccomp.KILL_PROCESS
    if not command:
        sys.exit(__doc__)
    unit = pathlib.Path(__file__).with_name("mooring.service").read_text(encoding="utf-8")
    lines = [line for line in unit.splitlines() if line.startswith("SystemCallFilter=")]
    words = [word for line in lines for word in line.partition("=")[2].split()]
    rules = seccomp.SyscallFilter(outcome)
    for call in sorted(expand(words, groups()) | set(ALWAYS)):
        try:
            rules.add_rule(seccomp.ALLOW, call)
        except (RuntimeError, ValueError):
            # A call of another architecture.
            continue
    rules.load()
    os.execvp(command[0], command)


main()
