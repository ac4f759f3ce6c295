"""Codec and storage of large step outputs."""
