# SPDX-License-Identifier: GPL-3.0-or-later
"""Handing a wish to the daemon, also to one that is ended meanwhile."""

from __future__ import annotations

import time
from typing import AbstractSet

from . import daemon, jobs
from .client import Client
from .errors import Cut, NoDaemon, Trouble
from .spec import Wish

PATIENCE = 20.0  # seconds in which a daemon that was ended is looked for again
EVERY = 0.5


def submit(client: Client, wish: Wish, known: AbstractSet[str], patience: float = PATIENCE) -> str:
    """Returns the job's id; known are those that were there before. The copy
    of unsaved work is removed only where the daemon surely did not take it."""
    try:
        return client.submit(wish.spec())
    except Cut as cut:
        found = taken(client, wish, known, patience)
        if found:
            return found
        raise Cut("%s; nobody knows whether the job was taken: look whether it is in the list before you submit again" % cut) from None
    except Trouble:
        if wish.copy:
            daemon.drop_copy(wish.copy)
        raise


def taken(client: Client, wish: Wish, known: AbstractSet[str], patience: float) -> str:
    """The job that a wish became although no answer came, or ""."""
    end = time.monotonic() + patience
    while True:
        try:
            for job in map(jobs.read, client.jobs()):
                if job.id not in known and jobs.same_file(job.file, wish.file) and jobs.same_file(job.output, wish.output):
                    return job.id
        except NoDaemon:
            pass
        if time.monotonic() + EVERY > end:
            return ""
        time.sleep(EVERY)
