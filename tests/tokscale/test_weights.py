"""Weights from a server on this machine: fetched whole, resumed, checked, and never left half under their name."""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
import typer
from typer.testing import CliRunner

from tokscale import weights
from tokscale.errors import ConfigError, StoreError, UsageError, WeightsError
from tokscale.weights import REGISTRY, SIDECAR, Weights, expected_hash, fault_of
from tokscale.weights_commands import weights as command
from tokscale.weights_fetch import fetch

CONTENT = bytes(range(256)) * 4096
HASH = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves one content under any name; ``cut`` ends the first answers early, ``ranges`` says whether it resumes."""

    def __init__(self, cut=(), ranges=True, status=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.cut, self.ranges, self.status, self.asked = list(cut), ranges, status, []


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range")
        server.asked.append(wanted)
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and server.ranges else 0
        if server.status or start >= len(CONTENT):
            self.send_error(server.status or 416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        end = server.cut.pop(0) if server.cut else len(CONTENT)
        self.wfile.write(CONTENT[start:end])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def serve():
    servers = []

    def start(**options):
        server = Server(**options)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def entry(server, name=f"net-{HASH[:8]}.pth"):
    return Weights("net", f"http://127.0.0.1:{server.server_address[1]}/{name}", 1, "tests", "none")


def test_a_file_appears_whole_under_its_name(serve, tmp_path):
    one, told = entry(serve()), []
    path = fetch(one, tmp_path / "new", lambda done, total: told.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert [file.name for file in path.parent.iterdir()] == [one.file]
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert fault_of(one, path) is None


def test_what_is_there_is_not_fetched_again(serve, tmp_path):
    server = serve()
    fetch(entry(server), tmp_path)
    fetch(entry(server), tmp_path)
    assert len(server.asked) == 1


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_connection_is_taken_up_again(serve, tmp_path, ranges):
    server = serve(cut=[300_000], ranges=ranges)
    with pytest.raises(WeightsError, match="300000 of 1048576 bytes"):
        fetch(entry(server), tmp_path)
    assert not (tmp_path / entry(server).file).exists()
    assert fetch(entry(server), tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-"]


def test_a_leftover_that_is_too_long_is_begun_anew(serve, tmp_path):
    one = entry(serve())
    (tmp_path / f".{one.file}.partial").write_bytes(CONTENT + b"more")
    assert fetch(one, tmp_path).read_bytes() == CONTENT


def test_another_content_is_refused_and_removed(serve, tmp_path):
    one = entry(serve(), "net-00000000.pth")
    with pytest.raises(WeightsError, match="begins with 00000000"):
        fetch(one, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_a_published_hash_the_one_at_fetching_is_kept(serve, tmp_path):
    one = entry(serve(), "net.pt?dl=1")
    path = fetch(one, tmp_path)
    assert (one.file, one.published) == ("net.pt", None)
    assert expected_hash(one, path) == HASH
    path.write_bytes(CONTENT[:-1] + b"!")
    assert fault_of(one, path).startswith("SHA-256")
    with pytest.raises(WeightsError, match="damaged"):
        fetch(one, tmp_path)
    path.with_name(path.name + SIDECAR).unlink()
    assert expected_hash(one, path) is None
    assert fault_of(one, path) is None


def test_no_server_and_no_file_are_one_message_each(serve, tmp_path):
    gone = serve()
    unreachable = entry(gone)
    gone.shutdown()
    gone.server_close()
    with pytest.raises(WeightsError, match="put the file at") as refusal:
        fetch(unreachable, tmp_path)
    assert "refused" in refusal.value.given
    with pytest.raises(WeightsError, match="404"):
        fetch(entry(serve(status=404)), tmp_path)


def test_a_folder_that_refuses_is_one_message(serve, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match="--to"):
        fetch(entry(serve()), tmp_path / "file")


def test_two_processes_do_not_write_one_file(serve, tmp_path):
    one = entry(serve())
    import fcntl

    with open(tmp_path / f".{one.file}.partial", "ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(WeightsError, match="another process"):
            fetch(one, tmp_path)


# --- the registry and the command ---


def test_the_registry_knows_published_hashes_and_torch_s_own_folder(tmp_path, monkeypatch):
    assert REGISTRY["vgg16"].published == "397923af"
    assert REGISTRY["inception-tf2015"].published == "6726825d"
    assert REGISTRY["dinov2-g-reg"].file == "dinov2_vitg14_reg4_pretrain.pth"
    assert REGISTRY["dinov2-b"].published is None
    assert REGISTRY["i3d"].file == "i3d_torchscript.pt"
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert str(weights.hub_folder()) == torch.hub.get_dir()
    monkeypatch.delenv("TORCH_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert str(weights.hub_folder()) == torch.hub.get_dir()
    with pytest.raises(ConfigError, match="did you mean 'vgg16'"):
        weights.entry_of("vgg19")


@pytest.fixture
def tokscale(serve, monkeypatch, tmp_path):
    """The command with a registry of two files, of which one has no published hash."""
    server = serve()
    entries = {"net": entry(server), "other": entry(server, "other.pt")._replace(name="other")}
    monkeypatch.setattr(weights, "REGISTRY", entries)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    app = typer.Typer()
    app.command()(command)

    def call(*words):
        return CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)

    def states(*words):
        found = call(*words)
        return found.exit_code, {row["name"]: row["state"] for row in json.loads(found.stdout)["weights"]}

    call.states = states
    return call


def test_list_fetch_and_verify(tokscale):
    assert tokscale.states("list") == (0, {"net": "absent", "other": "absent"})
    assert tokscale.states("verify") == (0, {})
    assert tokscale.states("fetch", "net", "other") == (0, {"net": "present", "other": "present"})
    assert tokscale.states("verify") == (0, {"net": "right", "other": "right"})
    path = weights.present("other")
    path.with_name(path.name + SIDECAR).unlink()
    weights.present("net").write_bytes(b"torn")
    assert tokscale.states("verify") == (1, {"net": "damaged", "other": "unverified"})


def test_another_folder_to_carry_elsewhere(tokscale, tmp_path):
    folder = str(tmp_path / "stick")
    assert tokscale.states("fetch", "net", "--to", folder) == (0, {"net": "present"})
    assert tokscale.states("list") == (0, {"net": "absent", "other": "absent"})
    assert tokscale.states("verify", "net", "other", "--to", folder) == (1, {"net": "right", "other": "absent"})


def test_fetching_nothing_in_particular_is_refused(tokscale):
    with pytest.raises(UsageError, match="some of: net, other"):
        tokscale("fetch")


def test_a_list_says_whether_the_code_of_dinov2_is_there(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("TOKSCALE_DINOV2", str(tmp_path / "clone"))
    application = typer.Typer()
    application.command()(command)

    def listed(*arguments):
        return CliRunner().invoke(application, ["list", *arguments]).stdout

    assert f"git clone https://github.com/facebookresearch/dinov2 {tmp_path / 'clone'}" in listed()
    assert "dinov2" not in listed("vgg16").lower()
    (tmp_path / "clone").mkdir()
    (tmp_path / "clone" / "hubconf.py").write_text("")
    assert f"present in {tmp_path / 'clone'}" in listed("dinov2-s")
    assert json.loads(listed("dinov2-s", "--json"))["dinov2_code"]["state"] == "present"
