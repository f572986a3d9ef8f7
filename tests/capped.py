"""A process whose memory has a cap: a cgroup's, or else RLIMIT_DATA, which leaves maps of files out."""

import contextlib
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

# Where the two versions of cgroups keep a limit and what has been used at most.
_VERSIONS = (
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.max_usage_in_bytes"),
    (Path("/sys/fs/cgroup"), "memory.max", "memory.peak"),
)


@contextlib.contextmanager
def group(limit):
    """A cgroup with a limit, and the file that tells its peak; (None, None) where none can be made."""
    for root, name, peak in _VERSIONS:
        try:
            folder = Path(tempfile.mkdtemp(prefix="accelnn-", dir=root))
        except OSError:
            continue
        try:
            (folder / name).write_text(str(limit))
            yield folder, folder / peak
            return
        except OSError:
            continue
        finally:
            with contextlib.suppress(OSError):
                folder.rmdir()
    yield None, None


def run(code, *arguments, limit, timeout=600):
    """Python code under a cap: (what it printed, peak in bytes or None, how it was capped)."""
    with group(limit) as (folder, peak):

        def enter():
            if folder is None:
                resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
            else:
                (folder / "cgroup.procs").write_text(str(os.getpid()))

        result = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout,
            preexec_fn=enter,
        )
        assert result.returncode == 0, f"exit code {result.returncode}: {result.stderr[-2000:]}"
        return result.stdout, int(peak.read_text()) if peak else None, "RLIMIT_DATA" if folder is None else "cgroup"
