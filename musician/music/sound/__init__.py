"""Play and engrave tunes: MIDI, WAV, MusicXML, pictures."""
