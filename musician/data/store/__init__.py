"""Tokenised data on disk: written in shards, read without copying."""
