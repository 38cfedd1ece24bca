"""Online clusters: what is fitted aside, what assigns each frame, and ids that keep their meaning."""
