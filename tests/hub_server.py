"""A small Hugging Face Hub: it speaks the Hub's protocol to the real client, keeps everything in memory, and fails on
demand.

    with HubServer() as hub:
        subprocess.run([...], env={**os.environ, **hub.environment(home, token=hub.token("ann"))})

Repositories of models, of data sets and of Spaces, the latter two named datasets/user/name and spaces/user/name here;
commits on branches; small text files as they are, all else by LFS with checksums.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import yaml
from hub_repository import Blob, Repository


@dataclass
class Failure:
    """Requests from `first` on (1 is the next one) whose path contains `path` fail `how`, `times` times."""

    first: int
    how: int | str
    path: str
    times: float


class HubServer:
    """The server, from `with` to its end.

    Attributes:
        url: where it is.
        repositories: name -> what is there.
        requests: method and path of all requests, in their order.
        spoil: a path; what is committed there is damaged on its way.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[str] = []
        self.spoil: str | None = None
        self._tokens: dict[str, tuple[str, bool]] = {}
        self.large: dict[str, bytes] = {}
        self.lock = threading.RLock()
        self._failures: list[Failure] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.hub = self
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> HubServer:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *error) -> None:
        self._server.shutdown()
        self._server.server_close()

    def token(self, user: str, write: bool = True) -> str:
        """A token of a user; always the same one."""
        token = "hf_" + hashlib.sha256(f"{user} {write}".encode()).hexdigest()[:34]
        self._tokens[token] = (user, write)
        return token

    def environment(self, home: Path, token: str | None = None) -> dict[str, str]:
        """The environment of a process that takes this for the Hub; huggingface_hub reads it when it is imported."""
        names = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
        names |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_TOKEN": token or "", "no_proxy": "127.0.0.1"}
        return names

    def fail(self, nth: int, how: int | str, path: str = "", times: float = 1) -> None:
        """Let the nth of the next requests fail, and so many after it.

        Args:
            how: a status; "close" before anything is done; "lost" after it was done, so that only the answer is lost.
            path: count only requests whose path contains this.
            times: may be infinite.
        """
        with self.lock:
            self._failures.append(Failure(nth, how, path, times))

    def heal(self) -> None:
        """Nothing fails any more, and `requests` is empty."""
        with self.lock:
            self._failures.clear()
            self.requests.clear()
            self.spoil = None

    def put(self, name: str, files: dict[str, bytes], private: bool = False, branch: str = "main") -> str:
        """Lay files into a repository, as a commit of their own."""
        blobs = {path: Blob(data, is_large(path, data)) for path, data in files.items()}
        with self.lock:
            return self.repositories.setdefault(name, Repository(private)).commit(branch, blobs)

    def failure(self, path: str) -> int | str | None:
        """How the request that just came fails."""
        for failure in self._failures:
            if failure.path in path and failure.times > 0:
                failure.first -= 1
                if failure.first < 1:
                    failure.times -= 1
                    return failure.how
        return None

    def user(self, header: str | None) -> tuple[str, bool] | None:
        """Whose token it is, and whether it may write."""
        return self._tokens.get((header or "").removeprefix("Bearer "))


def is_large(path: str, data: bytes) -> bool:
    """Whether a file goes by LFS, as the Hub's own .gitattributes have it."""
    return path.endswith((".safetensors", ".bin", ".pt", ".ckpt")) or b"\0" in data[:512] or len(data) > 10_000_000


