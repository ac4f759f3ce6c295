"""Kills, stops and crashes what there is, for minutes, and proves that nothing is wrong then."""
