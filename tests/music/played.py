"""A MIDI file as a player would have recorded it: late and early, faster and slower, louder and softer, by a seed."""

import io
import math
import random

import mido

TICKS = 480
QUARTER = 0.5


def humanise(data, seed, jitter=0.02, drift=0.05, tempo=1.0):
    """Each start and end moves by up to `jitter` seconds; the tempo swings by `drift`; `tempo` times as slow."""
    rng = random.Random(seed)
    file = mido.MidiFile(file=io.BytesIO(data))
    phase, swing = rng.uniform(0, 2 * math.pi), rng.uniform(12, 30) / (2 * math.pi)
    second = QUARTER / file.ticks_per_beat

    def played(ticks):
        time = ticks * second
        wave = drift * swing * (math.sin(time / swing + phase) - math.sin(phase))
        return max(0, (time + wave) * tempo + rng.uniform(-jitter, jitter))

    recorded = mido.MidiFile(ticks_per_beat=TICKS)
    recorded.tracks = [_track(track, played, rng) for track in file.tracks]
    written = io.BytesIO()
    recorded.save(file=written)
    return written.getvalue()


def _track(track, played, rng):
    now, events, begun = 0, [], {}
    for event in track:
        now += event.time
        if event.type != "note_on":
            continue
        time = played(now)
        if event.velocity:
            begun[event.note] = time
            event = event.copy(velocity=rng.randint(50, 110))
        else:
            time = max(time, begun[event.note] + 0.015)
        events.append((round(time / QUARTER * TICKS), event.velocity > 0, event))
    events.sort(key=lambda each: each[:2])
    times = [0, *(time for time, _, _ in events)]
    kept = [event for event in track if event.type == "time_signature"]
    notes = [
        event.copy(time=after - before) for (_, _, event), before, after in zip(events, times, times[1:], strict=False)
    ]
    return mido.MidiTrack([*kept, *notes])
