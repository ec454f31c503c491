"""The page in a real browser: a tune asked for, watched, stopped, heard, edited, taken away, shared and compared."""

import io
import json
import wave
from xml.etree import ElementTree

import mido
import pytest

from musician.web.known_tunes import KnownTunes
from musician.web.limits import Limits

from .browsing import PITCHES, TUNE, ask, until, visiting, wait_for_notes, writer
from .conftest import ASK, Scripted, events, serving, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture
def waltz(browser):
    """The page after the waltz was asked for and written."""
    with serving(writer(f"Here it is.\n\n{TUNE}")) as client, visiting(browser, client) as page:
        ask(page)
        wait_for_notes(page, 19)
        yield page


def test_a_score_grows_while_it_is_written_and_stop_frees_the_model(browser):
    endless = Scripted(TUNE, "A B c |\n", until_stopped=True)
    with serving(endless) as client, visiting(browser, client) as page:
        page.fill("#prompt", "Write for ever.")
        page.keyboard.press("Enter")
        until(page, "document.querySelectorAll('#sheet-a svg .abcjs-note').length > 30")
        assert not endless.idle.is_set()
        assert page.evaluate("document.querySelector('#transport').inert")
        page.keyboard.press("Escape")
        page.wait_for_selector("body:not([data-busy])")
        wait_for(endless.idle.is_set)
        assert page.inner_text("#status") == "Stopped."
        kept = page.input_value("#editor")
        assert kept.startswith(TUNE)
        page.wait_for_timeout(300)
        assert page.input_value("#editor") == kept


def test_prose_and_tune_are_told_apart(waltz):
    assert waltz.inner_text(".assistant .body > p") == "Here it is."
    assert waltz.inner_text(".assistant .card .title") == "Test Waltz"
    assert waltz.input_value("#editor") == TUNE.rstrip("\n")


def test_playing_lights_one_note_after_another_and_keeps_time(waltz):
    waltz.evaluate(
        """() => { window.lit = []; new MutationObserver((changes) => changes.forEach(({ target }) =>
            target.classList.contains("sounding") && window.lit.push(target.getAttribute("class"))))
            .observe(document.querySelector("#sheet-a"), { subtree: true, attributeFilter: ["class"] }) }"""
    )
    waltz.click("#play")
    waltz.wait_for_selector("#transport[data-state=playing]")
    assert waltz.evaluate("window.abcjsAudioContext.state") == "running"
    until(waltz, "window.lit.length >= 4")
    # m: bar of the line, n: note of the bar; c is the third of the first bar, d the first of the second.
    places = [
        next(name for name in names.split() if name.startswith("abcjs-p")) for names in waltz.evaluate("window.lit")
    ]
    assert places[:4] == ["abcjs-p5", "abcjs-p6", "abcjs-p7", "abcjs-p8"]
    assert waltz.inner_text("#time").endswith("/ 0:06")  # 24 quarters at 240 a minute
    assert any("/sound/acoustic_grand_piano-mp3/A4.mp3" in url for url in waltz.asked)
    waltz.click("#play")
    waltz.wait_for_selector("#transport[data-state=paused]")


def test_the_sound_is_that_of_the_notes(waltz):
    """The loudest frequency of what plays is A4's, the tune's first note."""
    waltz.evaluate(
        """() => { const start = AudioBufferSourceNode.prototype.start;
            AudioBufferSourceNode.prototype.start = function (...given) {
                window.played = this.buffer;
                return start.apply(this, given) } }"""
    )
    waltz.click("#play")
    waltz.wait_for_selector("#transport[data-state=playing]")
    rate, samples = waltz.evaluate(
        "[window.played.sampleRate, Array.from(window.played.getChannelData(0).slice(0, 8192))]"
    )
    np = pytest.importorskip("numpy")
    loudest = np.argmax(np.abs(np.fft.rfft(samples * np.hanning(len(samples))))) * rate / len(samples)
    assert loudest == pytest.approx(440, abs=8)


def test_loop_begins_again(waltz):
    waltz.click("#loop")
    waltz.click("#play")
    waltz.wait_for_selector("#transport[data-state=playing]")
    waltz.fill("#seek", "950")
    until(waltz, "Number(document.querySelector('#seek').value) < 300")
    assert waltz.get_attribute("#transport", "data-state") == "playing"


def test_without_loop_it_ends_at_the_beginning(waltz):
    waltz.click("#play")
    waltz.wait_for_selector("#transport[data-state=playing]")
    waltz.fill("#seek", "950")
    waltz.wait_for_selector("#transport[data-state=paused]")
    assert waltz.inner_text("#time") == "0:00 / 0:06"
    assert waltz.locator(".sounding").count() == 0


