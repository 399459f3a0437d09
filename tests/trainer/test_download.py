"""Downloads from a real server on the loopback, which breaks off, forgets ranges, lies about lengths, changes files."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import stat
import threading
import zipfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import run
from types import SimpleNamespace
from urllib.request import ProxyHandler, build_opener

import pytest

from common import interrupted
from edge_asd.errors import DataError, DownloadError, EdgeAsdError, StorageError, UsageError
from edge_asd.lock import hold
from edge_asd_trainer import data_commands
from edge_asd_trainer.data import archive as archives
from edge_asd_trainer.data import dcase2022, machines
from edge_asd_trainer.data import download as downloads
from edge_asd_trainer.data.download import Patience, fetch

FAN = "/records/6355122/files/dev_fan.zip"
THREE_BLOCKS = 3 * downloads.BLOCK
PATIENCE = Patience(connecting=2, silence=2)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@dataclass(frozen=True)
class Reply:
    """How one request is answered; as it is here, by a good server."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    knows_ranges: bool = True
    shift: int = 0
    breaks_after: int | None = None
    stalls: bool = False


class Server(ThreadingHTTPServer):
    """Serves `files`, by `plan` as long as there is one and then by `usual`; keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.plan: deque[Reply] = deque()
        self.usual = Reply()
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.go_on = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has gone is none."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nobody reads along."""

    def do_GET(self) -> None:
        self.server.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        reply = self.server.plan.popleft() if self.server.plan else self.server.usual
        content = self.server.files.get(self.path.partition("?")[0])
        if content is None or reply.status:
            return self.send(reply.status or 404, {**reply.headers, "Content-Length": "0"}, b"", reply)
        tag = f'"{hashlib.sha1(content, usedforsecurity=False).hexdigest()}"'
        headers = {"ETag": tag, "Content-Length": str(len(content))}
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted and reply.knows_ranges and self.headers.get("If-Range", tag) == tag:
            start = int(wanted[1]) + reply.shift
            headers["Content-Length"] = str(len(content) - start)
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            return self.send(206, {**headers, **reply.headers}, content[start:], reply)
        return self.send(200, {**headers, **reply.headers}, content, reply)

    def send(self, status: int, headers: dict[str, str], body: bytes, reply: Reply) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name not in reply.without:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: reply.breaks_after])
        if reply.stalls:
            self.wfile.flush()
            self.server.go_on.wait(30)


class Proxy(Handler):
    """A forward proxy: fetches whole addresses from the one server there is, and knows no way through a tunnel."""

    def do_GET(self) -> None:
        self.server.asked.append((self.path, {}))
        direct = build_opener(ProxyHandler({}))
        with direct.open(self.server.files["to"].decode() + "/" + self.path.split("/", 3)[3]) as answer:
            self.send(200, {"Content-Length": answer.headers["Content-Length"]}, answer.read(), Reply())

    def do_CONNECT(self) -> None:
        self.server.asked.append((f"CONNECT {self.path}", {}))
        self.send(502, {"Content-Length": "0"}, b"", Reply())


@contextmanager
def serving(handler: type[Handler] = Handler) -> Iterator[Server]:
    server = Server()
    server.RequestHandlerClass = handler
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as one:
        yield one


