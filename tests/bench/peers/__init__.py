"""Peers, and this project as one of them, measured alike: `make bench-peers`."""
