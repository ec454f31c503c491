"""Intervals, paired tests, comparison of evaluations."""
