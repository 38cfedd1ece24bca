"""The published encoders in PyTorch, parameter for parameter; nothing here works without torch."""