def zipped(entries: dict[str, bytes], change: Callable[[zipfile.ZipFile], object] = lambda _: None) -> bytes:
    """A zip of these entries; `change` may still falsify the list of them."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in entries.items():
            file.writestr(name, data)
        change(file)
    return content.getvalue()


def clips(machine: str, *folders: str) -> dict[str, bytes]:
    """What a published archive holds; the sound is none, for nobody listens here."""
    entries = {
        f"{machine}/{folder}/section_0{n}_0000.wav": f"{machine} {folder} {n}".encode() * 500
        for folder in folders
        for n in range(3)
    }
    tables = {f"{machine}/attributes_00.csv": b"file_name,d1p\n"} if "train" in folders else {}
    return {f"{machine}/": b"", **entries, **tables, "__MACOSX/._fan": b"", f"{machine}/.DS_Store": b"-"}


def publish(server: Server, *machine_types: str) -> None:
    for machine in machine_types:
        server.files |= {
            f"/records/6355122/files/dev_{machine}.zip": zipped(clips(machine, "train", "test")),
            f"/records/6462969/files/eval_data_{machine}_train.zip": zipped(clips(machine, "train")),
            f"/records/6586456/files/eval_data_{machine}_test.zip": zipped(clips(machine, "test")),
        }


def files_in(folder: Path) -> list[str]:
    found = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if not name.endswith(".download.lock"))


def download(server: Server, out: Path, half: str = "dev", **options: bool) -> None:
    dcase2022.download(out, dcase2022.sources(["fan"], half), base=server.url, transfer=once, **options)


def once(url: str, path: Path) -> None:
    fetch(url, path, patience=replace(PATIENCE, tries=1))


class Pauses(list[float]):
    """Instead of sleeping: how long one would have."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


# --- the whole


def test_both_halves_lie_where_training_looks_and_are_fetched_once(server: Server, tmp_path: Path) -> None:
    publish(server, "fan", "valve")
    for _ in range(2):
        dcase2022.download(tmp_path, dcase2022.sources(["valve", "fan"]), base=server.url)
        assert len(server.asked) == 6
    own = [f"{folder}/section_0{n}_0000.wav" for folder in ("test", "train") for n in range(3)]
    assert files_in(tmp_path) == sorted(
        ["checksums.sha256"]
        + [
            f"{half}_data/{m}/{f}"
            for half in ("dev", "eval")
            for m in ("fan", "valve")
            for f in ["attributes_00.csv", *own]
        ]
    )
    assert machines(tmp_path) == ["fan", "valve"]
    clip = tmp_path / "eval_data/fan/test/section_01_0000.wav"
    assert clip.read_bytes() == b"fan test 1" * 500
    assert stat.S_IMODE(clip.stat().st_mode) & 0o111 == 0
    assert server.asked[0][0] == f"{FAN}?download=1"
    assert server.asked[0][1]["user-agent"].startswith("edge-asd/")  # Zenodo refuses those that don't say who they are
    assert server.asked[0][1]["accept-encoding"] == "identity"
    assert not (tmp_path / "archives").exists()


def test_machines_and_halves_can_be_chosen() -> None:
    assert len(dcase2022.sources()) == 21
    assert [source.name for source in dcase2022.sources(["fan"], "eval")] == [
        "eval_data_fan_train.zip",
        "eval_data_fan_test.zip",
    ]
    with pytest.raises(UsageError, match=r"--machine pump: .*it has ToyCar, ToyTrain, bearing"):
        dcase2022.sources(["pump"])


def test_kept_archives_are_unpacked_again_without_the_network(server: Server, tmp_path: Path) -> None:
    publish(server, "fan")
    download(server, tmp_path, keep_archives=True)
    [line] = (tmp_path / "checksums.sha256").read_text().splitlines()
    kept = tmp_path / "archives/dev_fan.zip"
    assert line == f"{hashlib.sha256(kept.read_bytes()).hexdigest()}  archives/dev_fan.zip"
    shutil.rmtree(tmp_path / "dev_data")
    server.files.clear()
    download(server, tmp_path, keep_archives=True)
    assert len(files_in(tmp_path / "dev_data/fan")) == 7

    kept.write_bytes(zipped({**clips("fan", "train", "test"), "fan/train/other.wav": b"other"}))
    shutil.rmtree(tmp_path / "dev_data")
    with pytest.raises(DownloadError, match="is not what it was at the first download"):
        download(server, tmp_path)


def test_what_differs_from_the_first_download_is_refused(server: Server, tmp_path: Path) -> None:
    publish(server, "fan")
    download(server, tmp_path)
    shutil.rmtree(tmp_path / "dev_data")
    server.files[FAN] = zipped({**clips("fan", "train", "test"), "fan/test/more.wav": b"more"})
    with pytest.raises(DownloadError, match=r"not what it was at the first download .* remove its line"):
        download(server, tmp_path)
    assert files_in(tmp_path) == ["archives/dev_fan.zip", "checksums.sha256"]
    (tmp_path / "checksums.sha256").write_text("")
    download(server, tmp_path)
    assert (tmp_path / "dev_data/fan/test/more.wav").is_file()


