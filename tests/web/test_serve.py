"""The command: a real process under load, told to end, and what it refuses to begin with."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading

import httpx
import psutil
import pytest
from commands import OFFLINE, assert_refused, assert_stopped, call, spawn_python

from .conftest import events, text_of, wait_for

STREAMS = 32


@pytest.fixture(scope="module")
def model(tmp_path_factory, tiny_network, byte_tokenizer):
    """A directory with a network of random weights."""
    folder = tmp_path_factory.mktemp("model")
    tiny_network.save_pretrained(folder)
    byte_tokenizer.save_pretrained(folder)
    return folder


@contextlib.contextmanager
def running(folder, *arguments, env=None):
    """The process, a client of it, and the files it writes to."""
    out, err = folder / "out.txt", folder / "err.txt"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "musician.serve", *map(str, arguments), "port=0"],
            cwd=folder,
            env={**os.environ, **OFFLINE, **(env or {})},
            stdout=stdout,
            stderr=stderr,
            preexec_fn=_heed_interrupts,
        )
    try:
        wait_for(lambda: b"web app: " in out.read_bytes() or process.poll() is not None, seconds=120)
        assert process.poll() is None, err.read_text()
        url = re.search(r"web app: (\S+)", out.read_text())[1]
        limits = httpx.Limits(max_connections=STREAMS + 4)
        with httpx.Client(base_url=url, timeout=120, limits=limits) as client:
            wait_for(lambda: _well(client), seconds=30)
            yield process, client
    finally:
        process.kill()
        process.wait()


def _heed_interrupts():
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell has its background jobs ignore it


def _well(client):
    try:
        return client.get("/healthz").json() == {"status": "ok"}
    except httpx.TransportError:
        return False


def ask(client, number, tokens=40):
    """Every event of one visitor's answer."""
    body = {
        "messages": [{"role": "user", "content": f"secret wish {number}"}],
        "sampling": {"temperature": 1.5, "max_new_tokens": tokens},
        "seed": number,
    }
    with client.stream("POST", "/api/generate", json=body) as response:
        assert response.status_code == 200
        return list(events(response))


def crowd(client):
    """What 32 visitors at a time are told."""
    told = {}
    threads = [
        threading.Thread(target=lambda number=number: told.update({number: ask(client, number)}))
        for number in range(STREAMS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return told


@pytest.mark.slow
def test_32_streams_at_a_time_and_none_is_lost(model, tmp_path):
    with running(tmp_path, f"model={model}") as (process, client):
        server = psutil.Process(process.pid)
        alone = {number: text_of(ask(client, number)) for number in (0, 17, 31)}
        told = crowd(client)
        before = server.memory_info().rss
        for _ in range(3):
            told = crowd(client)
        grown = server.memory_info().rss - before
        print(f"{grown / 2**20:.1f} MiB more, {sum(server.cpu_times()[:2]):.1f} CPU-seconds")
        assert sorted(told) == list(range(STREAMS))
        assert all(each[-1][0] == "done" for each in told.values())
        assert {number: text_of(told[number]) for number in alone} == alone
        assert any(name == "queued" and data["position"] > 5 for each in told.values() for name, data in each)
        assert grown < 16 * 2**20, f"{grown / 2**20:.1f} MiB more"
        ended = sum(map(int, re.findall(r'answers_total{reason="(?:length|end)"} (\d+)', client.get("/metrics").text)))
        assert ended == 4 * STREAMS + 3
        client.post("/api/check", json={"abc": "T:secret wish\nK:C\nc|"})
    written = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert b"secret wish" not in written


@pytest.mark.slow
def test_a_signal_lets_answers_end_and_nothing_is_sent_to_a_collector_of_telemetry(model, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as collector:
        env = {
            "FASTAPI_OTEL_AUTO_CONFIGURE": "true",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.getsockname()[1]}",
        }
        with running(tmp_path, f"model={model}", "limits.grace_seconds=60", env=env) as (process, client):
            with client.stream("POST", "/api/generate", json=_long()) as response:
                seen = events(response)
                assert next(seen)[0] == "start"
                process.send_signal(signal.SIGTERM)
                assert list(seen)[-1][1]["reason"] in ("length", "end")
            process.wait(60)
        collector.settimeout(0.2)
        with pytest.raises(TimeoutError):
            collector.accept()
    [line] = (tmp_path / "err.txt").read_text().splitlines()
    assert "precision" in line


@pytest.mark.slow
def test_a_signal_ends_what_takes_too_long(model, tmp_path):
    arguments = ("limits.grace_seconds=0.3", "limits.max_new_tokens=2000")
    with running(tmp_path, f"model={model}", *arguments) as (process, client):
        body = _long()
        body["sampling"]["max_new_tokens"] = 1900
        with client.stream("POST", "/api/generate", json=body) as response:
            seen = events(response)
            assert next(seen)[0] == "start"
            process.send_signal(signal.SIGINT)
            last = list(seen)[-1]
        assert last[1]["reason"] in ("stopped", "end", "length")
        assert process.wait(60) == 130
    assert "Traceback" not in (tmp_path / "err.txt").read_text()


def _long():
    return {"messages": [{"role": "user", "content": "x"}], "sampling": {"max_new_tokens": 600, "temperature": 1.5}}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["host=0.0.0.0"], ["host=0.0.0.0", "needs a password", "MUSICIAN_PASSWORD"]),
        (["host=0.0.0.0", "password=''"], ["password is empty"]),
        (["password=1234"], ["password", "quote"]),
        (["host=no.such.host.invalid", "password=x"], ["cannot listen"]),
        (["limits.notes=0"], ["limits.notes=0", "more than 0"]),
        (["limits.notse=1"], ["limits.notse", "did you mean 'notes'"]),
        (["tunes=./void"], ["void"]),
        ([], ["nowhere"]),
    ],
)
def test_what_cannot_begin_is_said_in_one_line(tmp_path, arguments, words):
    assert_refused(call("serve", "model=./nowhere", "port=0", *arguments, cwd=tmp_path), *words)
    assert list(tmp_path.iterdir()) == []


def test_a_rival_that_does_not_exist_is_refused_in_one_line(tmp_path, model):
    assert_stopped(call("serve", f"model={model}", "rival=./missing", "port=0", cwd=tmp_path), "missing", "no such")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("package", ["fastapi", "prometheus_client", "uvicorn"])
def test_without_the_extra_one_line_names_it(tmp_path, model, package):
    code = (
        f"import sys; sys.modules['{package}'] = None; sys.argv[1:] = ['model={model}']; "
        "from musician import serve; serve.main()"
    )
    assert_refused(spawn_python("-c", code, cwd=tmp_path), package, "pip install 'musician[web]'")


def test_the_package_is_light(tmp_path):
    code = "import sys, musician.web, musician.serve; print(sorted({'torch', 'fastapi', 'numpy'} & set(sys.modules)))"
    assert spawn_python("-c", code, cwd=tmp_path).stdout.strip() == "[]"
