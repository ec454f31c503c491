"""Serve a web app to ask a model, and to see and hear its tunes: `python -m musician.serve model=outputs/sft/RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from musician.cli.entry import command
from musician.cli.keys import CONF_DIR


@command("serve")
def main(cfg: DictConfig) -> None:
    """Open the models, listen, serve until a signal."""
    from musician.runtime.errors import UserError

    try:
        from musician.web import server
        from musician.web.app import create_app
    except ImportError as error:
        if error.name not in ("fastapi", "prometheus_client", "uvicorn"):
            raise
        raise UserError(f"serve: {error.name} is not installed: pip install 'musician[web]'") from error
    from musician.cli.arguments import model_or_default
    from musician.lm.open_model import open_model
    from musician.web.jobs.model import ServedModel
    from musician.web.known_tunes import KnownTunes
    from musician.web.service import Service

    limits = instantiate(cfg.limits)
    server.check_exposure(cfg.host, cfg.hosts, cfg.password)
    listening = server.listen(cfg.host, cfg.port)
    known = None if cfg.tunes is None else KnownTunes(cfg.tunes)
    paths = [model_or_default(cfg.model.path), *([] if cfg.rival is None else [cfg.rival])]
    opened = [open_model(**{**cfg.model, "path": path}) for path in paths]
    models = [ServedModel(name, model) for name, model in zip(_names(paths), opened, strict=True)]
    service = Service(models, _presets(), limits, Path(cfg.votes), known)
    host = server.url_host(cfg.host)
    app = create_app(service, {*map(server.url_host, cfg.hosts), host}, cfg.password)
    print(f"web app: http://{host}:{listening.getsockname()[1]}", flush=True)
    server.Server(app, service.queue, limits.grace_seconds).run(sockets=[listening])


def _names(paths: list[str]) -> list[str]:
    """Return what the web app calls its models: the last folder's name, above `merged`; the paths where these agree."""
    folders = [Path(path) for path in paths]
    names = [(folder.parent if folder.name == "merged" else folder).name for folder in folders]
    if all(names) and len(set(names)) == len(names):
        return names
    return [f"{path} ({number})" for number, path in enumerate(paths, 1)] if len(paths) > 1 else paths


def _presets() -> dict[str, Any]:
    files = sorted((CONF_DIR / "generation").glob("*.yaml"))
    return {file.stem: instantiate(OmegaConf.load(file)) for file in files}


if __name__ == "__main__":
    main()