def test_a_file_of_checksums_that_is_none_is_refused(server: Server, tmp_path: Path) -> None:
    (tmp_path / "checksums.sha256").write_text("a" * 64 + "  archives/x.zip\nabc  archives/dev_fan.zip\n")
    with pytest.raises(DataError, match=r"line 2 is 'abc  archives/dev_fan.zip'; expected 64 digits"):
        download(server, tmp_path)
    (tmp_path / "checksums.sha256").write_bytes(b"a" * (1 << 21))
    with pytest.raises(DataError, match="larger than 1 MiB"):
        download(server, tmp_path)
    assert not server.asked


def test_what_stands_there_stays(server: Server, tmp_path: Path) -> None:
    """A machine of which the test folder was deleted, and a table was edited: only what is missing comes."""
    publish(server, "fan")
    own = tmp_path / "dev_data/fan/train/own.wav"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"own")
    (tmp_path / "dev_data/fan/attributes_00.csv").write_text("own")
    (tmp_path / ".unpacking/fan/train").mkdir(parents=True)  # of a time that was killed
    (tmp_path / ".unpacking/fan/train/section_00_0000.wav").touch()
    download(server, tmp_path)
    assert files_in(tmp_path / "dev_data/fan/train") == ["own.wav"]
    assert (tmp_path / "dev_data/fan/attributes_00.csv").read_text() == "own"
    assert len(files_in(tmp_path / "dev_data/fan/test")) == 3
    assert not (tmp_path / ".unpacking").exists()


def test_one_download_at_a_time(server: Server, tmp_path: Path) -> None:
    with (
        hold(tmp_path / ".download.lock", lambda: UsageError("")),
        pytest.raises(UsageError, match=r"another .* at work"),
    ):
        download(server, tmp_path)


