"""Answers as a browser gets them: events, the queue, Stop, limits, refusals."""

import pytest

from musician.data.rendering.conversation import Message
from musician.generation.sampling import Sampling
from musician.generation.stream import stream
from musician.music.grammar import TuneConstraints, TuneGrammar
from musician.web.limits import Limits

from .conftest import ASK, PRESETS, Scripted, answer, events, serving, text_of, wait_for


@pytest.fixture(scope="module")
def page(tiny_model):
    with serving(tiny_model) as client:
        yield client


def test_the_page_and_its_setup(page):
    assert page.get("/").headers["content-type"].startswith("text/html")
    found = page.get("/api/setup").json()
    assert found["models"] == [{"id": "m0", "name": "tiny"}]
    assert found["presets"]["original"] == {
        "temperature": 0.2,
        "top_k": 40,
        "top_p": 0.9,
        "repetition_penalty": 1.1,
        "max_new_tokens": 1536,
    }
    assert found["limits"] == {"max_new_tokens": 2048, "max_prompt_chars": 20_000, "max_abc_chars": 20_000}
    assert (found["constraint"], found["duel"], found["originality"]) == (True, False, False)
    families = ["Write", "Continue", "Harmonise", "Change", "Check", "Describe", "Theory"]
    assert list(dict.fromkeys(example["family"] for example in found["examples"])) == families


def test_an_answer_is_what_the_model_streams(page, tiny_model):
    settings = {"temperature": 1.5, "top_k": 50, "top_p": 0.95, "repetition_penalty": 1.1, "max_new_tokens": 40}
    told = answer(page, sampling=settings, seed=7)
    expected = "".join(
        stream(
            tiny_model.forward,
            tiny_model.renderer,
            [Message("user", "Write a jig.")],
            Sampling(**settings, seed=7),
        )
    )
    assert text_of(told) == expected
    assert told[0] == ("start", {"seed": 7})
    assert told[-1][0] == "done"
    assert (told[-1][1]["reason"], told[-1][1]["tokens"]) == ("length", 40)


def test_a_seed_is_drawn_and_told_so_that_the_answer_can_be_had_again(page):
    settings = {"temperature": 1.5, "max_new_tokens": 30}
    first = answer(page, sampling=settings)
    seed = first[0][1]["seed"]
    assert text_of(answer(page, sampling=settings, seed=seed)) == text_of(first)
    assert answer(page, sampling=settings)[0][1]["seed"] != seed


def test_a_constrained_answer_is_the_tune_asked_for(page):
    told = answer(page, sampling={"temperature": 1.5, "max_new_tokens": 260}, constraint={"bars": 2, "meter": "6/8"})
    grammar = TuneGrammar(TuneConstraints(bars=2, meter="6/8"))
    assert grammar.accepts(grammar.walk(grammar.start(), text_of(told)))
    assert told[-1][1]["reason"] == "end"


def test_what_cannot_be_written_is_told_in_one_line(page):
    assert (
        "raise max_new_tokens" in answer(page, sampling={"max_new_tokens": 9}, constraint={"bars": 50})[-1][1]["error"]
    )
    long = [{"role": "user", "content": "x" * 3000}]
    name, data = answer(page, messages=long)[-1]
    assert name == "error"
    assert "the model reads 2048" in data["error"]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({**ASK, "model": "m7"}, 404, "no model 'm7'"),
        ({**ASK, "sampling": {"temperature": 3}}, 422, "sampling.temperature"),
        ({**ASK, "sampling": {"temprature": 1}}, 422, "temprature"),
        ({**ASK, "sampling": {"max_new_tokens": 5000}}, 422, "at most 2048"),
        ({**ASK, "sampling": {"top_p": 0}}, 422, "top_p"),
        ({**ASK, "seed": -1}, 422, "seed"),
        ({**ASK, "constraint": {"key": "Q"}}, 422, "constraint key=Q"),
        ({**ASK, "constraint": {"voices": 3}}, 422, "voices"),
        ({"messages": []}, 422, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, 422, "role"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, 422, "end with the user's turn"),
        ({"messages": [{"role": "user", "content": "x"}] * 2}, 422, "alternate"),
        ({"messages": [{"role": "user", "content": "  "}]}, 422, "empty turn"),
        ({"messages": [{"role": "user", "content": "x" * 20_001}]}, 413, "at most 20000"),
        ({**ASK, "duel": "x", "side": "a"}, 404, "no such duel"),
    ],
)
def test_a_bad_request_is_refused_in_one_line(page, body, status, words):
    response = page.post("/api/generate", json=body)
    assert response.status_code == status, response.text
    assert list(response.json()) == ["error"]
    assert words in response.json()["error"]
    assert "\n" not in response.json()["error"]


