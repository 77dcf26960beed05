# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong between the add-on and the daemon; each is one line for
the panel that says what to do."""

from __future__ import annotations

import errno
import os

from . import problems


class Trouble(Exception):
    """str() is the line."""

    gone = False  # nobody answers: it may come back


class NoDaemon(Trouble):
    gone = True


class Cut(NoDaemon):
    """No answer came, and what was asked may be done all the same."""


class StaleToken(Trouble):
    """The token is an earlier daemon's, or the daemon is just starting."""

    gone = True

    def __init__(self) -> None:
        super().__init__("The daemon refuses the token of its own data folder: restart it with idlewild up")


class Refused(Trouble):
    """The daemon said no, with reasons that a person can mend."""

    def __init__(self, line: str, found: list[problems.Problem]) -> None:
        super().__init__(line)
        self.problems = found


def of_disk(err: OSError, path: str, doing: str) -> Trouble:
    """An error of a file, as a line."""
    remedies = {
        errno.ENOSPC: "the disk is full: make room on it",
        errno.EDQUOT: "your quota is used up: remove files",
        errno.EROFS: "the disk is read-only: choose another folder",
        errno.EACCES: "no permission: choose another folder or change its permissions",
        errno.EPERM: "no permission: choose another folder or change its permissions",
        errno.ENOENT: "it is not there: check the path",
        errno.ENAMETOOLONG: "the path is too long: choose a shorter one",
    }
    why = remedies.get(err.errno or 0) or (err.strerror or str(err))
    return Trouble("%s %s: %s" % (doing, os.path.basename(path) or path, why))