def test_no_room_is_said_before_it_is_filled(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(server, "fan")
    size = len(server.files[FAN])
    for free, asked, says in (
        (2 * size - 1, 1, "for dev_fan.zip and what it unpacks to"),
        (2 * size, 2, "to unpack dev"),
    ):
        usage = SimpleNamespace(free=free + (64 << 20))
        monkeypatch.setattr(shutil, "disk_usage", lambda _, usage=usage: usage)
        with pytest.raises(StorageError, match=says):
            download(server, tmp_path)
        assert len(server.asked) == asked
        assert not (tmp_path / "dev_data").exists()


# --- the transfer


@pytest.fixture
def file(server: Server, tmp_path: Path) -> Path:
    server.files[FAN] = os.urandom(400_000)
    return tmp_path / "archives" / "dev_fan.zip"


def test_a_broken_transfer_goes_on_where_it_ended(server: Server, file: Path) -> None:
    server.plan += [Reply(breaks_after=THREE_BLOCKS), Reply(breaks_after=THREE_BLOCKS)]
    pauses = Pauses()
    fetch(server.url + FAN, file, patience=PATIENCE, sleep=pauses)
    assert file.read_bytes() == server.files[FAN]
    assert [headers.get("range") for _, headers in server.asked] == [
        None,
        f"bytes={THREE_BLOCKS}-",
        f"bytes={2 * THREE_BLOCKS}-",
    ]
    assert server.asked[1][1]["if-range"].startswith('"')
    assert pauses == [1, 2]
    assert files_in(file.parent) == ["dev_fan.zip"]


@pytest.mark.parametrize(
    "second",
    [
        Reply(knows_ranges=False),
        Reply(shift=-10),
        Reply(headers={"Content-Range": f"bytes {THREE_BLOCKS}-399999/400000", "ETag": '"another"'}),
        Reply(headers={"Content-Range": f"bytes {THREE_BLOCKS}-500000/500001"}),
        Reply(without=("Content-Range",)),
        Reply(status=416),
    ],
    ids=["ignores Range", "another part", "another version", "another length", "no Content-Range", "416"],
)
def test_a_server_that_cant_resume_starts_over_cleanly(
    server: Server, file: Path, second: Reply, capsys: pytest.CaptureFixture[str]
) -> None:
    server.plan += [Reply(breaks_after=THREE_BLOCKS), second]
    fetch(server.url + FAN, file, patience=PATIENCE, sleep=Pauses())
    assert file.read_bytes() == server.files[FAN]
    assert server.asked[1][1]["range"] == f"bytes={THREE_BLOCKS}-"
    assert ("starting over" in capsys.readouterr().err) == second.knows_ranges


def test_a_file_that_changed_meanwhile_comes_whole(server: Server, file: Path) -> None:
    server.plan.append(Reply(breaks_after=THREE_BLOCKS))
    with pytest.raises(DownloadError, match=r"1 tries brought .*\(the connection broke off\); 0\.2 MiB are kept"):
        once(server.url + FAN, file)
    server.files[FAN] = os.urandom(300_000)
    once(server.url + FAN, file)
    assert file.read_bytes() == server.files[FAN]


def test_a_part_that_was_whole_only_takes_its_name(server: Server, file: Path) -> None:
    """Killed between the last byte and the renaming."""
    server.plan.append(Reply(breaks_after=THREE_BLOCKS))
    with pytest.raises(DownloadError):
        once(server.url + FAN, file)
    (file.parent / "dev_fan.zip.part").write_bytes(server.files[FAN])
    once(server.url + FAN, file)
    assert file.read_bytes() == server.files[FAN]
    assert len(server.asked) == 1


def test_a_part_of_another_address_or_without_a_note_is_not_gone_on_with(server: Server, file: Path) -> None:
    for spoil in ("note", "address"):
        server.plan.append(Reply(breaks_after=THREE_BLOCKS))
        with pytest.raises(DownloadError):
            once(server.url + FAN, file)
        if spoil == "note":
            (file.parent / "dev_fan.zip.part.json").write_text("{")
        once(server.url + FAN + ("" if spoil == "note" else "?download=1"), file)
        assert file.read_bytes() == server.files[FAN]
        assert "range" not in server.asked[-1][1]


def test_without_a_validator_length_alone_must_agree(server: Server, file: Path) -> None:
    server.usual = Reply(without=("ETag",))
    server.plan.append(replace(server.usual, breaks_after=THREE_BLOCKS))
    fetch(server.url + FAN, file, patience=PATIENCE, sleep=Pauses())
    assert file.read_bytes() == server.files[FAN]
    assert "if-range" not in server.asked[1][1]
    assert server.asked[1][1]["range"] == f"bytes={THREE_BLOCKS}-"


def test_tries_are_bounded_and_pauses_grow(server: Server, file: Path) -> None:
    server.usual = Reply(status=503)
    server.plan += [Reply(breaks_after=THREE_BLOCKS), Reply(status=429, headers={"Retry-After": "59"})]
    pauses = Pauses()
    with pytest.raises(
        DownloadError,
        match=r"6 tries brought little or nothing \(the server answers 503 .*0\.2 MiB are kept.*HTTPS_PROXY",
    ):
        fetch(server.url + FAN, file, patience=PATIENCE, sleep=pauses)
    assert pauses == [1, 59, 4, 8, 16]
    assert len(server.asked) == 6
    assert (file.parent / "dev_fan.zip.part").stat().st_size == THREE_BLOCKS


def test_progress_renews_the_tries_but_not_the_same_bytes_again(server: Server, file: Path) -> None:
    server.files[FAN] = os.urandom(5 << 20)
    server.usual = Reply(breaks_after=(1 << 20) + 100_000)
    patience = replace(PATIENCE, tries=2)
    fetch(server.url + FAN, file, patience=patience, sleep=Pauses())
    assert file.read_bytes() == server.files[FAN]
    assert len(server.asked) == 5

    file.unlink()
    server.usual = replace(server.usual, knows_ranges=False)
    with pytest.raises(DownloadError, match="2 tries brought"):
        fetch(server.url + FAN, file, patience=patience, sleep=Pauses())
    assert len(server.asked) == 5 + 2

    server.plan += [server.usual, Reply(breaks_after=0, knows_ranges=False)] * 9
    with pytest.raises(DownloadError, match="3 tries brought"):
        fetch(server.url + FAN, file, patience=replace(patience, tries=3), sleep=Pauses())
    assert len(server.asked) == 5 + 2 + 3


def test_a_silent_server_is_given_up(server: Server, file: Path) -> None:
    server.usual = Reply(breaks_after=1000, stalls=True)
    with pytest.raises(DownloadError, match="Read timed out"):
        fetch(server.url + FAN, file, patience=Patience(tries=1, silence=0.2))


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (Reply(status=404), "the server answers 404 .*expected the file; look whether the address opens"),
        (Reply(status=403), "the server answers 403"),
        (Reply(without=("Content-Length",)), "doesn't say how long"),
        (
            Reply(headers={"Content-Length": str(1 << 60)}),
            "announces 1152921504606846976 bytes, expected at most 16 GiB",
        ),
        (Reply(headers={"Content-Length": "9" * 5000}), "announces 9999"),
        (Reply(headers={"Content-Encoding": "gzip"}), "comes encoded"),
        (Reply(headers={"ETag": '"md5:00000000000000000000000000000000"'}), "came damaged .* was thrown away"),
        (Reply(headers={"Content-MD5": "0" * 32}), "came damaged"),
        (Reply(status=302, headers={"Location": "/records/6355122/files/dev_fan.zip"}), "can't be asked for"),
    ],
)
def test_what_no_further_try_would_mend_is_refused_at_once(server: Server, file: Path, reply: Reply, says: str) -> None:
    server.usual = reply
    with pytest.raises(DownloadError, match=says):
        fetch(server.url + FAN, file, patience=PATIENCE, sleep=Pauses())
    assert len(server.asked) <= 1 + downloads.MOST_REDIRECTS
    assert not file.exists()


