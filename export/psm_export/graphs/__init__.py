"""Graphs that PyTorch writes, made into what a bundle holds."""
