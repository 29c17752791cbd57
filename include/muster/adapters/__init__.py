"""The tools, each behind a port of `muster.ports`: `<tool>_<role>.py`."""
