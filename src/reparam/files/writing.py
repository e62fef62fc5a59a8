"""Writing so that a kill at any moment leaves the old file or the new one, never half of one."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Generator
from pathlib import Path
from typing import Any

from ..errors import ReparamError
from ..text import for_json


@contextlib.contextmanager
def replacing(path: str | Path) -> Generator[Path]:
    """Yields a temporary path beside `path`; on success it is flushed to disk and renamed over it, readable for whom the
    umask lets read, whatever wrote it.

    Raises:
        ReparamError: the disk is full or the folder is not writable. Whatever stood at `path` is untouched.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        mode = stat.S_IMODE(temporary.stat().st_mode)  # what the umask leaves
        yield temporary
        temporary.chmod(mode)
        with temporary.open("rb") as f:
            os.fsync(f.fileno())
        temporary.replace(path)
    except OSError as e:
        raise ReparamError(f"cannot write {path}: {e.strerror or e}. Nothing was lost: free some "
                           "space or name another folder, then run the command again.") from e
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Writes indented JSON atomically; any string in it is read back as it was."""
    write_text(path, for_json(value, indent=2) + "\n")
