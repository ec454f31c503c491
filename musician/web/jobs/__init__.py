"""Answers that are being generated: queue, batch, events."""
