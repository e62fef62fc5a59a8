"""The explorer's server, live: its messages, whose turn it is, and what it bears."""

from __future__ import annotations

import contextlib
import json
import socket as sockets
import stat
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from test_explorer_guard import TOKEN, live, raw, request
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from reparam.errors import ReparamError, UsageError
from reparam.explorer import launch
from reparam.explorer import server as serving
from reparam.explorer.lanes import MOST_BYTES_WAITING
from reparam.explorer.launch import MOST_BYTES
from reparam.explorer.messages import MOST_TEXT, read_question, write_answer
from reparam.explorer.questions import Answer
from reparam.explorer.server import MOST_LONG, MOST_SOCKETS, application, without_paths

SECONDS = 30
PROMPT = launch.PATIENCE


class Fake:
    """A session that answers at once, or in steps, or when it is let."""

    def __init__(self):
        self.gate, self.begun, self.asked, self.threads = threading.Event(), threading.Event(), [], set()
        self.turns = 0

    def close(self):
        self.gate.set()

    def steps(self, question):
        self.threads.add(threading.get_ident())
        op, value = question.text("op"), question.said.get("value", 0)
        self.asked.append((op, value))
        if op == "wait":
            self.begun.set()
            self.gate.wait(SECONDS)
        if op == "long":
            while not self.gate.is_set():
                time.sleep(0.002)
                self.turns += 1
                yield None
        if op == "refused":
            raise UsageError("no image /home/someone/photos/1.png, as ~/x says")
        if op == "broken":
            raise RuntimeError("/home/someone: secret")
        arrays = {"a": np.arange(3, dtype=np.uint8), "b": np.float32([[value, 0.5]])}
        if op == "big":
            arrays["c"] = np.zeros(4_000_000, np.uint8)
        yield Answer({"value": value, "bytes": len(question.file)}, arrays)


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    folder = tmp_path_factory.mktemp("web")
    (folder / "index.html").write_text("<!doctype html>inside")
    (folder / "app.js").write_text("// inside")
    (folder / "style.css").write_text("/* inside */")
    (folder / "notes.txt").write_text("not inside")
    (folder / "vendored").mkdir()
    (folder / "vendored" / "plot.js").write_text("// inside")
    (folder.parent / "outside.js").write_text("// inside")
    return folder


@pytest.fixture
def fake():
    session = Fake()
    yield session
    session.gate.set()


@pytest.fixture
def port(fake, web):
    with live(application(fake, web)) as guard:
        yield guard.port
        fake.gate.set()


@contextlib.contextmanager
def page(port, **how):
    with connect(f"ws://127.0.0.1:{port}/ws", origin=f"http://127.0.0.1:{port}", compression=None, max_size=None,
                 additional_headers={"Cookie": f"reparam-{port}={TOKEN}"}, close_timeout=2, open_timeout=SECONDS,
                 **how) as opened:
        yield opened


def ask(socket, **said):
    socket.send(json.dumps(said))


