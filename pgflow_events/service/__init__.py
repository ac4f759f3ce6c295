"""The process that a worker is: systemd, signals, memory, and its end."""
