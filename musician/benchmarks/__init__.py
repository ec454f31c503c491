"""Multiple-choice questions, their prompts, likelihood scoring and statistics. Torch, never Lightning."""
