"""A practice Hub on loopback: the part of the Hub's protocol that huggingface_hub uses, and all that can go wrong.

Small files are answered after a relative redirect, large ones after a redirect to another host's name with the
linked ETag and size, as the Hub does; `/raw/` stands for GitHub's raw files. Xet is never offered unless a fault
says so.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".safetensors", ".bin", ".pt", ".pth", ".parquet", ".png")
"""Suffixes that the Hub stores as large files."""


@dataclass
class Repo:
    """A repository: its files, and who may see them."""

    files: dict[str, bytes]
    gated: bool = False
    private: bool = False

    @property
    def commit(self) -> str:
        digest = hashlib.sha1()
        for name in sorted(self.files):
            digest.update(name.encode() + hashlib.sha256(self.files[name]).digest())
        return digest.hexdigest()


@dataclass
class Fault:
    """What goes wrong, for requests whose path fits a pattern.

    Attributes:
        path: Pattern of the path, as "*/model.safetensors" or "/cdn/*".
        kind: What: `cut` closes after `at` bytes, `trickle` sends a byte at each `pause`, `slowly` sends `at` bytes
            at each `pause`, `silent` never answers, `corrupt` flips a byte, `short` announces and sends `at` bytes
            only, `status` answers with `status`, `page` sends an HTML page in place of the file, `ignore-range`
            sends all of it, `xet` offers Xet.
        times: How many requests it hits.
        method: GET, HEAD or "" for both.
    """

    path: str
    kind: str
    times: int = 1_000_000
    method: str = "GET"
    status: int = 500
    at: int = 0
    pause: float = 1.0
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """A request that came."""

    method: str
    path: str
    headers: Mapping[str, str]


class HubServer(ThreadingHTTPServer):
    """Repositories by type and name; see the module."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos: dict[tuple[str, str], Repo] = {}
        self.raw: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.token = "hf_practice"
        self.stopping = threading.Event()
        self._lock = threading.Lock()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def cdn(self) -> str:
        """The same server by another name, as large files come from another host."""
        return f"http://localhost:{self.server_port}"

    @property
    def raw_endpoint(self) -> str:
        return f"{self.endpoint}/raw"

    def add(
        self, name: str, files: Mapping[str, bytes], repo_type: str = "model", **facts: Any
    ) -> Repo:
        repo = Repo(dict(files), **facts)
        self.repos[repo_type, name] = repo
        return repo

    def fail(self, path: str, kind: str, **how: Any) -> Fault:
        fault = Fault(path, kind, **how)
        self.faults.append(fault)
        return fault

    def fault_for(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                meant = fault.method in ("", method) and fnmatch.fnmatch(path, fault.path)
                if meant and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None

    def count(self, pattern: str, method: str = "GET") -> int:
        """How many requests of this kind came."""
        return sum(
            one.method == method and fnmatch.fnmatch(one.path, pattern) for one in self.requests
        )

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the practice."""


@contextmanager
def running_hub() -> Iterator[HubServer]:
    """A practice Hub that is served until the block ends."""
    server = HubServer()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer("HEAD")

    def do_GET(self) -> None:
        self._answer("GET")

    def _answer(self, method: str) -> None:
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        self.server.requests.append(Request(method, path, dict(self.headers.items())))
        fault = self.server.fault_for(method, path)
        if fault and fault.kind == "status":
            self._send(fault.status, b"busy", fault.headers)
        elif fault and fault.kind == "silent":
            self.server.stopping.wait(60)
            self.close_connection = True
        elif path == "/":
            self._send(200, b"The practice Hub.")
        elif path.startswith("/api/"):
            self._api(path.removeprefix("/api/"), parse_qs(parts.query), fault)
        elif path.startswith("/raw/"):
            self._raw(path.removeprefix("/raw/"), fault)
        elif path.startswith("/cdn/"):
            self._cdn(path.removeprefix("/cdn/"), fault)
        else:
            self._resolve(path, fault)

    # The API.

    def _api(self, path: str, query: dict[str, list[str]], fault: Fault | None) -> None:
        if path.startswith("resolve-cache/"):
            kind, owner, name, commit, *rest = path.removeprefix("resolve-cache/").split("/")
            repo = self.server.repos[kind.removesuffix("s"), f"{owner}/{name}"]
            data = repo.files["/".join(rest)]
            self._file(data, fault, {"ETag": f'"{_git_sha(data)}"', "X-Repo-Commit": commit})
            return
        kind, *words = path.split("/")
        name, words = "/".join(words[:2]), words[2:]
        found = self._repo(kind.removesuffix("s"), name)
        if found is None:
            return
        repo = found
        if words[:1] == ["tree"]:
            listed = [
                {"type": "file", "path": file, **_facts(data)} for file, data in repo.files.items()
            ]
            self._json(listed)
            return
        siblings = [
            {"rfilename": file, **(_facts(data) if "blobs" in query else {})}
            for file, data in repo.files.items()
        ]
        facts = {"_id": name, "id": name, "modelId": name, "sha": repo.commit, "tags": []}
        gates = {"private": repo.private, "gated": "auto" if repo.gated else False, "downloads": 1}
        self._json({**facts, **gates, "siblings": siblings}, fault)

    def _repo(self, kind: str, name: str, listing: bool = True) -> Repo | None:
        """The repository, or the Hub's refusal."""
        repo = self.server.repos.get((kind, name))
        signed_in = self.headers.get("authorization") == f"Bearer {self.server.token}"
        given = self.headers.get("authorization")
        if given and not signed_in:
            message = "Invalid credentials in Authorization header"
            self._send(401, b"", {"X-Error-Message": message})
        elif repo is None or (repo.private and not signed_in):
            # The Hub does not tell strangers which repositories exist.
            status = 404 if signed_in else 401
            self._send(
                status,
                b"",
                {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"},
            )
        elif repo.gated and not signed_in and not listing:
            message = f"Access to model {name} is restricted."
            self._send(403, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": message})
        else:
            return repo
        return None

    # Files.

    def _resolve(self, path: str, fault: Fault | None) -> None:
        kind = "dataset" if path.startswith("/datasets/") else "model"
        words = path.removeprefix("/datasets/").strip("/").split("/")
        if len(words) < 5 or words[2] != "resolve":
            self._send(404, b"")
            return
        owner, name, _, _, *rest = words
        repo = self._repo(kind, f"{owner}/{name}", listing=False)
        if repo is None:
            return
        data = repo.files.get("/".join(rest))
        if data is None:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": repo.commit})
            return
        common = {"X-Repo-Commit": repo.commit, "Accept-Ranges": "bytes"}
        if rest[-1].endswith(LARGE):
            sha = hashlib.sha256(data).hexdigest()
            common |= {
                "X-Linked-ETag": f'"{sha}"',
                "X-Linked-Size": str(len(data)),
                "ETag": f'"{sha}-2"',
            }
            if fault and fault.kind == "xet":
                common |= {
                    "X-Xet-Hash": sha,
                    "Link": f'<{self.server.endpoint}/api/xet>; rel="xet-auth"',
                }
            # The query is what a signed address looks like; the credentials stay behind.
            location = f"{self.server.cdn}/cdn/{sha}/{rest[-1]}?X-Amz-Signature=0"
            self._send(302, b"", {**common, "Location": location})
        else:
            common |= {"X-Linked-ETag": f'"{_git_sha(data)}"', "X-Linked-Size": str(len(data))}
            below = "/".join([f"{kind}s", owner, name, repo.commit, *rest])
            self._send(307, b"", {**common, "Location": f"/api/resolve-cache/{below}"})

    def _cdn(self, path: str, fault: Fault | None) -> None:
        sha = path.split("/")[0]
        for repo in self.server.repos.values():
            for data in repo.files.values():
                if hashlib.sha256(data).hexdigest() == sha:
                    self._file(data, fault, {"ETag": f'"{sha}"'})
                    return
        self._send(404, b"")

    def _raw(self, path: str, fault: Fault | None) -> None:
        data = self.server.raw.get(path)
        if data is None:
            self._send(404, b"404: Not Found")
        else:
            self._file(data, fault, {"ETag": f'"{hashlib.md5(data).hexdigest()}"'})

    def _file(self, data: bytes, fault: Fault | None, headers: dict[str, str]) -> None:
        kind = fault.kind if fault else ""
        if kind == "page":
            self._send(
                200, b"<html>Please sign in to this network.</html>", {"Content-Type": "text/html"}
            )
            return
        if kind == "corrupt":
            data = data[:-1] + bytes([data[-1] ^ 1])
        if fault and kind == "short":
            data = data[: fault.at]
        begin, status = 0, 200
        asked = self.headers.get("range", "")
        if asked.startswith("bytes=") and kind != "ignore-range":
            begin = int(asked.removeprefix("bytes=").split("-")[0])
            if begin >= len(data):
                self._send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
                return
            status = 206
            headers = {**headers, "Content-Range": f"bytes {begin}-{len(data) - 1}/{len(data)}"}
        self._send(status, data[begin:], headers, fault)

    # Bytes.

    def _json(self, content: Any, fault: Fault | None = None) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"}, fault)

    def _send(
        self,
        status: int,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        fault: Fault | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault and fault.kind == "cut":
            self.wfile.write(body[: fault.at])
            self.wfile.flush()
            self.close_connection = True
        elif fault and fault.kind == "trickle":
            for byte in body:
                if self.server.stopping.wait(fault.pause):
                    break
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
        elif fault and fault.kind == "slowly":
            for start in range(0, len(body), fault.at):
                self.server.stopping.wait(fault.pause)
                self.wfile.write(body[start : start + fault.at])
        else:
            self.wfile.write(body)


def _git_sha(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _facts(data: bytes) -> dict[str, Any]:
    """What a listing says of a file."""
    facts: dict[str, Any] = {"size": len(data), "blobId": _git_sha(data), "oid": _git_sha(data)}
    if len(data) > 100_000:
        sha = hashlib.sha256(data).hexdigest()
        facts["lfs"] = {"sha256": sha, "oid": sha, "size": len(data), "pointerSize": 134}
    return facts
