"""Benchmarks on tunes: held-out tunes and generated tunes."""
