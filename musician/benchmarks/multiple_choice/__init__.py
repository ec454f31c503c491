"""Multiple-choice benchmarks: questions, prompts, scorers."""
