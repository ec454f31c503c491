"""Describe, check and compare tunes."""
