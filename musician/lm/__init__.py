"""A language model as one object: network, tokenizer, renderer and precision."""