def test_tempo_and_instrument_change_what_is_heard(waltz):
    for _ in range(5):
        waltz.click("#faster")
    assert waltz.inner_text("#tempo") == "260"
    waltz.select_option("#instrument", label="Flute")
    waltz.click("#play")
    waltz.wait_for_selector("#transport[data-state=playing]")
    assert waltz.inner_text("#time").endswith("/ 0:05")
    assert any("/sound/flute-mp3/" in url for url in waltz.asked)


def test_an_edit_is_engraved_checked_and_heard(waltz):
    edited = TUNE.replace("f e d | e3 |", "f e d d | e3 |").replace("A2 z |", "g2 z |")

    def is_check_of_the_edit(response):  # that of the answer itself may still be under way
        return response.url.endswith("/api/check") and response.request.post_data_json == {"abc": edited}

    with waltz.expect_response(is_check_of_the_edit):
        waltz.fill("#editor", edited)
    wait_for_notes(waltz, 20)
    until(waltz, "document.querySelector('#check-badge').textContent === '1'")
    assert waltz.locator(".bar-problem").count() == 1
    waltz.click("#tab-check")
    assert waltz.locator(".bar.wrong").inner_text() == "3"
    waltz.click("#play")
    waltz.wait_for_selector("#transport[data-state=playing]")
    assert any(url.endswith("-mp3/G5.mp3") for url in waltz.asked)


def test_files(waltz):
    def download(kind):
        waltz.click("#downloads summary")
        with waltz.expect_download() as got:
            waltz.click(f"[data-file={kind}]")
        name = got.value.suggested_filename
        return name, got.value.path().read_bytes()

    name, abc = download("abc")
    assert (name, abc.decode()) == ("test-waltz.abc", TUNE.rstrip("\n"))
    name, data = download("midi")
    midi = mido.MidiFile(file=io.BytesIO(data))
    sounded = [message.note for message in midi if message.type == "note_on" and message.velocity]
    assert (name, sounded) == ("test-waltz.mid", PITCHES)
    assert midi.length == pytest.approx(6, abs=0.5)  # the last quarter is a rest
    name, data = download("wav")
    with wave.open(io.BytesIO(data)) as sound:
        assert name == "test-waltz.wav"
        assert sound.getnframes() / sound.getframerate() == pytest.approx(6, abs=1)
        assert any(sound.readframes(sound.getframerate()))
    name, data = download("musicxml")
    assert name == "test-waltz.musicxml"
    assert len(list(ElementTree.fromstring(data).iter("note"))) == 19
    name, data = download("svg")
    drawn = ElementTree.fromstring(data)
    assert (name, drawn.tag) == ("test-waltz.svg", "{http://www.w3.org/2000/svg}svg")
    assert len(list(drawn.iter("{http://www.w3.org/2000/svg}path"))) > 30
    assert b"currentColor" not in data


def test_transposing_moves_score_sound_and_files(waltz):
    sharps = "#sheet-a .abcjs-key-signature [data-name^='accidentals.sharp']"
    assert waltz.locator(sharps).count() == 0
    for _ in range(2):
        waltz.click("#higher")
    until(waltz, f"document.querySelectorAll({json.dumps(sharps)}).length >= 2")  # B minor
    waltz.click("#downloads summary")
    with waltz.expect_download() as got:
        waltz.click("[data-file=midi]")
    midi = mido.MidiFile(got.value.path())
    assert [m.note for m in midi if m.type == "note_on" and m.velocity] == [pitch + 2 for pitch in PITCHES]
    waltz.click("#play")
    waltz.wait_for_selector("#transport[data-state=playing]")
    assert any(url.endswith("/B4.mp3") for url in waltz.asked)
    assert not any(url.endswith("/A4.mp3") for url in waltz.asked)


def test_a_link_carries_the_tune_and_no_server_sees_it(browser, waltz):
    waltz.click("#share")
    until(waltz, "location.hash.startsWith('#tune=')")
    fragment = waltz.evaluate("location.hash")
    with serving(writer()) as client, visiting(browser, client, fragment) as other:
        wait_for_notes(other, 19)
        assert other.input_value("#editor") == TUNE.rstrip("\n")
        assert not any(fragment[6:30] in url.partition("#")[0] for url in other.asked)


@pytest.mark.parametrize("fragment", ["#tune=!!!", "#tune=AAAA", "#tune="])
def test_a_broken_link_is_one_clear_line(browser, fragment):
    with serving(writer()) as client, visiting(browser, client, fragment) as page:
        page.wait_for_selector("#error:not([hidden])")
        assert page.inner_text("#error") == "The link holds no tune that can be read."


