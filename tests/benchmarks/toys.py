"""Tokenizers, networks and a benchmark, all built in memory."""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from musician.benchmarks.multiple_choice.base import MultipleChoice
from musician.benchmarks.multiple_choice.likelihood import Likelihood
from musician.benchmarks.multiple_choice.question import LETTERS, Question, Subset
from musician.benchmarks.shard import Shard
from musician.data.rendering.render import Renderer
from musician.lm.language_model import LanguageModel


def opened(network, tokenizer, precision="32-true"):
    """A network and a tokenizer as a language model."""
    return LanguageModel(network.eval(), Renderer(tokenizer), precision)


def evaluate(benchmark, network, tokenizer, shard=None, **settings):
    """The result of a benchmark under a likelihood scorer with these settings."""
    benchmark.scorer = Likelihood(**settings)
    return benchmark.run(opened(network, tokenizer), shard or Shard())


def score(network, tokenizer, prompts, precision="32-true", **settings):
    """The scores of bare prompts."""
    model, scorer = opened(network, tokenizer, precision), Likelihood(**settings)
    encoder = scorer.encoder(model)
    return scorer.score(model, [encoder.cut(encoder.encode(prompt)) for prompt in prompts])


def byte_tokenizer(merges=(), bos=True, eos=False):
    """One id per byte after `<s>` and `</s>`, then the merges; `Ġ` is the space."""
    vocabulary = {"<s>": 0, "</s>": 1}
    for symbol in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary[symbol] = len(vocabulary)
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    template = ("<s> " if bos else "") + "$A" + (" </s>" if eos else "")
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("<s>", 0), ("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def tiny_llama(seed=0, **changes):
    """A random Llama whose weights are large enough for its answers to differ."""
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(
        **{"vocab_size": 300, "initializer_range": 0.3, "max_position_embeddings": 4096, **sizes, **changes}
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).float()


class Counting(nn.Module):
    """Hidden state: how often each id occurred so far. Causal, so padding on the right changes nothing."""

    def __init__(self, vocabulary):
        super().__init__()
        self.vocabulary = vocabulary

    def forward(self, input_ids, position_ids=None, use_cache=False):
        counts = nn.functional.one_hot(input_ids, self.vocabulary).float().cumsum(1)
        return type("Output", (), {"last_hidden_state": counts})


class OracleLM(nn.Module):
    """The logit of an answer letter is the number of times its mark (`1` for A ... `4` for D) occurs in the prompt."""

    base_model_prefix = "model"

    def __init__(self, tokenizer, marks="1234"):
        super().__init__()
        vocabulary = len(tokenizer)
        self.model = Counting(vocabulary)
        self.head = nn.Linear(vocabulary, vocabulary, bias=False)
        self.forwards = 0
        self.model.register_forward_hook(self.count)
        with torch.no_grad():
            self.head.weight.zero_()
            for letter, mark in zip(LETTERS, marks, strict=True):
                letter_id, mark_id = (tokenizer.convert_tokens_to_ids(symbol) for symbol in (letter, mark))
                self.head.weight[letter_id, mark_id] = 1.0

    def count(self, *_):
        self.forwards += 1

    def get_output_embeddings(self):
        return self.head

    def forward(self, input_ids, use_cache=False):
        hidden = self.model(input_ids).last_hidden_state
        return type("Output", (), {"logits": self.head(hidden)})


class Quiz(MultipleChoice):
    """A benchmark made of its arguments."""

    version = 3

    def __init__(self, stems, answers, subjects=None, num_fewshot=0, **options):
        subjects = subjects or ["easy"] * len(stems)
        rows = zip(stems, answers, subjects, strict=True)
        self.items = [
            Question(subject, i, stem, ("a", "b", "c", "d"), answer) for i, (stem, answer, subject) in enumerate(rows)
        ]
        names = tuple(sorted(set(subjects)))
        subsets = (Subset("macro", names, "macro"), Subset("micro", names), *(Subset(n, (n,)) for n in names))
        examples = {name: self.items * num_fewshot for name in names}
        super().__init__(
            "quiz",
            self.items,
            subsets=subsets,
            examples=examples,
            num_fewshot=num_fewshot,
            usual_shots=num_fewshot,
            **options,
        )

    def questions(self):
        return self.items

    def prompt(self, question, num_fewshot=None):
        shots = self.num_fewshot if num_fewshot is None else num_fewshot
        return "".join(f"example {i} Answer: A\n\n" for i in range(shots)) + f"{question.stem}\nAnswer:"