def test_zenodos_own_md5_is_held_against_what_came(server: Server, file: Path) -> None:
    digest = hashlib.md5(server.files[FAN], usedforsecurity=False).hexdigest()
    server.usual = Reply(headers={"ETag": f'"md5:{digest}"', "Content-MD5": digest})
    once(server.url + FAN, file)
    assert file.read_bytes() == server.files[FAN]


def test_more_than_any_archive_has_is_not_taken(server: Server, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "LARGEST_FILE", 100_000)
    chunks = b"".join(b"%x\r\n%s\r\n" % (50_000, b"x" * 50_000) for _ in range(8)) + b"0\r\n\r\n"
    server.files[FAN] = chunks
    server.usual = Reply(headers={"Transfer-Encoding": "chunked"}, without=("Content-Length",))
    with pytest.raises(DownloadError, match="sends more than"):
        once(server.url + FAN, file)
    assert files_in(file.parent) == []
    monkeypatch.setattr(downloads, "LARGEST_FILE", 400_000)
    once(server.url + FAN, file)
    assert file.read_bytes() == b"x" * 400_000


def test_nobody_there_is_said(file: Path) -> None:
    with serving() as gone:
        url = gone.url
    with pytest.raises(DownloadError, match=r"1 tries brought little or nothing \(.*[Cc]onnection refused\)"):
        once(url + FAN, file)


def test_encrypted_once_is_encrypted_throughout() -> None:
    """The loopback has no certificate, so what `requests` would tell is put together here."""
    hops = [SimpleNamespace(url="https://zenodo.org/a"), SimpleNamespace(url="http://elsewhere/a")]
    answer = SimpleNamespace(url="https://elsewhere/a", history=hops)
    with pytest.raises(DownloadError, match="isn't encrypted"):
        downloads._refuse_downgrade("https://zenodo.org/a", answer)  # type: ignore[arg-type]
    downloads._refuse_downgrade("http://mirror/a", answer)  # type: ignore[arg-type]


# --- the way there