class _Refused(Exception):
    """An answer other than 200: status, code for the client, message."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def log_message(self, *args) -> None:
        pass

    def do_any(self) -> None:
        hub: HubServer = self.server.hub
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) if self.command != "GET" else b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self._chunks()
        target = urlsplit(self.path)
        with hub.lock:
            hub.requests.append(f"{self.command} {target.path}")
            how = hub.failure(target.path)
            if how == "close":
                self.close_connection = True
                return
            if isinstance(how, int):
                return self._answer(how, b"<html>failing on demand</html>", {"Content-Type": "text/html"})
            try:
                status, content, headers = self._route(hub, unquote(target.path), parse_qs(target.query), body)
            except _Refused as refused:
                status, code, message = refused.args
                headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
                content = {"error": message}
        if how == "lost":
            self.close_connection = True
            return
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
            headers = {"Content-Type": "application/json", **headers}
        self._answer(status, content, headers)

    do_GET = do_HEAD = do_POST = do_PUT = do_any

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _route(self, hub: HubServer, path: str, query: dict, body: bytes) -> tuple[int, object, dict[str, str]]:
        user = hub.user(self.headers.get("Authorization"))
        if user is None and self.headers.get("Authorization"):
            raise _Refused(401, None, "Invalid credentials in Authorization header")
        for method, pattern, answer in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and self.command in method:
                return answer(self, hub, user, body, query, *match.groups())
        raise _Refused(404, None, f"no such page: {self.command} {path}")

    def _repository(self, hub: HubServer, user, name: str, write: bool = False) -> Repository:
        repository = hub.repositories.get(name)
        owner = user is not None and user[0] == _plain(name).partition("/")[0]
        if repository is None or (repository.private and not owner):
            if user is None:
                raise _Refused(401, None, "Invalid username or password.")
            raise _Refused(404, "RepoNotFound", "Repository not found")
        if write and not (owner and user[1]):
            raise _Refused(403 if user else 401, None, "You do not have write access to this repository")
        return repository

    def _commit_of(self, repository: Repository, revision: str) -> str:
        commit = repository.resolve(revision)
        if commit is None:
            raise _Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    def whoami(self, hub, user, body, query):
        if user is None:
            raise _Refused(401, None, "Invalid username or password.")
        return 200, {"type": "user", "name": user[0], "orgs": [], "auth": {"type": "access_token"}}, {}

    def create(self, hub, user, body, query):
        asked = json.loads(body)
        owner = asked["organization"] or (user and user[0])
        kind = asked.get("type") if asked.get("type") in ("space", "dataset") else None
        name = f"{f'{kind}s/' if kind else ''}{owner}/{asked['name']}"
        if user is None:
            raise _Refused(401, None, "Invalid username or password.")
        if user[0] != owner or not user[1]:
            raise _Refused(403, None, f'You don\'t have the rights to create a model under the namespace "{owner}"')
        if name.startswith("spaces/") and asked.get("sdk") != "gradio":
            raise _Refused(400, None, "a Space needs an sdk")
        if name in hub.repositories:
            content = {"error": "You already created this model repo", "url": f"{hub.url}/{name}"}
            return 409, content, {"X-Error-Message": content["error"]}
        repository = hub.repositories[name] = Repository(asked.get("visibility") == "private")
        repository.commit(
            "main", {".gitattributes": Blob(b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n", False)}
        )
        return 200, {"url": f"{hub.url}/{name}", "name": name}, {}

    def validate(self, hub, user, body, query):
        try:
            metadata = yaml.safe_load(re.match(r"---\n(.*?)\n---\n", json.loads(body)["content"], re.DOTALL)[1])
            good = all(isinstance(tag, str) for tag in metadata["tags"]) and isinstance(metadata["license"], str)
        except (TypeError, KeyError, yaml.YAMLError):
            good = False
        if not good:
            return 400, {"errors": [{"message": "metadata is not valid"}], "warnings": []}, {}
        return 200, {"errors": [], "warnings": []}, {}

    def info(self, hub, user, body, query, name, revision=None):
        repository = self._repository(hub, user, name)
        commit = self._commit_of(repository, revision or "main")
        siblings = [{"rfilename": path} for path in sorted(repository.commits[commit])]
        content = {"_id": "1", "id": _plain(name), "sha": commit, "private": repository.private}
        return 200, {**content, "siblings": siblings, "tags": [], "downloads": 0, "likes": 0}, {}

    def tree(self, hub, user, body, query, name, revision):
        repository = self._repository(hub, user, name)
        return 200, _entries(repository.commits[self._commit_of(repository, revision)]), {}

    def paths_info(self, hub, user, body, query, name, revision):
        repository = self._repository(hub, user, name)
        if "json" in self.headers.get("Content-Type", ""):
            wanted = json.loads(body)["paths"]
        else:
            wanted = parse_qs(body.decode())["paths"]
        entries = _entries(repository.commits[self._commit_of(repository, revision)])
        return 200, [entry for entry in entries if entry["path"] in wanted], {}

    def branch(self, hub, user, body, query, name, branch):
        repository = self._repository(hub, user, name, write=True)
        if branch in repository.branches:
            raise _Refused(409, None, "Reference already exists")
        repository.branches[branch] = self._commit_of(repository, json.loads(body).get("startingPoint") or "main")
        return 200, {}, {}

    def preupload(self, hub, user, body, query, name, revision):
        repository = self._repository(hub, user, name, write=True)
        there = repository.commits[self._commit_of(repository, revision)]
        answers = []
        for file in json.loads(body)["files"]:
            large = is_large(file["path"], base64.b64decode(file["sample"]))
            answer = {"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
            if file["path"] in there:
                answer["oid"] = there[file["path"]].etag
            answers.append(answer)
        return 200, {"files": answers}, {}

    def batch(self, hub, user, body, query, name):
        self._repository(hub, user, name, write=True)
        objects = []
        for wanted in json.loads(body)["objects"]:
            entry = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in hub.large:
                entry["actions"] = {"upload": {"href": f"{hub.url}/lfs/{wanted['oid']}", "header": {}}}
                if wanted["size"] > 100_000:  # It may be asked for or not; both ways are gone.
                    entry["actions"]["verify"] = {"href": f"{hub.url}/{name}.git/info/lfs/verify", "header": {}}
            objects.append(entry)
        return 200, {"transfer": "basic", "objects": objects}, {}

    def put_large(self, hub, user, body, query, oid):
        if hashlib.sha256(body).hexdigest() != oid:
            raise _Refused(400, None, "the checksum does not match")
        hub.large[oid] = body
        return 200, b"", {}

    def verify(self, hub, user, body, query, name):
        self._repository(hub, user, name, write=True)
        asked = json.loads(body)
        if len(hub.large.get(asked["oid"], b"")) != asked["size"]:
            raise _Refused(404, None, "the object is not there")
        return 200, {}, {}

    def commit(self, hub, user, body, query, name, branch):
        repository = self._repository(hub, user, name, write=True)
        if branch not in repository.branches:
            raise _Refused(404, "RevisionNotFound", f"Invalid rev id: {branch}")
        files = dict(repository.commits[repository.branches[branch]])
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                data = base64.b64decode(value["content"])
                files[value["path"]] = Blob(data[:-1] + b"?" if value["path"] == hub.spoil else data, False)
            elif item["key"] == "lfsFile":
                if value["oid"] not in hub.large:
                    raise _Refused(400, None, f"{value['path']} was never sent")
                files[value["path"]] = Blob(hub.large[value["oid"]], True)
            elif item["key"] in ("deletedFile", "deletedFolder"):
                prefix = value["path"]
                files = {p: b for p, b in files.items() if p != prefix and not p.startswith(prefix.rstrip("/") + "/")}
        oid = repository.commit(branch, files)
        return 200, {"success": True, "commitOid": oid, "commitUrl": f"{hub.url}/{name}/commit/{oid}"}, {}

    def resolve(self, hub, user, body, query, name, revision, path):
        repository = self._repository(hub, user, name)
        commit = self._commit_of(repository, revision)
        if path not in repository.commits[commit]:
            raise _Refused(404, "EntryNotFound", f"{path} does not exist on {revision}")
        blob = repository.commits[commit][path]
        headers = {"ETag": f'"{blob.etag}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if blob.lfs:
            headers |= {"X-Linked-Etag": f'"{blob.etag}"', "X-Linked-Size": str(len(blob.data))}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted and self.command == "GET":
            start, end = int(wanted[1]), int(wanted[2] or len(blob.data) - 1)
            if start >= len(blob.data):
                raise _Refused(416, None, "the range lies behind the end")
            headers["Content-Range"] = f"bytes {start}-{min(end, len(blob.data) - 1)}/{len(blob.data)}"
            return 206, blob.data[start : end + 1], headers
        return 200, blob.data, headers


def _plain(name: str) -> str:
    return name.removeprefix("spaces/").removeprefix("datasets/")


def _entries(files: dict[str, Blob]) -> list[dict]:
    """What lies in a commit, as the Hub lists it, folders included."""
    folders = sorted({parent.as_posix() for path in files for parent in Path(path).parents} - {"."})
    entries: list[dict] = [{"type": "directory", "path": path, "size": 0, "oid": "0" * 40} for path in folders]
    for path, blob in sorted(files.items()):
        entry = {"type": "file", "path": path, "size": len(blob.data), "oid": blob.git_sha1}
        if blob.lfs:
            entry["lfs"] = {"oid": blob.sha256, "size": len(blob.data), "pointerSize": len(blob.pointer)}
        entries.append(entry)
    return entries


_NAME = r"((?:(?:spaces|datasets)/)?[\w.-]+/[\w.-]+)"  # So that others are kept apart from a model of the same name.
_REPOSITORY = r"/api/(?:models/|(?=spaces/|datasets/))" + _NAME
_ROUTES = [
    (("GET",), r"/api/whoami-v2", _Handler.whoami),
    (("POST",), r"/api/repos/create", _Handler.create),
    (("POST",), r"/api/validate-yaml", _Handler.validate),
    (("GET",), _REPOSITORY, _Handler.info),
    (("GET",), _REPOSITORY + r"/revision/(.+)", _Handler.info),
    (("GET",), _REPOSITORY + r"/tree/([^/]+)", _Handler.tree),
    (("POST",), _REPOSITORY + r"/paths-info/(.+)", _Handler.paths_info),
    (("POST",), _REPOSITORY + r"/branch/(.+)", _Handler.branch),
    (("POST",), _REPOSITORY + r"/preupload/(.+)", _Handler.preupload),
    (("POST",), _REPOSITORY + r"/commit/(.+)", _Handler.commit),
    (("POST",), r"/" + _NAME + r"\.git/info/lfs/objects/batch", _Handler.batch),
    (("POST",), r"/" + _NAME + r"\.git/info/lfs/verify", _Handler.verify),
    (("PUT",), r"/lfs/([0-9a-f]{64})", _Handler.put_large),
    (("GET", "HEAD"), r"/" + _NAME + r"/resolve/([^/]+)/(.+)", _Handler.resolve),
]
