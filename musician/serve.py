"""A page to ask, see and hear a model: `python -m musician.serve model=outputs/sft/RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from musician.cli.entry import command
from musician.cli.keys import CONF_DIR

if TYPE_CHECKING:
    from musician.web.jobs.writer import ModelWriter


@command("serve")
def main(cfg: DictConfig) -> None:
    """Open the models, listen, serve until told to end."""
    from musician.runtime.errors import UserError

    try:
        from musician.web import server
        from musician.web.app import create_app
    except ImportError as error:
        if error.name not in ("fastapi", "uvicorn"):
            raise
        raise UserError(f"serve: {error.name} is not installed: pip install 'musician[web]'") from error
    from musician.web.routes.originality import known_tunes
    from musician.web.service import Service

    limits = instantiate(cfg.limits)
    server.check_exposure(cfg.host, cfg.password)
    listening = server.listen(cfg.host, cfg.port)
    model = cfg.model
    known = None if cfg.tunes is None else known_tunes(cfg.tunes)
    paths = [model.path] if cfg.rival is None else [model.path, cfg.rival]
    writers = [_writer(name, path, model) for name, path in zip(_names(paths), paths, strict=True)]
    service = Service(writers, _presets(), limits, Path(cfg.votes), known=known)
    app = create_app(service, {*cfg.hosts, cfg.host}, cfg.password)
    where = f"[{cfg.host}]" if ":" in cfg.host else cfg.host
    print(f"page: http://{where}:{listening.getsockname()[1]}", flush=True)
    server.run(app, service, listening)


def _names(paths: list[str]) -> list[str]:
    """What the page calls its models: the last folder's name, above `merged`; the paths where these are the same."""
    folders = [Path(path) for path in paths]
    names = [(folder.parent if folder.name == "merged" else folder).name for folder in folders]
    if all(names) and len(set(names)) == len(names):
        return names
    return [f"{path} ({place})" for place, path in enumerate(paths, 1)] if len(paths) > 1 else paths


def _writer(name: str, path: str, model: Any) -> ModelWriter:
    from musician.lm.open_model import open_model
    from musician.model.merge import fold
    from musician.web.jobs.writer import ModelWriter

    opened = open_model(**{**model, "path": path})
    return ModelWriter(name, fold(opened.network), opened.renderer)


def _presets() -> dict[str, Any]:
    files = sorted((CONF_DIR / "generation").glob("*.yaml"))
    return {file.stem: instantiate(OmegaConf.load(file)) for file in files}


if __name__ == "__main__":
    main()
