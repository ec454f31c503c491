"""The network, its LoRA, the loss, the optimiser and what is written to disk."""
