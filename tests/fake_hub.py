"""A hub of data sets on this machine: it speaks the hub's protocol over HTTP, and misbehaves when it is told to.

`hub.publish(repo, files)` makes a commit on `main`; `hub.next(name, Answer(...), ...)` says how the next requests for a
file's content are answered, one each, before all goes well again. `hub.requests` is what was asked for. As on the real
hub, large files have their sha256 as tag and are sent by another place, to which `resolve` redirects.
"""

import contextlib
import hashlib
import http.server
import io
import json
import re
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import huggingface_hub.constants
import huggingface_hub.file_download
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub.utils import close_session

from nanochat.running.json_file import write_json
from nanochat_plugins.sources.hub_checkout import Checkout
from nanochat_plugins.sources.hub_manifest import FORMAT, HubFile, Manifest, manifest_path

SMALL = 64
"""Files below are no large files: they have a git digest only. Bytes."""
PAGE = 3
"""Files of one page of a listing."""


@attrs.frozen(kw_only=True)
class Answer:
    """How a request for a file's content is answered."""

    status: int | None = None
    """An error instead of the content."""
    drop_after: int | None = None
    """Bytes that are sent before the connection breaks."""
    ignore_range: bool = False
    """The whole file, 200, whatever part was asked for."""
    shift_range: int = 0
    """206 with a part that begins so many bytes off."""
    damage: bool = False
    """Other bytes, as many."""
    surplus: bytes = b""
    """Sent behind the content, without a length that would tell."""
    etag: str | None = None
    pause: float = 0.0
    """Seconds between one half and the other."""


@attrs.frozen
class Request:
    method: str
    name: str
    """The last part of a file's path, or what was asked of the API."""
    range: str | None
    agent: str


def parquet(documents: Sequence[str | None], *, row_group_size: int = 7) -> bytes:
    """A file with these documents in its column `text`."""
    stream = io.BytesIO()
    pq.write_table(pa.table({"text": pa.array(documents, pa.string())}), stream, row_group_size=row_group_size)
    return stream.getvalue()


def table(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """A parquet file of these rows."""
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), stream)
    return stream.getvalue()


def git_digest(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class FakeHub:
    """Repositories in memory and a server's address."""

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, Mapping[str, bytes]]] = defaultdict(dict)
        """repo → commit → name → content; the newest commit is `main`."""
        self.requests: list[Request] = []
        self.api_failures: deque[int] = deque()
        """Statuses of the next answers of the API."""
        self.endpoint = ""
        self._answers: dict[str, deque[Answer]] = defaultdict(deque)

    def publish(self, repo: str, files: Mapping[str, bytes]) -> str:
        """A commit with these files alone; its name."""
        commit = hashlib.sha1(f"{repo}{len(self.commits[repo])}".encode()).hexdigest()
        self.commits[repo][commit] = dict(files)
        return commit

    def next(self, name: str, *answers: Answer) -> None:
        self._answers[name].extend(answers)

    def behave(self) -> None:
        """Forget what was to go wrong."""
        self._answers.clear()

    def answer(self, name: str) -> Answer:
        waiting = self._answers[name]
        return waiting.popleft() if waiting else Answer()

    def fetched(self) -> list[str]:
        """The files whose content was asked for, in order."""
        return [request.name for request in self.requests if request.method == "GET" and "api/" not in request.name]

    def find(self, repo: str, revision: str) -> tuple[str, Mapping[str, bytes]] | None:
        commits = self.commits.get(repo, {})
        if revision == "main" and commits:
            return list(commits.items())[-1]
        return (revision, commits[revision]) if revision in commits else None