def test_the_tune_goes_back_as_context_and_again_draws_another_seed(browser):
    model = writer()
    with serving(model) as client, visiting(browser, client) as page:
        ask(page)
        page.click("#asks button >> text=Harmonise")
        assert page.inner_text("#attached-title") == "Test Waltz"
        with page.expect_request("**/api/generate") as sent:
            page.click("#send")
        messages = sent.value.post_data_json["messages"]
        assert [message["role"] for message in messages] == ["user", "assistant", "user"]
        instruction, _, abc = messages[-1]["content"].partition("\n")
        assert "chords" in instruction
        assert abc == TUNE.rstrip("\n")
        page.wait_for_selector("body:not([data-busy])")
        with page.expect_request("**/api/generate") as again:
            page.click(".again:visible")
        assert again.value.post_data_json["messages"] == messages
        assert again.value.post_data_json["seed"] != sent.value.post_data_json["seed"]
        page.wait_for_selector("body:not([data-busy])")
        assert page.locator(".message.assistant").count() == 2


def test_settings_and_grammar_are_sent_and_a_real_model_keeps_to_them(browser, tiny_model):
    with serving(tiny_model) as client, visiting(browser, client) as page:
        page.click("#open-settings")
        page.select_option("#preset", "original")
        page.fill("#max_new_tokens", "300")
        assert page.input_value("#preset") == ""
        page.fill("#seed", "5")
        page.check("#constrain")
        page.fill("#meter", "6/8")
        page.fill("#bars", "2")
        page.keyboard.press("Escape")
        assert page.inner_text("#constraint-note") == "Grammar on · 6/8 · 2 bars"
        with page.expect_request("**/api/generate") as sent:
            ask(page)
        body = sent.value.post_data_json
        assert body["sampling"] | body["constraint"] | {"seed": body["seed"]} == {
            "temperature": 0.2, "top_k": 40, "top_p": 0.9, "repetition_penalty": 1.1, "max_new_tokens": 300, "seed": 5,
            "key": None, "meter": "6/8", "unit": None, "bars": 2, "sections": None, "repeats": None, "voices": 1,
        }  # fmt: skip
        page.wait_for_selector("#check-badge.good")
        page.reload()
        page.wait_for_selector("body[data-ready]")
        assert page.inner_text("#constraint-note") == "Grammar on · 6/8 · 2 bars"


def test_history_is_kept_in_the_browser_and_can_be_cleared(waltz):
    waltz.reload()
    waltz.wait_for_selector("body[data-ready]")
    waltz.click("#open-history")
    waltz.click("#history-list .open")
    wait_for_notes(waltz, 19)
    assert waltz.locator(".message").count() == 2
    waltz.click("#open-history")
    waltz.click("#clear-history")
    assert waltz.inner_text("#history-list") == "Nothing yet."
    assert waltz.evaluate("localStorage.getItem('musician.history')") is None


def test_a_place_in_the_queue_is_shown(browser):
    busy = writer(held=True)
    with serving(busy, limits=Limits(writing=1)) as client, client.stream("POST", "/api/generate", json=ASK) as first:
        told = events(first)
        wait_for(lambda: busy.begun)
        with visiting(browser, client) as page:
            page.fill("#prompt", "Me too.")
            page.keyboard.press("Enter")
            until(page, "document.querySelector('#status').textContent.includes('number 1 in the queue')")
            busy.go.set()
            page.wait_for_selector("body:not([data-busy])")
        assert [name for name, _ in told][-1] == "done"


def test_a_refusal_is_one_line_and_the_question_comes_back(browser):
    complaint = "Failed to load resource: the server responded with a status of 422"
    with serving(writer()) as client, visiting(browser, client, console_errors=[complaint]) as page:
        page.click("#open-settings")
        page.check("#constrain")
        page.fill("#meter", "nonsense")
        page.keyboard.press("Escape")
        ask(page, "Write a jig.")
        assert "meter" in page.inner_text("#error")
        assert "\n" not in page.inner_text("#error")
        assert page.input_value("#prompt") == "Write a jig."
        assert page.locator(".message").count() == 0


def test_the_nearest_known_tune_is_named(browser, tmp_path):
    (tmp_path / "waltzes.abc").write_text(TUNE.replace("Test Waltz", "Known Waltz"))
    with serving(writer(), known=KnownTunes(str(tmp_path))) as client, visiting(browser, client) as page:
        ask(page)
        page.click("#tab-origin")
        page.wait_for_selector("#panel-origin dl")
        said = page.inner_text("#panel-origin")
        assert "Known Waltz, waltzes.abc." in said
        assert f"{len(PITCHES)} notes" in said
        assert "100 %" in said
