"""Answers that are being written: queue, batching, streaming."""
