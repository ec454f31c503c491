"""Small networks and adapters, built without the functions they test."""

import torch
from peft import LoraConfig
from transformers import LlamaConfig, LlamaForCausalLM

VOCABULARY = 61


def tiny_llama(seed=0, **changes):
    """A random Llama with weights large enough for its answers to differ."""
    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.2,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(LlamaConfig(**{**sizes, **changes})).float().train()


def lora(targets=("q_proj", "down_proj"), **changes):
    """An adapter that is not zero at its start, so that forgetting it shows."""
    values = {"r": 4, "lora_alpha": 8, "init_lora_weights": False, "task_type": "CAUSAL_LM"}
    return LoraConfig(**{**values, "target_modules": list(targets), **changes})


def token_ids(shape, seed=0, vocabulary=VOCABULARY):
    """Random ids."""
    return torch.randint(3, vocabulary, shape, generator=torch.Generator().manual_seed(seed))


def train_a_little(network, seed=0):
    """Move every trainable weight, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator).to(parameter)
    return network
