"""Config-driven experiments with language models that read and write music as ABC notation."""

__version__ = "0.1.0"
