"""Who may talk to the explorer's server: raw requests against a live one."""

from __future__ import annotations

import contextlib
import csv
import shlex
import socket
import threading

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

import reparam
from reparam.downstream.directions import Direction, save_directions
from reparam.explorer.guard import Guard, new_token
from reparam.explorer.launch import listening_on, server_of
from reparam.explorer.server import MOST_SOCKETS, application
from reparam.explorer.session import Session

TOKEN = "t" * 43


async def everything(scope, receive, send):
    """An app that lets in whoever comes."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1000})
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"inside"})


@contextlib.contextmanager
def live(app, token=TOKEN):
    """A server of an app behind the guard; yields the guard."""
    listening = listening_on(0)
    guard = Guard(app, listening.getsockname()[1], token)
    server = server_of(guard)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield guard
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def port():
    with live(everything) as guard:
        yield guard.port


def raw(port, text):
    """The status and the whole answer to a request, byte by byte as it is written here."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(text.encode("latin-1"))
        received = b""
        with contextlib.suppress(OSError):
            while b"\r\n\r\n" not in received or not (b"inside" in received or b"refused" in received):
                more = connection.recv(65536)
                if not more:
                    break
                received += more
                if b" 101 " in received[:20] or b" 303 " in received[:20]:
                    break
    return int(received[9:12] or 0), received.decode("latin-1")


def request(port, line="GET / HTTP/1.1", host="127.0.0.1:{port}", cookie=TOKEN, **headers):
    """A request of the page, but for what is changed; None leaves a header out."""
    hosts = [host] if isinstance(host, str) or host is None else host
    lines = [line, *(f"Host: {each}" for each in hosts if each is not None)]
    lines += [f"Cookie: other=1; reparam-{{port}}={cookie}"] if cookie is not None else []
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items() if value is not None]
    return raw(port, "\r\n".join([*lines, "Connection: close" if "Connection" not in headers else "X: y"]).replace(
        "{port}", str(port)).replace("{next}", str(port + 1)) + "\r\n\r\n")


SOCKET = {"line": "GET /ws HTTP/1.1", "Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13",
          "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==", "Origin": "http://127.0.0.1:{port}"}
POST = {"line": "POST /api HTTP/1.1", "Content_Length": "0", "Origin": "http://127.0.0.1:{port}"}
OPEN = {
    "the page": {}, "by the name localhost": {"host": "localhost:{port}"},
    "a file of the page": {"line": "GET /api HTTP/1.1", "Sec_Fetch_Site": "same-origin", "Origin": "http://127.0.0.1:{port}"},
    "typed into the address bar": {"Sec_Fetch_Site": "none"}, "POST of the page": POST}
SHUT = {
    "no token": {"cookie": None}, "another token": {"cookie": "u" * 43}, "an empty token": {"cookie": ""},
    "a token that is no ASCII": {"cookie": "ü" * 43}, "part of the token": {"cookie": TOKEN[:-1]},
    "the link's token elsewhere": {"cookie": None, "line": f"GET /api?token={TOKEN} HTTP/1.1"},
    "another token in the link": {"cookie": None, "line": f"GET /?token={TOKEN}x HTTP/1.1"},
    "the link's token to a POST": {**POST, "cookie": None, "line": f"POST /?token={TOKEN} HTTP/1.1"},
    **{f"host {host}": {"host": host} for host in (
        "evil.com", "localhost.evil.com:{port}", "127.0.0.1.nip.io:{port}", "127.0.0.1", "127.0.0.1:{next}",
        "0.0.0.0:{port}", "", "[::]:{port}", "127.1:{port}", "127.0.0.1:{port}@evil.com", "2130706433:{port}",
        "0x7f.0.0.1:{port}", "[::ffff:127.0.0.1]:{port}", "127.0.0.1.:{port}", "evil.com, 127.0.0.1:{port}",
        "127.0.0.1:{port}.evil.com",
        "evil.com:{port}#127.0.0.1:{port}")},
    "no host": {"host": None, "line": "GET / HTTP/1.0"}, "the link's token for another host": {
        "host": "evil.com", "cookie": None, "line": f"GET /?token={TOKEN} HTTP/1.1"},
    **{f"POST of {origin}": {**POST, "Origin": origin} for origin in (
        "http://evil.com", "null", None, "http://localhost:{port}", "https://127.0.0.1:{port}", "http://127.0.0.1:{next}",
        "http://127.0.0.1:{port}, http://evil.com")},
    "a host that a proxy is said to have seen": {"host": "evil.com", "X_Forwarded_Host": "127.0.0.1:{port}",
                                                 "Forwarded": "host=127.0.0.1:{port}"},
    "OPTIONS of another site": {"line": "OPTIONS /api HTTP/1.1", "Origin": "http://evil.com",
                                "Access_Control_Request_Method": "POST", "Access_Control_Request_Private_Network": "true"},
    "the token in a Referer": {"cookie": None, "Referer": f"http://127.0.0.1:{{port}}/?token={TOKEN}"},
    "the token in a header": {"cookie": None, "Authorization": f"Bearer {TOKEN}"},
    "the token in another port's cookie": {"cookie": None, "Cookie": f"reparam-{{next}}={TOKEN}; token={TOKEN}"},
    "GET of a foreign script": {"line": "GET /api HTTP/1.1", "Origin": "http://evil.com"},
    **{f"fetch from {site}": {"line": "GET /api HTTP/1.1", "Sec_Fetch_Site": site} for site in ("cross-site", "same-site")},
    "a frame": {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "iframe"},
    "navigation to what is no page": {"line": "GET /api HTTP/1.1", "Sec_Fetch_Site": "cross-site",
                                      "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"},
    **{f"socket of {origin}": {**SOCKET, "Origin": origin} for origin in (
        "http://evil.com", "null", None, "ws://127.0.0.1:{port}", "https://127.0.0.1:{port}", "http://127.0.0.1:{next}",
        "http://localhost:{port}", "http://127.0.0.1", "http://127.0.0.1:{port}.evil.com", "file://")},
    "socket without a token": {**SOCKET, "cookie": None}, "socket for another host": {**SOCKET, "host": "evil.com:{port}"},
    "socket with the link's token": {**SOCKET, "cookie": None, "line": f"GET /ws?token={TOKEN} HTTP/1.1"}}


