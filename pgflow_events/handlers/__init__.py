"""Handlers while they run: in processes of their own, in the way of the loop, in error."""
