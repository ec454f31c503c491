"""What the commands share: entry point, arguments, keys, errors, processes, jobs, tables.

Hydra and OmegaConf are known here and in the commands only.
"""