class _Door(http.server.BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path, agent = self.path.partition("?")[0], self.headers.get("User-Agent", "")
        name = path.removeprefix("/") if path.startswith("/api/") else path.rpartition("/")[2]
        if "/resolve/" not in path:  # the redirect is no request of its own
            self.hub.requests.append(Request(self.command, name, self.headers.get("Range"), agent))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if found := re.fullmatch("/api/datasets/(.+?)/(revision|tree)/([^/]+)", path):
                self._api(*found.groups())
            elif found := re.fullmatch("/datasets/(.+?)/resolve/([^/]+)/(.+)", path):
                self._resolve(*found.groups())
            elif found := re.fullmatch("/cdn/([^/]+/[^/]+)/([^/]+)/(.+)", path):
                self._content(*found.groups())
            else:
                self._refuse(404, "EntryNotFound")

    def _api(self, repo: str, what: str, revision: str) -> None:
        if self.hub.api_failures:
            self._refuse(self.hub.api_failures.popleft())
            return
        if repo not in self.hub.commits:
            self._refuse(401, "RepoNotFound")
            return
        found = self.hub.find(repo, revision)
        if found is None:
            self._refuse(404, "RevisionNotFound")
            return
        commit, files = found
        if what == "revision":
            self._json({"id": repo, "sha": commit, "siblings": [{"rfilename": name} for name in files]})
            return
        first = int(re.search("cursor=([0-9]+)", self.path + "&cursor=0").group(1))  # type: ignore[union-attr]
        rows = [self._row(name, files[name]) for name in sorted(files)]
        more = f"<{self.hub.endpoint}{self.path.partition('?')[0]}?recursive=True&cursor={first + PAGE}>"
        headers = {"Link": f'{more}; rel="next"'} if first + PAGE < len(rows) else {}
        self._json(rows[first : first + PAGE], headers)

    def _row(self, name: str, content: bytes) -> dict[str, Any]:
        row: dict[str, Any] = {"type": "file", "path": name, "size": len(content), "oid": git_digest(content)}
        if len(content) >= SMALL:
            sha256 = hashlib.sha256(content).hexdigest()
            row["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 134}
        return row

    def _resolve(self, repo: str, revision: str, name: str) -> None:
        found = self.hub.find(repo, revision)
        if found is None or name not in found[1]:
            self._refuse(404, "EntryNotFound")
            return
        self.send_response(302)
        elsewhere = self.hub.endpoint.replace("127.0.0.1", "localhost")  # to a client, another host
        self.send_header("Location", f"{elsewhere}/cdn/{repo}/{found[0]}/{name}")
        self.send_header("X-Repo-Commit", found[0])
        self.send_header("X-Linked-Etag", f'"{hashlib.sha256(found[1][name]).hexdigest()}"')
        self.send_header("X-Linked-Size", str(len(found[1][name])))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _content(self, repo: str, commit: str, name: str) -> None:
        content, answer = self.hub.commits[repo][commit][name], self.hub.answer(name.rpartition("/")[2])
        if answer.status is not None:
            self._refuse(answer.status)
            return
        etag = answer.etag or f'"{hashlib.sha256(content).hexdigest()}"'
        if answer.damage:
            content = bytes(byte ^ 1 for byte in content)
        start = 0
        if (wanted := self.headers.get("Range")) and not answer.ignore_range:
            start = int(wanted.removeprefix("bytes=").rstrip("-")) + answer.shift_range
            if start >= len(content):
                self._refuse(416)
                return
        self.send_response(206 if start or (wanted and not answer.ignore_range) else 200)
        self.send_header("ETag", etag)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if answer.surplus:
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self._send(content[start:] + answer.surplus, answer)

    def _send(self, body: bytes, answer: Answer) -> None:
        if self.command == "HEAD":
            return
        if answer.drop_after is not None:
            self.wfile.write(body[: answer.drop_after])
            self.close_connection = True
            return
        self.wfile.write(body[: len(body) // 2])
        self.wfile.flush()
        time.sleep(answer.pause)
        self.wfile.write(body[len(body) // 2 :])
        self.close_connection = bool(answer.surplus)

    def _json(self, value: Any, headers: Mapping[str, str] | None = None) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, status: int, code: str = "") -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


def lay_down(repo: str, files: Mapping[str, bytes]) -> None:
    """A data set as if it had been fetched: its manifest and all its files, without any hub."""
    described = [
        HubFile(name, len(content), f"sha256:{hashlib.sha256(content).hexdigest()}") for name, content in files.items()
    ]
    manifest = Manifest(repo=repo, revision="main", commit="0" * 40, files=described)
    manifest.folder.mkdir(parents=True)
    write_json(manifest_path(repo, "main"), {"format": FORMAT, **attrs.asdict(manifest)})
    for file in described:
        place = Checkout(manifest).place(file)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(files[file.name])


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is nothing to tell."""


@contextlib.contextmanager
def serving() -> Iterator[FakeHub]:
    """A hub that answers at `hub.endpoint`; a process finds it by HF_ENDPOINT."""
    hub = FakeHub()
    server = _Server(("127.0.0.1", 0), type("Door", (_Door,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def in_this_process(hub: FakeHub) -> Iterator[None]:
    """The hub's client asks this hub: it reads its address when it is imported, which was long ago."""
    constants = huggingface_hub.constants
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", hub.endpoint)
        template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        for module in (constants, huggingface_hub.file_download):
            if hasattr(module, "HUGGINGFACE_CO_URL_TEMPLATE"):
                patch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setenv("NO_PROXY", "*")
        close_session()
        try:
            yield
        finally:
            close_session()