def test_the_environments_proxy_is_the_way(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither host exists: only the proxy can have fetched it, or been asked for the tunnel."""
    publish(server, "fan")
    with serving(Proxy) as proxy:
        proxy.files["to"] = server.url.encode()
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        fan = dcase2022.sources(["fan"], "dev")
        dcase2022.download(tmp_path, fan, base="http://mirror.invalid", transfer=once)
        assert len(files_in(tmp_path / "dev_data/fan")) == 7
        with pytest.raises(DownloadError, match=r"1 tries brought little or nothing \(502 Bad Gateway\)"):
            dcase2022.download(tmp_path / "other", fan, base="https://zenodo.invalid", transfer=once)
        assert [asked for asked, _ in proxy.asked] == [
            "http://mirror.invalid/records/6355122/files/dev_fan.zip?download=1",
            "CONNECT zenodo.invalid:443",
        ]


def test_ctrl_c_keeps_what_came(server: Server, tmp_path: Path, edge_asd: list[str]) -> None:
    server.files[FAN] = zipped({**clips("fan", "train", "test"), "fan/test/section_00_0009.wav": os.urandom(300_000)})
    server.plan.append(Reply(breaks_after=THREE_BLOCKS + 100, stalls=True))
    command = [*edge_asd, "data", "download", "dcase2022", str(tmp_path), "--machine", "fan", "--half", "dev"]
    command += ["--from", server.url]
    part = tmp_path / "archives/dev_fan.zip.part"
    done = interrupted(command, lambda: part.is_file() and part.stat().st_size == THREE_BLOCKS)
    assert done.returncode == 130
    assert b"dev_fan.zip: 0.2 MiB are kept; the same command goes on from there" in done.stderr
    assert b"Traceback" not in done.stderr
    again = run(command, capture_output=True, text=True, check=True)
    assert again.stdout == f"{tmp_path}: all that was asked for of dcase2022 is there.\n"
    assert server.asked[-1][1]["range"] == f"bytes={THREE_BLOCKS}-"
    assert len(files_in(tmp_path / "dev_data/fan")) == 8


def test_the_command_refuses_in_one_line(server: Server, tmp_path: Path, edge_asd: list[str]) -> None:
    command = [*edge_asd, "data", "download", "dcase2022", str(tmp_path), "--from", server.url, "--machine", "fan"]
    done = run(command, capture_output=True, text=True)
    assert done.returncode == 11
    assert re.fullmatch(r"edge-asd: http://.*dev_fan.zip.*: the server answers 404 Not Found, .*\n", done.stderr)


@pytest.mark.parametrize("address", ["zenodo.org", "ftp://zenodo.org", "http://", ""])
def test_what_is_no_address_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(UsageError, match=f"--from {address}: not an address to download from"):
        data_commands.download(data_commands.DataSet.DCASE2022, tmp_path, source=address)


# --- the archive


def entry(name: str) -> Callable[[zipfile.ZipFile], object]:
    return lambda file: file.writestr(name, b"x" * 100)


def setting(**values: object) -> Callable[[zipfile.ZipFile], object]:
    """Falsify the list of entries: the second one's."""

    def change(file: zipfile.ZipFile) -> None:
        for name, value in values.items():
            setattr(file.infolist()[1], name, value)

    return change


def linked(file: zipfile.ZipFile) -> None:
    link = zipfile.ZipInfo("fan/train/link.wav")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    file.writestr(link, "/etc/passwd")


def lzma(file: zipfile.ZipFile) -> None:
    file.writestr("fan/train/x.wav", b"x", zipfile.ZIP_LZMA)


WHOLE = clips("fan", "train", "test")
FALSE = {
    "slip": (zipped(WHOLE, entry("../slipped.wav")), "a path that leads elsewhere"),
    "slip within": (zipped(WHOLE, entry("fan/train/../../../slipped.wav")), "a path that leads elsewhere"),
    "absolute": (zipped(WHOLE, entry("/tmp/slipped.wav")), "a path that leads elsewhere"),  # noqa: S108
    "backslash": (zipped(WHOLE, entry("fan\\train\\slipped.wav")), "a path that leads elsewhere"),
    "long name": (zipped(WHOLE, entry(f"fan/train/{'x' * 300}.wav")), "a name that is too long"),
    "link": (zipped(WHOLE, linked), "a link or a device"),
    "lzma": (zipped(WHOLE, lzma), "compressed by method 14"),
    "encrypted": (zipped(WHOLE, setting(flag_bits=1)), "which is encrypted"),
    "huge": (zipped(WHOLE, setting(file_size=1 << 40)), "which claims 1099511627776 bytes, expected at most 67108864"),
    "overlap": (zipped(WHOLE, setting(header_offset=0)), "reaches into what follows"),
    "smaller than it is": (zipped(WHOLE, setting(file_size=10)), "is damaged at 'fan/train/section_00_0000.wav'"),
    "CRC": (zipped(WHOLE, setting(CRC=7)), "is damaged at 'fan/train/section_00_0000.wav' .Bad CRC"),
    "other machine": (zipped(clips("valve", "train", "test")), "holds no clip in fan/train"),
    "no test": (zipped(clips("fan", "train")), "holds no clip in fan/test"),
    "truncated": (zipped(WHOLE)[:-100], "is not a whole zip"),
    "no zip": (b"<html>Please log in</html>", "is not a whole zip"),
    "empty": (b"", "is not a whole zip"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("content", "says"), FALSE.values(), ids=FALSE)
def test_an_archive_that_is_not_what_it_should_be_leaves_nothing(
    server: Server, tmp_path: Path, content: bytes, says: str
) -> None:
    out = tmp_path / "out"
    server.files[FAN] = content
    with pytest.raises(DownloadError, match=f"dev_fan.zip: .*{says}.*nothing of it was unpacked"):
        download(server, out)
    assert files_in(tmp_path) == ["out/archives/dev_fan.zip"]
    assert not (out / ".unpacking").exists()


def test_an_entry_twice_too_many_and_too_much_in_all(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        server.files[FAN] = zipped(WHOLE, entry("fan/test/section_00_0000.wav"))
    with pytest.raises(DownloadError, match="two entries of one name"):
        download(server, tmp_path)
    (tmp_path / "archives/dev_fan.zip").write_bytes(zipped(WHOLE))
    for name, limit, says in (
        ("MOST_ENTRIES", 5, "holds 10 entries, expected at most 5"),
        ("LARGEST_IN_ALL", 1000, "claims 0 GiB unpacked"),
        ("LARGEST_DIRECTORY", 100, "list of entries is larger"),
    ):
        with monkeypatch.context() as changed:
            changed.setattr(archives, name, limit)
            with pytest.raises(DownloadError, match=says):
                download(server, tmp_path)


def test_no_mutilated_archive_is_anything_but_refused_or_whole(tmp_path: Path) -> None:
    """Bytes changed at random, the list of entries in particular: an error of ours, or all clips as they were."""
    import random

    dice, good = random.Random(0), zipped(clips("fan", "test"))
    path, staging = tmp_path / "x.zip", tmp_path / "staging"
    refused = 0
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(os, "sync", lambda: None)
        for _ in range(150):
            bad = bytearray(good)
            for _ in range(dice.randint(1, 3)):
                bad[dice.randrange(len(bad))] = dice.randrange(256)
            path.write_bytes(bad)
            try:
                with archives.unpacked(archives.Archive(path, "fan", ("test",)), staging) as folder:
                    assert all(one.read_bytes() in clips("fan", "test").values() for one in folder.glob("test/*"))
            except EdgeAsdError:
                refused += 1
            assert list(tmp_path.iterdir()) == [path]
    assert refused > 40


def test_a_disk_that_fills_up_leaves_nothing(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(server, "fan")
    opened = Path.open

    def full(self: Path, mode: str = "r", *args: object, **kwargs: object) -> object:
        if mode == "xb" and self.name.startswith("section_02"):
            raise OSError(28, "No space left on device")
        return opened(self, mode, *args, **kwargs)  # type: ignore[call-overload]

    with monkeypatch.context() as disk:
        disk.setattr(Path, "open", full)
        with pytest.raises(StorageError, match="No space left on device"):
            download(server, tmp_path)
    assert files_in(tmp_path) == ["archives/dev_fan.zip"]
    download(server, tmp_path)
    assert len(server.asked) == 1  # the archive had come