@pytest.mark.parametrize("asked", OPEN.values(), ids=OPEN)
def test_the_page_is_let_in(port, asked):
    status, answer = request(port, **asked)
    assert status == 200 and "inside" in answer


def test_the_socket_of_the_page_is_let_in(port):
    assert request(port, **SOCKET)[0] == 101


@pytest.mark.parametrize("asked", SHUT.values(), ids=SHUT)
def test_others_are_refused(port, asked):
    status, answer = request(port, **asked)
    assert status == 403 and "inside" not in answer and TOKEN not in answer


def test_a_cookie_that_another_port_set_does_not_hide_the_secret(port):
    assert request(port, cookie=f"{TOKEN}; reparam-{{port}}=tossed")[0] == 200


def test_the_token_of_a_server_that_has_ended_opens_no_other():
    """Though it had the same port."""
    with live(everything, new_token()) as ended:
        token = ended.token
    with live(everything, new_token()) as guard:
        old = {"cookie": None, "line": f"GET /?token={token} HTTP/1.1"}
        for asked in (old, {"cookie": token}, {**SOCKET, "cookie": token}):
            assert request(guard.port, **asked)[0] == 403
        assert request(guard.port, cookie=guard.token)[0] == 200


def test_messages_are_not_unpacked(port):
    """A socket that offers compression gets none, in which a bomb could hide."""
    status, answer = request(port, **SOCKET, Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits")
    assert status == 101 and "permessage-deflate" not in answer.lower()


def test_two_hosts_are_refused(port):
    assert request(port, host=["127.0.0.1:{port}", "evil.com"])[0] in (400, 403)


def test_the_token_moves_from_the_link_into_a_cookie(port):
    status, answer = request(port, cookie=None, line=f"GET /?token={TOKEN} HTTP/1.1")
    head = answer.split("\r\n\r\n")[0].lower()
    assert status == 303 and "\r\nlocation: /\r\n" in head + "\r\n"
    (cookie,) = (line for line in answer.split("\r\n") if line.lower().startswith("set-cookie"))
    assert cookie.partition(": ")[2] == f"reparam-{port}={TOKEN}; HttpOnly; SameSite=Strict; Path=/"


def test_the_link_loses_its_token_also_where_the_cookie_is_there(port):
    assert request(port, line=f"GET /?token={TOKEN} HTTP/1.1")[0] == 303


def test_a_link_on_another_page_leads_in(port):
    """Of which a browser sends no strict cookie along a redirect, but along what the page that it got asks for."""
    came = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    status, answer = raw(port, f"GET /?token={TOKEN} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n" + "".join(
        f"{name.replace('_', '-')}: {value}\r\n" for name, value in came.items()) + "\r\n")
    assert status == 200 and 'http-equiv="refresh" content="0; url=/"' in answer and "SameSite=Strict" in answer


@pytest.mark.parametrize("asked", [{}, {"cookie": None}], ids=["inside", "refused"])
def test_every_answer_says_what_a_page_may_do(port, asked):
    head = request(port, **asked)[1].split("\r\n\r\n")[0].lower()
    policy = next(line for line in head.split("\r\n") if line.startswith("content-security-policy"))
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    for line in ("x-content-type-options: nosniff", "referrer-policy: no-referrer", "cache-control: no-store",
                 "cross-origin-opener-policy: same-origin", "cross-origin-resource-policy: same-origin"):
        assert f"\r\n{line}" in head
    assert "access-control-" not in head and "\r\nserver:" not in head


def test_secrets_are_compared_in_constant_time(port, monkeypatch):
    from reparam.explorer import guard

    compared, own = [], guard.hmac.compare_digest
    monkeypatch.setattr(guard.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or own(a, b))
    request(port, cookie="guess")
    request(port, cookie=None, line="GET /?token=guess HTTP/1.1")
    assert [a for a, _ in compared if a == b"guess"] == [b"guess"] * 2 and {b for _, b in compared} == {TOKEN.encode()}


def test_tokens_are_long_and_never_the_same_and_not_shown():
    assert len({new_token() for _ in range(100)}) == 100 and min(len(new_token()) for _ in range(100)) == 43
    assert TOKEN not in repr(Guard(everything, 1, TOKEN)) and Guard(everything, 1, TOKEN).link.endswith(TOKEN)


# the page


IMAGE = "<img src=x onerror=window.hacked=1>"
SCRIPT = "\"'><script>window.hacked=1</script>" + IMAGE


@pytest.fixture(scope="module")
def hostile(explorable, tmp_path_factory):
    """The page's server, of a run whose folder, table and directions bear names that are code where they are not text."""
    folder = explorable().rename(tmp_path_factory.mktemp("x") / IMAGE)
    rows = [[i, SCRIPT if i % 2 else "toString", i / 7, f"{IMAGE}{i % 3}"] for i in range(1797)]
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["name", SCRIPT, "__proto__", "constructor"], *rows])
    vector, none = np.ones(4), np.zeros((2, 4))
    kept = Direction(SCRIPT, vector, vector, none, none, np.zeros(2), 0.9, (0.8, 0.95), 50)
    save_directions(folder, reparam.load(folder, device="cpu"), {SCRIPT: kept})
    with live(application(Session.open([folder], table=folder / "table.csv", most=200, device="cpu"))) as guard:
        yield guard


