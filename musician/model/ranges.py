"""Names under which the parts of a training step appear in a profile."""

ATTENTION = "attention"
LORA = "LoRA"
MLP = "MLP"
REST = "norms, embedding, rotary"
HEAD_AND_LOSS = "head and loss"
