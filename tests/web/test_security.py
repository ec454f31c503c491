"""Attacks on the server that were tried, and what each answer carries."""

import base64
import socket
import time

import pytest

from musician.runtime.errors import UserError
from musician.web.limits import Limits
from musician.web.security import CONTENT_SECURITY_POLICY
from musician.web.server import check_exposure, listen

from .conftest import ASK, Scripted, events, serving


@pytest.fixture(scope="module")
def page():
    with serving(Scripted("x"), limits=Limits(max_body_bytes=50_000)) as client:
        yield client


def raw(page, request, wait=2.0):
    """Send bytes as they are and return what comes back."""
    with socket.create_connection((page.base_url.host, page.base_url.port)) as connection:
        connection.settimeout(wait)
        connection.sendall(request)
        found = b""
        try:
            while piece := connection.recv(65536):
                found += piece
        except (TimeoutError, ConnectionResetError):
            pass
        return found


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/static/index.html"),
        ("GET", "/api/setup"),
        ("GET", "/nowhere"),
        ("POST", "/api/generate"),
        ("GET", "/healthz"),
        ("DELETE", "/api/setup"),
        ("GET", "/sound/acoustic_grand_piano-mp3/A4.mp3"),
    ],
)
def test_every_answer_carries_the_policy(page, method, path):
    headers = page.request(method, path).headers
    assert headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "cache-control" in headers


def test_the_policy_forbids_inline_script_and_other_sites():
    rules = dict(rule.split(" ", 1) for rule in CONTENT_SECURITY_POLICY.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["connect-src"] == "'self'"
    assert set(rules["img-src"].split()) == {"'self'", "data:", "blob:"}
    assert "http" not in CONTENT_SECURITY_POLICY


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "localhost.", "[::2]"]
)
def test_a_foreign_host_is_refused(page, host):
    for path in ("/", "/api/setup", "/metrics", "/static/index.html"):
        response = page.get(path, headers={"host": host})
        assert response.status_code == 400
        assert response.text == "Invalid host header"
        assert response.headers["content-security-policy"] == CONTENT_SECURITY_POLICY


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9", "127.0.0.1:1", "[::1]:7860", "[::1]"])
def test_this_machine_is_known(page, host):
    assert page.get("/healthz", headers={"host": host}).status_code == 200


def test_another_name_is_known_if_told():
    with serving(Scripted("x"), hosts=["music.example"]) as page:
        assert page.get("/healthz", headers={"host": "music.example:443"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"origin": "https://evil.example:443"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_a_foreign_page_cannot_ask(page, headers):
    for path in ("/api/generate", "/api/check", "/api/duels/x/vote", "/v1/chat/completions"):
        assert page.post(path, json=ASK, headers=headers).status_code == 403


def test_the_own_page_can(page):
    own = str(page.base_url).rstrip("/")
    with page.stream(
        "POST", "/api/generate", json=ASK, headers={"origin": own, "sec-fetch-site": "same-origin"}
    ) as response:
        assert [name for name, _ in events(response)] == ["start", "text", "done"]


def test_a_form_of_another_site_is_no_question(page):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        body = b'{"messages": [{"role": "user", "content": "x"}]}'
        assert page.post("/api/generate", content=body, headers={"content-type": kind}).status_code == 422


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static/....//app.py",
        "/static//etc/passwd",
        "/static/%2fetc%2fpasswd",
        "/static/..\\app.py",
        "/static/%00",
        "/static/",
        "/static/vendor/..%2f..%2f..%2fpyproject.toml",
        "/../../etc/passwd",
        "/sound/..%2f..%2fapp/A4.wav",
    ],
)
def test_no_path_leads_out_of_the_folder(page, path):
    found = raw(page, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert found.split(b" ", 2)[1] in (b"404", b"400")
    assert b"import" not in found
    assert b"root:" not in found


def test_a_large_body_is_refused_unread(page):
    assert page.post("/api/check", json={"abc": "C" * 60_000}).status_code == 413
    head = b"POST /api/check HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    assert b" 413 " in raw(page, head + b"Content-Length: 99999999999999\r\n\r\n{", wait=5)
    assert b" 413 " in raw(
        page,
        head
        + b"Transfer-Encoding: chunked\r\n\r\n"
        + b"8000\r\n"
        + b"C" * 0x8000
        + b"\r\n" * 1
        + b"8000\r\n"
        + b"C" * 0x8000,
    )
    assert page.get("/healthz").status_code == 200


@pytest.mark.parametrize("length", [b"-1", b"1e3", b"0x10", b""])
def test_a_length_that_is_none_is_refused(page, length):
    head = b"POST /api/check HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
    assert raw(page, head + length + b"\r\n\r\n{}").split(b" ", 2)[1] in (b"400", b"413")


def test_a_long_header_is_refused(page):
    found = raw(page, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 200_000 + b"\r\n\r\n")
    assert found == b"" or found.split(b" ", 2)[1] in (b"400", b"431")
    assert page.get("/healthz").status_code == 200


def test_there_is_no_documentation_that_loads_scripts_from_elsewhere(page):
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert page.get(path).status_code == 404


class TestPassword:
    @pytest.fixture(scope="class")
    def closed(self):
        with serving(Scripted("x"), password="pässword:1") as client:
            yield client

    def test_nothing_but_health_is_open(self, closed):
        for path in ("/", "/static/index.html", "/api/setup", "/metrics", "/v1/models", "/sound/piano/A4.wav"):
            response = closed.get(path)
            assert response.status_code == 401
            assert response.headers["www-authenticate"].startswith("Basic")
        assert closed.post("/api/generate", json=ASK).status_code == 401
        assert closed.get("/healthz").status_code == 200

    @pytest.mark.parametrize("user", ["", "anyone"])
    def test_it_opens_with_any_name(self, closed, user):
        token = base64.b64encode(f"{user}:pässword:1".encode()).decode()
        assert closed.get("/api/setup", headers={"authorization": f"Basic {token}"}).status_code == 200

    def test_a_program_may_send_it_as_its_key(self, closed):
        headers = {"authorization": "Bearer pässword:1".encode()}
        assert closed.get("/v1/models", headers=headers).status_code == 200

    @pytest.mark.parametrize("given", ["Basic", "Basic !", "Basic eA==", "Basic eDp5", "Bearer x", "Digest x", "x"])
    def test_a_wrong_one_does_not(self, closed, given):
        assert closed.get("/", headers={"authorization": given}).status_code == 401

    def test_guessing_is_slow(self, closed):
        start = time.monotonic()
        closed.get("/", headers={"authorization": "Bearer guess"})
        assert time.monotonic() - start >= 0.5


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_another_address_needs_a_password(host):
    with pytest.raises(UserError, match="needs a password"):
        check_exposure(host, [], None)
    check_exposure(host, [], "x")
    with pytest.raises(UserError, match="empty"):
        check_exposure(host, [], " ")


@pytest.mark.parametrize("hosts", [["*"], ["music.example", "*.example"]])
def test_names_are_listed_one_by_one(hosts):
    with pytest.raises(UserError, match="list each name"):
        check_exposure("127.0.0.1", hosts, None)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_this_machine_needs_none(host):
    check_exposure(host, [], None)


def test_a_port_that_is_taken_is_said_in_one_line():
    with listen("127.0.0.1", 0) as taken, pytest.raises(UserError, match="choose another port"):
        listen("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(UserError, match="cannot listen"):
        listen("no.such.host.invalid", 0)
