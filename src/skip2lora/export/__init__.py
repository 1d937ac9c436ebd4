"""Adapted models as files that others can run."""
