"""A real server on a real socket, and models whose answers a test scripts."""

import asyncio
import contextlib
import json
import shutil
import threading
import time

import httpx
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from musician.data.rendering.render import Renderer
from musician.generation.sampling import Sampling
from musician.lm.language_model import LanguageModel
from musician.web.app import create_app
from musician.web.jobs.model import Piece, ServedModel
from musician.web.limits import Limits
from musician.web.server import Server, listen
from musician.web.service import Service

PRESETS = {"music": Sampling(temperature=0.7), "original": Sampling(repetition_penalty=1.1, max_new_tokens=1536)}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
#: The network flags keep the browser's own services from asking the outside.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]
ASK = {"messages": [{"role": "user", "content": "Write a jig."}]}


class Scripted:
    """A model that answers with given pieces, each after `go`; `until_stopped` repeats the last one for ever."""

    constrains = True

    def __init__(self, *pieces, name="scripted", until_stopped=False, held=False):
        self.pieces, self.name, self.until_stopped = pieces, name, until_stopped
        self.go, self.idle, self.begun, self._places = threading.Event(), threading.Event(), [], {}
        self.idle.set()
        if not held:
            self.go.set()

    def begin(self, messages, sampling, constraints):
        self.begun.append(messages[-1].content)
        self.idle.clear()
        self._places[len(self.begun)] = 0
        return len(self.begun), len(messages)

    def cancel(self, handle):
        self._places.pop(handle)
        if not self._places:
            self.idle.set()
        return ""

    def step(self):
        if not self.go.wait(0.01):
            return []
        time.sleep(0.001)
        return [self._piece(handle) for handle in list(self._places)]

    def _piece(self, handle):
        place = self._places[handle]
        self._places[handle] += 1
        last = place == len(self.pieces) - 1 and not self.until_stopped
        if last:
            self.cancel(handle)
        return Piece(handle, self.pieces[min(place, len(self.pieces) - 1)], 1, "end" if last else "")


@contextlib.contextmanager
def serving(*models, limits=None, votes=None, known=None, **options):
    """A client of a server with these models; `client.service` is its service, run in `client.loop`."""
    service = Service(models, PRESETS, limits or Limits(), votes, known)
    with listen("127.0.0.1", 0) as socket:
        server = Server(create_app(service, **options), service.queue, grace_seconds=0)
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_until_complete, args=(server.serve([socket]),), daemon=True)
        thread.start()
        with httpx.Client(base_url=f"http://127.0.0.1:{socket.getsockname()[1]}", timeout=30) as client:
            client.service, client.loop = service, loop
            yield client
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


def events(response):
    """Name and data of server-sent events, as they come."""
    name = ""
    for line in response.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def answer(client, **body):
    """Every event of an answer."""
    with client.stream("POST", "/api/generate", json={**ASK, **body}) as response:
        assert response.status_code == 200, response.read()
        return list(events(response))


def text_of(told):
    """The answer that events told."""
    return "".join(data["text"] for name, data in told if name == "text")


def wait_for(condition, seconds=10):
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.005)


@pytest.fixture(scope="session")
def tiny_model(tiny_network, byte_tokenizer):
    """A network with random weights as the web app sees it."""
    return ServedModel("tiny", LanguageModel(tiny_network.eval(), Renderer(byte_tokenizer, "human_assistant")))


@pytest.fixture(scope="session")
def browser():
    """Debian's Chromium, driven by Playwright, for all tests that ask for it."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright; pip install 'musician[dev]'")
    if CHROMIUM is None:
        pytest.skip("no Chromium; on Debian: apt-get install chromium")
    with playwright.sync_playwright() as running:
        launched = running.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()
