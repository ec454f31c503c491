import pytest

from musician.data.rendering.render import Renderer

TOKENIZERS = ("byte", "smollm2", "mistral", "llama2")


@pytest.fixture(scope="session", params=TOKENIZERS)
def each_tokenizer(request):
    return request.getfixturevalue(f"{request.param}_tokenizer")


@pytest.fixture(scope="session", params=[(t, "human_assistant") for t in TOKENIZERS], ids="-".join)
def each_plain_renderer(request):
    """Every tokenizer, with the default template."""
    tokenizer, template = request.param
    return Renderer(request.getfixturevalue(f"{tokenizer}_tokenizer"), template)


@pytest.fixture(
    scope="session",
    params=[*((t, p) for t in TOKENIZERS for p in ("human_assistant", "chatmusician")), ("smollm2", "chatml")],
    ids="-".join,
)
def each_renderer(request):
    """Every tokenizer with every template that its special tokens can spell."""
    tokenizer, template = request.param
    return Renderer(request.getfixturevalue(f"{tokenizer}_tokenizer"), template)


@pytest.fixture(scope="session")
def byte_renderer(byte_tokenizer):
    return Renderer(byte_tokenizer)
