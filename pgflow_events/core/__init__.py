"""The SQL core, called from Python: one function for each of its functions, of the same name."""
