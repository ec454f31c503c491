"""Errors, progress, atomic files and hardware: imported by every other package, imports none of them."""
