"""Convert performances (MIDI) to ABC."""
