"""The processes that a test started."""

import psutil


def own_children() -> list[psutil.Process]:
    """Return this process's descendants, but for multiprocessing's resource tracker, which stays."""
    return [child for child in psutil.Process().children(recursive=True) if "resource_tracker" not in _command(child)]


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # gone meanwhile, or a zombie
        return ""
