"""Read ABC notation."""
