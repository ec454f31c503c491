"""Run directories: records, resuming, summaries, reports."""