@pytest.fixture
def visited(browser, hostile):
    """The page by its link, of which nothing may complain and nothing be asked for elsewhere."""
    page, problems, referers = browser.new_page(), [], []
    page.on("console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: problems.append(str(e)))
    page.on("request", lambda r: referers.append(r.headers.get("referer", "")))
    page.goto(hostile.link)
    page.wait_for_selector("body.ready", timeout=60_000)
    assert TOKEN not in page.url and not any(TOKEN in each for each in referers)
    yield page
    assert not problems and page.evaluate("window.hacked") is None
    assert page.evaluate("document.querySelectorAll('img, script:not([src]), iframe').length") == 0
    page.close()


def test_names_are_text_and_never_code(visited):
    page = visited
    assert page.inner_text("#run") == IMAGE and page.evaluate("document.referrer") == ""
    found = page.locator("#colour option").evaluate_all("all => all.map(o => o.value)")
    assert {SCRIPT, "__proto__", "constructor"} <= set(found)
    for name in found:
        page.select_option("#colour", name)
        page.wait_for_timeout(100)
    assert page.evaluate("Object.keys(Object.getPrototypeOf({})).length + Object.keys(Object).length") == 0
    page.select_option("#colour", SCRIPT)
    page.locator("#legend", has_text="<script>").wait_for()
    page.click("#table summary")
    page.locator("#rows", has_text="<script>").wait_for()
    assert page.locator("#directions .slider", has_text="<script>").count() == 1
    page.evaluate("""name => {
        const canvas = new OffscreenCanvas(8, 8), data = new DataTransfer();
        canvas.getContext("2d").fillRect(0, 0, 4, 4);
        return canvas.convertToBlob().then((blob) => {
            data.items.add(new File([blob], name, { type: "image/png" }));
            dispatchEvent(new DragEvent("drop", { dataTransfer: data, cancelable: true }));
        }); }""", IMAGE)
    page.locator("#title", has_text="<img").wait_for()
    page.click("#copyas")
    command = page.inner_text("#ascommand")
    assert shlex.split(command, comments=True)[2].endswith(IMAGE), "a folder's name is one word of a command"


def test_a_page_too_many_says_so(browser, hostile):
    with contextlib.ExitStack() as others:
        taken = 0
        while taken < MOST_SOCKETS:  # a page of another test may just be leaving
            socket = others.enter_context(connect(f"ws://127.0.0.1:{hostile.port}/ws", origin=f"http://127.0.0.1:{hostile.port}",
                                                  additional_headers={"Cookie": f"reparam-{hostile.port}={TOKEN}"}))
            with contextlib.suppress(ConnectionClosed):
                socket.send("?")
                taken += bool(socket.recv(30))
        page = others.enter_context(contextlib.closing(browser.new_page()))
        page.goto(hostile.link)
        page.locator("#said.shown", has_text="too many pages").wait_for()
        assert not page.locator("#lost").is_visible()


def test_an_address_that_is_nonsense_breaks_nothing(visited):
    at = visited.url.split("#")[0]
    for said in (f"tab=constructor&plane=__proto__&colour=constructor&hide=-1,5e9&view=1e999,2,0&row=-5&code=%00&of={IMAGE}",
                 "set=%25:1,99999:3&add=%25E0%25A4:1&lock=99999,-3&lasso=1_2,x|__proto__|1_2,3_4,5_6&turn=A,B>&stops=@@&frames=1e9",
                 f"tab={IMAGE}&plane=latents:99999,1&colour={IMAGE}&draw={SCRIPT}&geodesic=yes&heat=NaN&to=sum"):
        visited.goto("about:blank")
        visited.goto(f"{at}#{said}")
        visited.wait_for_selector("body.ready", timeout=60_000)
