"""The real OpenAI client against the server."""

import json
import socket

import pytest

from musician.web.limits import Limits

from .conftest import ASK, Scripted, answer, serving, text_of, wait_for

openai = pytest.importorskip("openai")


def client_of(page, key="none"):
    return openai.OpenAI(base_url=f"{str(page.base_url).rstrip('/')}/v1", api_key=key, max_retries=0)


@pytest.fixture(scope="module")
def page(tiny_model):
    with serving(tiny_model) as client:
        yield client


@pytest.fixture(scope="module")
def client(page):
    return client_of(page)


def test_the_models_are_listed(client):
    assert [model.id for model in client.models.list()] == ["tiny"]


def test_an_answer_is_that_of_the_page(client, page):
    asked = {"model": "tiny", "messages": ASK["messages"], "temperature": 1.5, "seed": 4, "max_tokens": 30}
    whole = client.chat.completions.create(**asked)
    expected = text_of(answer(page, sampling={"temperature": 1.5, "max_new_tokens": 30}, seed=4))
    assert whole.choices[0].message.content == expected
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage.completion_tokens == 30
    assert whole.usage.prompt_tokens > 10
    pieces = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces[:-1]) == expected
    assert pieces[-2].choices[0].finish_reason == "length"
    assert pieces[-1].usage == whole.usage
    assert {piece.id for piece in pieces} == {pieces[0].id}


def test_a_whole_conversation_and_our_own_settings(client):
    found = client.chat.completions.create(
        model="m0",
        messages=[
            {"role": "system", "content": "You write jigs."},
            {"role": "user", "content": [{"type": "text", "text": "Write "}, {"type": "text", "text": "one."}]},
            {"role": "assistant", "content": "X:1"},
            {"role": "user", "content": "Another."},
        ],
        max_completion_tokens=260,
        extra_body={"top_k": 5, "constraint": {"meter": "6/8", "bars": 2}},
    )
    assert found.choices[0].finish_reason == "stop"
    assert "M:6/8" in found.choices[0].message.content


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"model": "gpt-4"}, "NotFoundError"),
        ({"temperature": 9}, "UnprocessableEntityError"),
        ({"n": 2}, "UnprocessableEntityError"),
        ({"stop": [""]}, "UnprocessableEntityError"),
        ({"stop": ["x"] * 5}, "UnprocessableEntityError"),
        ({"presence_penalty": 1}, "UnprocessableEntityError"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "UnprocessableEntityError"),
        ({"messages": [{"role": "user", "content": "x" * 30_000}]}, "APIStatusError"),
        ({"messages": [{"role": "user", "content": "x" * 3_000}]}, "UnprocessableEntityError"),
        ({"logprobs": True}, "UnprocessableEntityError"),
    ],
)
def test_what_is_not_offered_is_refused_as_the_client_expects(client, settings, error):
    with pytest.raises(getattr(openai, error)) as caught:
        client.chat.completions.create(**{"model": "tiny", "messages": ASK["messages"], **settings})
    assert caught.value.body["message"]
    assert "\n" not in caught.value.body["message"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("stop", "expected"), [("K:D", "X:1\n"), (["zzz", "\nK"], "X:1"), ("D\nAx", "X:1\nK:D\nAB")])
def test_a_stop_ends_the_answer_before_it(stop, expected, stream):
    """The answer comes in pieces that cut the stop."""
    with serving(Scripted("X:1", "\nK", ":", "D\nA", "B")) as page:
        neutral = {"n": 1, "presence_penalty": 0, "frequency_penalty": 0.0, "logprobs": False}
        asked = {"model": "m0", "messages": ASK["messages"], "stop": stop, **neutral}
        found = client_of(page).chat.completions.create(**asked, stream=stream)
        if not stream:
            assert (found.choices[0].message.content, found.choices[0].finish_reason) == (expected, "stop")
            return
        pieces = [piece.choices[0] for piece in found]
        assert "".join(piece.delta.content or "" for piece in pieces) == expected
        assert pieces[-1].finish_reason == "stop"


def test_an_error_within_a_stream_reaches_the_client(client):
    long = [{"role": "user", "content": "x" * 3_000}]
    with pytest.raises(openai.APIError, match="the model reads"):
        list(client.chat.completions.create(model="tiny", messages=long, stream=True))


def test_the_password_is_the_key(tiny_model):
    with serving(tiny_model, password="secret") as page:
        assert len(list(client_of(page, "secret").models.list())) == 1
        with pytest.raises(openai.AuthenticationError):
            client_of(page, "guess").models.list()


def test_a_client_that_leaves_frees_the_model():
    endless = Scripted("x", until_stopped=True)
    with serving(endless) as page:
        client = client_of(page)
        stream = client.chat.completions.create(model="m0", messages=ASK["messages"], stream=True)
        next(iter(stream))
        stream.close()
        wait_for(lambda: page.service.queue.running == 0)
        body = json.dumps({"model": "m0", "messages": ASK["messages"]}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        with socket.create_connection((page.base_url.host, page.base_url.port)) as connection:
            connection.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
            wait_for(lambda: page.service.queue.running == 1)
        wait_for(lambda: page.service.queue.running == 0)
        assert len(endless.begun) == 2


def test_too_many_are_sent_away():
    with serving(Scripted("x", held=True), limits=Limits(writing=1, waiting=1)) as page:
        asked = {"model": "m0", "messages": ASK["messages"], "stream": True}
        first = client_of(page).chat.completions.create(**asked)
        wait_for(lambda: page.service.queue.running == 1)
        second = client_of(page).chat.completions.create(**asked)
        with pytest.raises(openai.RateLimitError):
            client_of(page).chat.completions.create(**asked)
        first.close()
        second.close()
