# SPDX-License-Identifier: Apache-2.0
"""Problems of a file that its artist can mend. No bpy here."""

from __future__ import annotations

MAX = 200  # more of one kind helps nobody


class Problems:
    """A list that keeps what it is told once."""

    def __init__(self) -> None:
        self.found: list[dict] = []
        self._seen: set[tuple[str, str]] = set()

    def error(self, where: str, message: str, remedy: str) -> None:
        """Keeps the job from starting."""
        self._add("error", where, message, remedy)

    def warning(self, where: str, message: str, remedy: str) -> None:
        """Is said, and the job starts."""
        self._add("warning", where, message, remedy)

    def _add(self, severity: str, where: str, message: str, remedy: str) -> None:
        if (where, message) in self._seen or len(self.found) >= MAX:
            return
        self._seen.add((where, message))
        self.found.append({"severity": severity, "where": where, "message": message, "remedy": remedy})


def listing(names: list[str], most: int = 8) -> str:
    """"a, b and 3 more", for sentences."""
    if not names:
        return "none"
    quoted = ["'%s'" % n for n in names[:most]]
    if len(names) > most:
        return "%s and %d more" % (", ".join(quoted), len(names) - most)
    return ", ".join(quoted)
