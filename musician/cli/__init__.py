"""What the commands share: entry point, key checks, one-line errors, child ranks, jobs, job assembly.

Hydra and OmegaConf are known here and in the commands only.
"""
