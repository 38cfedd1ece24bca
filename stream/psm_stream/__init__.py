"""psm-stream: read a face live and tell experiment software what it does."""

__version__ = "0.2.0"