@pytest.mark.parametrize("content", [b"{", b"", b"[]", b"\xff\xfe", b"9" * 10_000, b"[" * 50_000, b"null"])
def test_what_is_no_json_is_refused(page, content):
    response = page.post("/api/generate", content=content, headers={"content-type": "application/json"})
    assert response.status_code in (400, 422)
    assert list(response.json()) == ["error"]


def test_half_a_surrogate_pair_is_refused(page):
    body = b'{"messages": [{"role": "user", "content": "\\ud800"}]}'
    response = page.post("/api/generate", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 422


def test_stop_frees_the_model_at_once():
    endless = Scripted("la ", until_stopped=True)
    with serving(endless) as page:
        with page.stream("POST", "/api/generate", json=ASK) as response:
            seen = events(response)
            assert [next(seen)[0] for _ in range(5)] == ["start", "text", "text", "text", "text"]
            assert page.service.queue.running == 1
        wait_for(lambda: page.service.queue.running == 0)
        assert endless.idle.is_set()
        assert 'musician_answers_total{reason="stopped"} 1' in page.get("/metrics").text


def test_those_who_wait_are_told_their_place_and_may_leave():
    writer = Scripted("one", held=True)

    def ask(word):
        return page.stream("POST", "/api/generate", json={"messages": [{"role": "user", "content": word}]})

    with serving(writer, limits=Limits(writing=1, waiting=2)) as page:
        with ask("first") as first:
            wait_for(lambda: writer.begun == ["first"])
            with ask("second") as second:
                seen = events(second)
                assert next(seen) == ("queued", {"position": 1})
                with ask("third") as third:
                    places = events(third)
                    assert next(places) == ("queued", {"position": 2})
                    refused = page.post("/api/generate", json=ASK)
                    assert refused.status_code == 429
                    assert "2 others wait" in refused.json()["error"]
                    second.close()
                    assert next(places) == ("queued", {"position": 1})
                    writer.go.set()
                    assert [name for name, _ in places] == ["start", "text", "done"]
            assert [name for name, _ in events(first)] == ["start", "text", "done"]
        assert writer.begun == ["first", "third"]


def test_an_answer_that_takes_too_long_is_ended():
    with serving(Scripted("la ", until_stopped=True), limits=Limits(answer_seconds=0.2)) as page:
        told = answer(page)
    assert told[-1][1]["reason"] == "timeout"
    assert len(told) > 2


def test_several_are_written_at_a_time_and_each_ends_for_its_own_reason():
    """The first fails, the second is left, the third is written to its end."""

    class Broken(Scripted):
        def _piece(self, handle):
            piece = super()._piece(handle)
            if self.begun[handle - 1] != "fails":
                return piece
            self.cancel(handle)
            return piece._replace(text="", end="failed", error=ZeroDivisionError("secret"))

    writer = Broken("a", "b", "c", held=True)

    def ask(word):
        return page.stream("POST", "/api/generate", json={"messages": [{"role": "user", "content": word}]})

    with serving(writer, limits=Limits(writing=3)) as page, ask("fails") as one, ask("leaves") as two, ask("x") as last:
        wait_for(lambda: page.service.queue.running == 3)
        two.close()
        wait_for(lambda: page.service.queue.running == 2)
        writer.go.set()
        name, data = list(events(one))[-1]
        assert name == "error"
        assert "secret" not in data["error"]
        assert text_of(list(events(last))) == "abc"
        assert sorted(writer.begun) == ["fails", "leaves", "x"]


def test_a_model_that_fails_altogether_is_asked_again_by_the_next():
    class Broken(Scripted):
        def step(self):
            if len(self.begun) == 1:
                raise ZeroDivisionError("secret")
            return super().step()

    with serving(Broken("fine")) as page:
        name, data = answer(page)[-1]
        assert name == "error"
        assert "secret" not in data["error"]
        assert text_of(answer(page)) == "fine"
        assert 'musician_answers_total{reason="failed"} 1' in page.get("/metrics").text


def test_the_end_of_the_server_refuses_those_who_wait():
    writer = Scripted("x", held=True)
    limits = Limits(writing=1)
    with serving(writer, limits=limits) as page, page.stream("POST", "/api/generate", json=ASK) as first:
        wait_for(lambda: writer.begun)
        with page.stream("POST", "/api/generate", json=ASK) as second:
            seen = events(second)
            next(seen)
            page.loop.call_soon_threadsafe(page.service.queue.close, 0.2)
            assert "ending" in next(seen)[1]["error"]
        assert page.post("/api/generate", json=ASK).status_code == 503
        assert list(events(first))[-1][1]["reason"] == "stopped"


def test_health_reports_that_decoding_has_ended():
    class Fatal(Scripted):
        def cancel(self, handle):
            raise ZeroDivisionError  # not in a step, so no handler catches it

    with serving(Fatal("x", until_stopped=True)) as page:
        assert page.get("/healthz").json() == {"status": "ok"}
        with page.stream("POST", "/api/generate", json=ASK) as response:
            next(events(response))
        wait_for(lambda: not page.service.queue.alive)
        assert page.get("/healthz").status_code == 503


def test_the_default_settings_are_the_first_preset():
    asked = []

    class Listening(Scripted):
        def begin(self, messages, sampling, constraints):
            asked.append(sampling)
            return super().begin(messages, sampling, constraints)

    with serving(Listening("x"), limits=Limits(max_new_tokens=100)) as page:
        answer(page, seed=3, sampling={"temperature": 0})
    assert asked == [Sampling(0, PRESETS["music"].top_k, PRESETS["music"].top_p, 1.0, 100, 3)]


ATTACKS = (
    "<script>alert(1)</script>",
    "<img src=http://192.0.2.1/p.png onerror=alert(1)>",
    "![x](http://192.0.2.1/p.png)",
    "\n\nevent: done\ndata: {}\n\n",
    "\r\n\r\ndata: x\r",
    "\u2028\u2029\x85\0\x1b[31m",
    "</textarea><svg/onload=alert(1)>",
)


def test_what_a_model_writes_stays_text_within_its_event():
    with serving(Scripted(*ATTACKS)) as page, page.stream("POST", "/api/generate", json=ASK) as response:
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["cache-control"] == "no-cache"
        told = list(events(response))
    assert [data["text"] for name, data in told if name == "text"] == list(ATTACKS)
    assert [name for name, _ in told] == ["start", *["text"] * len(ATTACKS), "done"]


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_is_typed_is_what_the_model_reads(attack):
    writer = Scripted("x")
    with serving(writer) as page:
        answer(page, messages=[{"role": "user", "content": f"a{attack}b"}])
    assert writer.begun == [f"a{attack}b"]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-1", "1e400", "null", '"1"'])
def test_numbers_that_are_none_are_refused(page, value):
    body = f'{{"messages": [{{"role": "user", "content": "x"}}], "sampling": {{"temperature": {value}, "top_k": 1.5}}}}'
    response = page.post("/api/generate", content=body, headers={"content-type": "application/json"})
    assert response.status_code in (400, 422)
    assert list(response.json()) == ["error"]
