"""Writing the report of a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from psm_stream.encoder import Encoder
from psm_stream.errors import SessionError
from psm_stream.record import session as layout
from psm_stream.record.reader import Session
from psm_stream.report.collecting import collect
from psm_stream.report.page import page

REPORT = "report.html"


def write_report(
    session: Session,
    out: Path | None,
    open_model: Callable[[Path], Encoder],
    progress: Callable[[float], None] = lambda _: None,
) -> Path:
    """Write the report into out, or into the session's next `exports/NNN`, and return where it is.

    open_model: opens a bundle folder; asked only when the session has more than one encoder. progress: told how much
    of the work is done, 0..1.

    Raises SessionError: the log is damaged, the file is there already, or cannot be written. BundleError, DeviceError:
    the last encoder cannot be opened.
    """
    if out is not None and out.exists():
        raise _is_there(out)
    story = collect(session, lambda model_id: open_model(session.model_folder(model_id)), progress)
    content = page(story).encode()
    path = layout.new_numbered(session.folder / layout.EXPORTS) / REPORT if out is None else out
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(content)
    except FileExistsError:
        raise _is_there(path) from None
    except OSError as error:
        raise SessionError(f"cannot write the report: {layout.in_words(error)}; name a file with --out FILE") from None
    return path


def _is_there(path: Path) -> SessionError:
    return SessionError(f"{path} is there already; name another file with --out FILE")
