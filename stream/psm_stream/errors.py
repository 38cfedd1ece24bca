"""Every error a user can meet, in one tree.

PsmError
├── ConfigError            an option, key or value is wrong (exit code 2)
│   └── PortTaken          another program holds the port
├── SourceError            a camera, stream, file or folder cannot be read
│   └── SourceLost         it was read and then stalled or vanished; worth a retry
├── AlignError             the aligner or its model cannot run
├── BundleError            an encoder bundle is missing, corrupt or foreign
│   ├── DigestMismatch     a file is not the one that the manifest names
│   ├── ShapeMismatch      the graph's input or output is not what the manifest says
│   └── ParityFailed       an export does not compute what its reference does
├── DeviceError            the device or execution provider asked for is not there
├── AdaptationError        training, or what it needs or makes, went wrong
│   ├── StoreError         a crop store, or the videos it is made from, cannot be used
│   ├── CheckpointError    a checkpoint is missing, corrupt, foreign or would execute code
│   └── TrainingError      training cannot go on: not finite, collapsed, nothing to train on
├── ClusteringError        clusters cannot be fitted, kept or read
└── SessionError           a session folder cannot be written, opened or replayed
    └── DiskFull           free space fell under the limit

Each message is one line: what, where, what was expected, what to do.
"""

from __future__ import annotations


class PsmError(Exception):
    """Base of all expected errors. `exit_code` is what the command line returns."""

    exit_code = 1


class ConfigError(PsmError):
    """An option, key or value is wrong."""

    exit_code = 2


class PortTaken(ConfigError):
    """Another program holds the port."""

    exit_code = 1


class SourceError(PsmError):
    """A camera, stream, file or folder cannot be read."""


class SourceLost(SourceError):
    """A source that worked has stalled or vanished; the capture loop retries it."""


class AlignError(PsmError):
    """The aligner or its model file cannot run."""


class BundleError(PsmError):
    """An encoder bundle is missing, corrupt or foreign."""


class DigestMismatch(BundleError):
    """A file in a bundle is not the one that its manifest names."""


class ShapeMismatch(BundleError):
    """The graph's input or output is not what the manifest says."""


class ParityFailed(BundleError):
    """An export does not compute what the weights that it was made from do. reasons: what was measured, in words."""

    def __init__(self, message: str, reasons: str = "") -> None:
        super().__init__(message)
        self.reasons = reasons or message


class DeviceError(PsmError):
    """The device or execution provider asked for is not there."""


class SessionError(PsmError):
    """A session folder cannot be written, opened or replayed."""


class DiskFull(SessionError):
    """Free space fell under the limit, so recording stopped."""


class ClusteringError(PsmError):
    """Clusters cannot be fitted, kept or read."""


class AdaptationError(PsmError):
    """Training, or what it needs or makes, went wrong."""


class StoreError(AdaptationError):
    """A crop store, or the videos it is made from, cannot be used."""


class CheckpointError(AdaptationError):
    """A checkpoint is missing, corrupt, foreign, or would execute code."""


class TrainingError(AdaptationError):
    """Training cannot go on: a loss is not finite, the codes collapsed, or there is nothing to train on."""
