"""Recorded sessions: folder, log, crops and video."""
