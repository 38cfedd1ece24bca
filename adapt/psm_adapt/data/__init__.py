"""Faces to learn from: videos and images made into crop stores, and the augmentation and pairs drawn from them."""
