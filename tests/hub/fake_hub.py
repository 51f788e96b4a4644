"""A Hugging Face hub in a thread: as much of its protocol as huggingface_hub needs to read and to push."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Files = dict[str, bytes]


@dataclass
class Hub:
    """Repositories by kind (`models`, `datasets`) and id, each with its commits, oldest first."""

    url: str = ""
    repositories: dict[tuple[str, str], list[Files]] = field(default_factory=dict)
    tags: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """Method and path of each request."""
    token: str = "hf_secret"
    """Of the only user, `user`; needed for writing."""

    def add(self, kind: str, name: str, *commits: Files, **tags: int) -> None:
        """Add a repository; `main` is its last commit, `tags` name others by number."""
        self.repositories[kind, name] = list(commits)
        numbers = {"main": len(commits) - 1, **tags}
        self.tags[kind, name] = {tag: self.commit(name, number) for tag, number in numbers.items()}

    def commit(self, name: str, number: int) -> str:
        """The hash of a commit."""
        return hashlib.sha1(f"{name} {number}".encode()).hexdigest()

    def push(self, name: str, lines: list[dict[str, Any]]) -> str:
        """A commit to a model repository, as huggingface_hub writes it down; returns its hash."""
        commits = self.repositories["models", name]
        files = dict(commits[-1]) if commits else {}
        for line in lines:
            value = line["value"]
            if line["key"] == "deletedFile":
                del files[value["path"]]
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
        tags = {tag: commit for tag, commit in self.tags["models", name].items() if tag != "main"}
        commits.append(files)
        self.tags["models", name] = {**tags, "main": self.commit(name, len(commits) - 1)}
        return self.tags["models", name]["main"]

    def find(self, kind: str, name: str, revision: str) -> tuple[str, Files]:
        """Commit and files of a revision.

        Raises:
            NotFoundError: with the hub's code for what is missing.
        """
        if (kind, name) not in self.repositories:
            raise NotFoundError("RepoNotFound")
        commit = self.tags[kind, name].get(revision, revision)
        for number, files in enumerate(self.repositories[kind, name]):
            if self.commit(name, number) == commit:
                return commit, files
        raise NotFoundError("RevisionNotFound")


class NotFoundError(Exception):
    pass


class ForbiddenError(Exception):
    pass


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None: ...

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = unquote(urlsplit(self.path).path).strip("/")
        self.hub.asked.append(f"{self.command} /{path}")
        try:
            if not path:
                self._send(b"a hub")
            elif path.startswith("api/"):
                self._send(
                    json.dumps(self._api(path.split("/")[1:], body)).encode(), {"Content-Type": "application/json"}
                )
            else:
                self._file(path)
        except NotFoundError as error:
            self._send(b"{}", {"X-Error-Code": str(error), "X-Error-Message": str(error)}, 404)
        except ForbiddenError as error:
            self._send(b"{}", {"X-Error-Message": str(error)}, 401)

    def _send(self, content: bytes, headers: dict[str, str] | None = None, status: int = 200) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _file(self, path: str) -> None:
        kind, path = ("datasets", path.removeprefix("datasets/")) if path.startswith("datasets/") else ("models", path)
        name, _, rest = path.partition("/resolve/")
        revision, _, file = rest.partition("/")
        if not file:
            raise NotFoundError("EntryNotFound")
        commit, files = self.hub.find(kind, name, revision)
        if file not in files:
            raise NotFoundError("EntryNotFound")
        content = files[file]
        status, headers = 200, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": commit}
        wanted = self.headers.get("Range", "").removeprefix("bytes=")
        if wanted:
            first, _, last = wanted.partition("-")
            end = int(last) + 1 if last else len(content)
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{len(content)}"
            status, content = 206, content[int(first) : end]
        self._send(content, headers, status)

    def _api(self, parts: list[str], body: bytes) -> Any:
        kind, name, rest = parts[0], "/".join(parts[1:3]), parts[3:]
        if kind == "validate-yaml":
            return {"errors": [], "warnings": []}
        if kind in ("whoami-v2", "repos") or (rest and rest[0] in ("preupload", "commit")):
            return self._write(kind, name, rest, body)
        if kind not in ("models", "datasets"):
            raise NotFoundError("EntryNotFound")
        commit, files = self.hub.find(kind, name, rest[1] if len(rest) > 1 else "main")
        what = rest[0] if rest else "revision"
        if what == "revision":
            siblings = [{"rfilename": file} for file in files]
            return {"_id": "1", "id": name, "sha": commit, "private": False, "tags": [], "siblings": siblings}
        if what == "tree":
            return self._tree(files, "/".join(rest[2:]))
        if what == "paths-info":
            wanted = parse_qs(body.decode()).get("paths", [])
            everything = {entry["path"]: entry for entry in self._tree(files, "")}
            return [everything[path] for path in wanted if path in everything]
        raise NotFoundError("EntryNotFound")

    def _write(self, kind: str, name: str, rest: list[str], body: bytes) -> Any:
        """What needs a token: who it belongs to, a new repository, a commit."""
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            raise ForbiddenError("Invalid username or password.")
        if kind == "whoami-v2":
            return {"type": "user", "name": "user", "orgs": [], "auth": {}}
        if kind == "repos":
            wanted = json.loads(body)
            created = f"{wanted.get('organization') or 'user'}/{wanted['name']}"
            self.hub.repositories.setdefault(("models", created), [{".gitattributes": b""}])
            self.hub.tags.setdefault(("models", created), {"main": self.hub.commit(created, 0)})
            return {"url": f"{self.hub.url}/{created}", "name": created, "id": "1"}
        if rest[0] == "preupload":
            files = json.loads(body)["files"]
            return {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
        oid = self.hub.push(name, [json.loads(line) for line in body.splitlines() if line])
        return {"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{name}/commit/{oid}"}

    def _tree(self, files: Files, below: str) -> list[dict[str, Any]]:
        folders = {"/".join(file.split("/")[:depth]) for file in files for depth in range(1, file.count("/") + 1)}
        entries = [{"type": "directory", "path": folder, "oid": "0" * 40, "size": 0} for folder in sorted(folders)]
        for file, content in files.items():
            entries.append(
                {"type": "file", "path": file, "oid": hashlib.sha1(content).hexdigest(), "size": len(content)}
            )
        inside = [entry for entry in entries if not below or str(entry["path"]).startswith(f"{below}/")]
        if below and not inside:
            raise NotFoundError("EntryNotFound")
        return inside


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve on a free port of this machine; the port is closed at the end."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield hub
        server.shutdown()
        thread.join()