def told(socket):
    """The header of the next answer, and its arrays, as the page reads them."""
    message = socket.recv(SECONDS)
    (length,) = struct.unpack_from("<I", message)
    header, at, arrays = json.loads(message[4 : 4 + length]), 4 + length, {}
    assert at % 4 == 0
    for each in header["arrays"]:
        kind, count = np.dtype(each["dtype"]), int(np.prod(each["shape"]))
        arrays[each["name"]] = np.frombuffer(message, kind, count, at).reshape(each["shape"])
        at += -(-count * kind.itemsize // 4) * 4
    assert at == len(message)
    return header, arrays


# messages


def test_a_question_and_its_answer(port):
    with page(port) as socket:
        ask(socket, id=7, op="x", value=2)
        header, arrays = told(socket)
        assert header["id"] == 7 and header["value"] == 2 and "error" not in header
        np.testing.assert_array_equal(arrays["a"], [0, 1, 2])
        np.testing.assert_array_equal(arrays["b"], [[2, 0.5]])
        text = json.dumps({"id": 8, "op": "encode"}).encode()
        socket.send(struct.pack("<I", len(text)) + text + b"picture")
        header, _ = told(socket)
        assert header["id"] == 8 and header["bytes"] == 7


@pytest.mark.parametrize("message", ["", "[]", "3", "{", "nonsense", '{"a": 1' + "}" * 3, "[" * 100_000, b"", b"\x01",
                                     b"\xff" * 8, struct.pack("<I", 4) + b"[1]x", "[" + "0," * MOST_TEXT + "0]"],
                         ids=range(12))
def test_what_is_no_question_is_told(message):
    with pytest.raises(UsageError, match="question"):
        read_question(message)


def test_arrays_that_the_page_cannot_read_are_an_error():
    with pytest.raises(TypeError, match="wide"):
        write_answer(1, Answer(arrays={"wide": np.zeros(2)}))


def test_errors_are_in_words_and_without_paths(port, caplog):
    with page(port) as socket:
        socket.send("nonsense")
        assert told(socket)[0] == {"id": None, "error": "a question is a JSON object", "arrays": []}
        ask(socket, id=1, op="refused")
        assert told(socket)[0]["error"] == "no image …, as … says"
        ask(socket, id=2, op="broken")
        header = told(socket)[0]
        assert header["id"] == 2 and header["error"] == serving.FAILED
        assert "secret" in caplog.text, "who started it can look it up"
        ask(socket, id=3)
        assert told(socket)[0]["id"] == 3
        ask(socket, id={"a": ["b"]}, op="x")
        assert told(socket)[0]["id"] is None


@pytest.mark.parametrize(("text", "shown"), [
    ("cannot write /tmp/a.png: full", "cannot write …: full"), ("cannot read '/tmp/a b/c.png'", "cannot read '…'"),
    (r"C:\Users\me\x.png is none", "… is none"),
    ("images of 3×3 and 1/2 of them", "images of 3×3 and 1/2 of them"), ("'/etc/passwd', gone", "'…', gone"),
    ("from 1 to 512; and/or", "from 1 to 512; and/or")])
def test_paths_are_left_out(text, shown):
    assert without_paths(text) == shown


# whose turn it is


def test_of_a_lane_only_the_latest_is_answered(port, fake):
    with page(port) as socket:
        ask(socket, id=0, op="wait")
        assert fake.begun.wait(SECONDS)
        for i in range(1, 201):
            ask(socket, id=i, lane="drag", op="x", value=i)
        ask(socket, id=500, lane="hover", op="x", value=5)
        ask(socket, id=999, op="x")
        ask(socket, id=501, lane="hover", op="x", value=6)
        time.sleep(0.5)  # for all of them to have arrived
        fake.gate.set()
        assert [told(socket)[0]["id"] for _ in range(4)] == [0, 200, 501, 999]
        assert fake.asked == [("wait", 0), ("x", 200), ("x", 6), ("x", 0)]


def test_without_a_lane_all_are_answered_in_order_on_one_thread(port, fake):
    with page(port) as socket, page(port) as other:
        for i in range(100):
            ask(socket, id=i, op="x")
            ask(other, id=i, op="x")
        assert [told(socket)[0]["id"] for i in range(100)] == list(range(100))
        assert [told(other)[0]["id"] for i in range(100)] == list(range(100))
    assert len(fake.threads) == 1


def test_what_takes_long_does_not_hold_up_others(port, fake):
    with page(port) as socket:
        ask(socket, id=1, op="long")
        for i in range(2, 12):
            ask(socket, id=i, op="x")
        assert [told(socket)[0]["id"] for _ in range(10)] == list(range(2, 12))
        fake.gate.set()
        assert told(socket)[0]["id"] == 1


def test_more_that_takes_long_than_can_be_worked_on_is_refused(port, fake):
    with page(port) as socket:
        for i in range(MOST_LONG + 1):
            ask(socket, id=i, op="long")
        header = told(socket)[0]
        assert header["id"] == MOST_LONG and "too much" in header["error"]
        fake.gate.set()
        assert sorted(told(socket)[0]["id"] for _ in range(MOST_LONG)) == list(range(MOST_LONG))


def test_what_a_page_that_left_had_asked_for_is_dropped(port, fake):
    with page(port) as socket:
        ask(socket, id=1, op="long")
        ask(socket, id=2, op="x")
        told(socket)
    with page(port) as socket:
        ask(socket, id=3, op="x")
        assert told(socket)[0]["id"] == 3
    deadline = time.monotonic() + SECONDS
    while True:
        turns = fake.turns
        time.sleep(0.2)
        if fake.turns == turns > 0:
            return
        assert time.monotonic() < deadline, "it is worked on for nobody"


# what it bears


def test_a_message_that_is_too_long_ends_its_page_alone(port):
    with page(port) as other:
        with page(port) as socket, pytest.raises(ConnectionClosed):
            socket.send(bytes(MOST_BYTES + 1))
            socket.recv(SECONDS)
        with page(port) as socket, pytest.raises(ConnectionClosed):  # in pieces, too
            socket.send(bytes(MOST_BYTES // 4) for _ in range(5))
            socket.recv(SECONDS)
        ask(other, id=1, op="x")
        assert told(other)[0]["id"] == 1


def test_too_many_questions_end_their_page_alone(port, fake):
    with page(port) as other, page(port) as socket:
        ask(socket, id=0, op="wait")
        assert fake.begun.wait(SECONDS)
        with pytest.raises(ConnectionClosed):
            for i in range(1000):
                ask(socket, id=i, op="x")
            while True:
                socket.recv(SECONDS)
        fake.gate.set()
        ask(other, id=1, op="x")
        assert told(other)[0]["id"] == 1


def test_files_that_wait_are_bounded_together(port, fake):
    """Of one lane only the latest waits, so that what it takes the place of does not count."""
    with page(port) as other, page(port) as socket:
        ask(socket, id=0, op="wait")
        assert fake.begun.wait(SECONDS)

        def send(i, **said):
            text = json.dumps({"id": i, "op": "x", **said}).encode()
            socket.send(struct.pack("<I", len(text)) + text + bytes(MOST_BYTES_WAITING // 3))

        for i in range(1, 6):
            send(i, lane="pick")
        fake.gate.set()
        while told(socket)[0]["id"] != 5:
            pass
        fake.gate.clear()
        ask(socket, id=6, op="wait")
        with pytest.raises(ConnectionClosed, match="wait"):
            for i in range(7, 12):
                send(i)
            while True:
                socket.recv(SECONDS)
        fake.gate.set()
        ask(other, id=1, op="x")
        assert told(other)[0]["id"] == 1


def test_too_many_pages_are_turned_away(port):
    with contextlib.ExitStack() as stack:
        pages = [stack.enter_context(page(port)) for _ in range(MOST_SOCKETS)]
        for i, each in enumerate(pages):
            ask(each, id=i, op="x")
            assert told(each)[0]["id"] == i
        with page(port) as socket, pytest.raises(ConnectionClosed):
            socket.recv(SECONDS)
    deadline = time.monotonic() + SECONDS
    while True:  # and are let in when others have left
        with page(port) as socket, contextlib.suppress(ConnectionClosed):
            ask(socket, id=1, op="x")
            assert told(socket)[0]["id"] == 1
            return
        assert time.monotonic() < deadline


def test_a_slow_reader_does_not_stop_others(port, fake):
    with page(port) as other, sockets.create_connection(("127.0.0.1", port), timeout=SECONDS) as slow:
        slow.sendall((f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\n"
                      f"Connection: Upgrade\r\nCookie: reparam-{port}={TOKEN}\r\nUpgrade: websocket\r\n"
                      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").encode())
        assert b" 101 " in slow.recv(100)
        text = b'{"op": "big"}'
        for _ in range(20):  # 80 MB, of which nothing is read
            slow.sendall(bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text)
        for i in range(50):
            ask(other, id=i, op="x")
            assert told(other)[0]["id"] == i
        assert sum(op == "big" for op, _ in fake.asked) < 10, "no more is made than is read"


def test_a_thousand_requests_do_not_stop_it(port):
    def one(i):
        with contextlib.suppress(OSError):
            return request(port, line="GET /app.js HTTP/1.1")[0]
        return 0

    with page(port) as socket:
        with ThreadPoolExecutor(100) as many:
            found = list(many.map(one, range(1000)))
        assert set(found) <= {200, 503} and found.count(200) > 900
        ask(socket, id=1, op="x")
        assert told(socket)[0]["id"] == 1


@pytest.mark.parametrize("path", [
    "/../outside.js", "/%2e%2e/outside.js", "/..%2foutside.js", "/vendored/../../outside.js", "//etc/passwd", "/etc/passwd",
    "/notes.txt", "/vendored", "/vendored/", "/index.html/", "/app.js%00.css", "/..\\outside.js", "/%c0%ae%c0%ae/outside.js",
    "/server.py", "/ws/../../outside.js", "http://127.0.0.1/outside.js"])
def test_only_the_files_of_the_table_are_sent(port, path):
    status, answer = request(port, line=f"GET {path} HTTP/1.1")
    assert status in (307, 400, 403, 404) and "inside" not in answer


def test_what_is_sent_along_with_a_request_is_not_read(port):
    began = time.monotonic()
    assert request(port, line="POST / HTTP/1.1", Origin="http://127.0.0.1:{port}", Content_Length="1000000000000")[0] == 405
    assert time.monotonic() - began < PROMPT


def test_files_have_their_types_and_nothing_is_posted(port):
    for path, kind in (("/", "html"), ("/index.html", "html"), ("/app.js", "javascript"), ("/style.css", "css"),
                       ("/vendored/plot.js", "javascript"), ("/web/map.js", "javascript")):
        status, answer = request(port, line=f"GET {path} HTTP/1.1")
        assert status == 200 and f"content-type: text/{kind}" in answer.lower() and "inside" in answer
    assert request(port, line="POST / HTTP/1.1", Origin="http://127.0.0.1:{port}", Content_Length="0")[0] == 405


def test_a_header_without_end_is_cut_off(port):
    status, _ = raw(port, "GET / HTTP/1.1\r\nHost: x\r\nX: " + "a" * 200_000)
    assert status in (0, 400, 431)


@pytest.mark.parametrize("sent", ["", "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n",
                                  "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n"],
                         ids=["nothing", "half a head", "a body that goes on and on"])
def test_requests_that_never_end_are_cut_off(fake, web, monkeypatch, sent):
    """Else a few of them would keep all others out."""
    monkeypatch.setattr(launch, "PATIENCE", 0.5)
    with live(application(fake, web)) as guard, page(guard.port) as lasting:
        with sockets.create_connection(("127.0.0.1", guard.port), timeout=0.1) as slow:
            slow.sendall(sent.encode())
            deadline = time.monotonic() + SECONDS
            with contextlib.suppress(ConnectionError):
                while True:
                    assert time.monotonic() < deadline
                    with contextlib.suppress(TimeoutError):
                        if not slow.recv(65536):
                            break
                    if sent.endswith("\r\n\r\n"):
                        slow.sendall(b"x")
        ask(lasting, id=1, op="x")
        assert told(lasting)[0]["id"] == 1


# the command


def test_the_command_prints_the_link_that_opens_the_page(explorable, capsys, monkeypatch, tmp_path):
    from reparam.cli import main

    servers, own = [], launch.server_of
    monkeypatch.setattr(launch, "server_of", lambda guard: servers.append((guard, own(guard))) or servers[0][1])
    opened = []

    def open_page(address):
        file = Path(address.removeprefix("file://"))
        opened.append((address, file.read_text(), stat.S_IMODE(file.stat().st_mode)))

    monkeypatch.setattr(launch.webbrowser, "open", open_page)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("HOME", str(tmp_path))
    code = []
    folder = str(explorable())
    thread = threading.Thread(target=lambda: code.append(main(["explore", folder, "--most", "20", "--device", "cpu"])))
    thread.start()
    deadline = time.monotonic() + SECONDS
    while not (servers and servers[0][1].started) and time.monotonic() < deadline and thread.is_alive():
        time.sleep(0.05)
    guard, server = servers[0]
    try:
        page_of = guard.link.partition(str(guard.port))[2]
        assert raw(guard.port, f"GET {page_of} HTTP/1.1\r\nHost: 127.0.0.1:{guard.port}\r\n\r\n")[0] == 303
        with connect(f"ws://127.0.0.1:{guard.port}/ws", origin=f"http://127.0.0.1:{guard.port}",
                     additional_headers={"Cookie": f"{guard.cookie}={guard.token}"}) as socket:
            ask(socket, id=1, op="hello")
            assert told(socket)[0]["points"]["n"] == 20
    finally:
        server.should_exit = True
        thread.join(SECONDS)
    (address, door, mode), = opened
    assert code == [0] and guard.link in capsys.readouterr().out
    assert guard.token not in address, "others on the machine see what a browser is started with"
    assert f'content="0; url={guard.link}"' in door and mode == 0o600 and not list(tmp_path.iterdir())


def test_the_door_is_closed_after_a_while(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(launch, "STANDS_OPEN", 0.05)
    with launch.door_to("http://127.0.0.1:1/?token=t") as door:
        deadline = time.monotonic() + SECONDS
        while door.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.mark.parametrize(("arguments", "said"), [
    (["nowhere"], "nowhere"), (["nowhere", "--port", "70000"], "--port"), (["nowhere", "--most", "0"], "--most"),
    ([], "RUN")])
def test_the_command_refuses_in_a_line(arguments, said, capsys):
    from reparam.cli import main

    assert main(["explore", *arguments]) in (1, 2)
    assert said.lower() in capsys.readouterr().err.lower()


def test_what_answers_is_closed_at_the_end(fake, monkeypatch):
    monkeypatch.setattr(launch.Server, "run", lambda _, sockets: None)
    launch.serve(fake, 0, lambda link: None, open_page=False)
    assert fake.gate.is_set()


def test_a_port_that_is_taken_is_told():
    from reparam.explorer.launch import listening_on

    with contextlib.closing(listening_on(0)) as taken, pytest.raises(ReparamError, match="--port"):
        listening_on(taken.getsockname()[1])


def test_a_missing_package_is_told(monkeypatch, capsys):
    from reparam.cli import main, watch

    monkeypatch.setattr(watch, "find_spec", lambda name: None if name == "uvicorn" else object())
    assert main(["explore", "run"]) == 2
    assert 'pip install "reparam[explore]"' in capsys.readouterr().err
