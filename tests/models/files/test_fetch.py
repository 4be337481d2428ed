import hashlib
import http.server
import logging
import threading

import numpy as np
import pooch
import pytest
from support.full_disk import full_disk

from jifv.models import fetch, read_weights
from jifv.models.files import fetch as module
from jifv.models.files.convert import Converted

CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves ``server.content`` from any path; what it was asked for is in ``server.ranges``."""

    def do_GET(self):
        server, wanted = self.server, self.headers["Range"]
        server.ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and server.resumes else 0
        body = server.content[start:]
        if server.status != 200 or (start and not body):
            self.send_error(server.status if server.status != 200 else 416)
            return
        self.send_response(206 if start else 200)
        if server.sized:
            self.send_header("Content-Length", str(server.claimed or len(body)))
        self.end_headers()
        self.wfile.write(body[: server.most])
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.content, running.status, running.resumes, running.sized, running.most = CONTENT, 200, True, True, None
        running.claimed = None
        running.ranges = []
        running.url = f"http://127.0.0.1:{running.server_port}/mirror/googlenet-1378be20.pth"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The cache folder; the file published has this test's hash, and converts to one small array."""

    def convert(path):
        assert path.read_bytes() == CONTENT
        variables = {"params": {"a": np.ones(2, np.float32)}}
        return Converted("googlenet", variables, {"file": path.name, "sha256": SHA256})

    monkeypatch.setenv("JIFV_CACHE", str(tmp_path / "cache"))
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    published = module._DOWNLOADS["googlenet"]
    monkeypatch.setitem(module._DOWNLOADS, "googlenet", published._replace(sha256=SHA256[:8], most_bytes=4_000_000))
    monkeypatch.setattr(module, "convert", convert)
    yield tmp_path / "cache"
    pooch.get_logger().setLevel(logging.INFO)


def files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def get(server):
    return fetch("googlenet", url=server.url, progress=False)


def partial(folder):
    return folder / "downloads" / "googlenet-1378be20.pth.part"


CONVERTED = ["googlenet.md", "googlenet.safetensors"]


def test_what_is_published():
    """Public knowledge: torchvision's URL, whose file name ends in the first digits of the hash."""
    published = module._DOWNLOADS["googlenet"]
    assert published[:2] == ("https://download.pytorch.org/models/googlenet-1378be20.pth", "1378be20")
    assert 52_147_035 < published.most_bytes < 1.5 * 52_147_035  # the file's size


def test_the_right_file_is_converted_and_removed(server, folder):
    path = get(server)
    assert path == folder / "googlenet.safetensors"
    assert files(folder) == CONVERTED
    variables, metadata = read_weights(path)
    np.testing.assert_array_equal(variables["params"]["a"], [1, 1])
    assert metadata == {"file": "googlenet-1378be20.pth", "sha256": SHA256, "url": server.url}
    assert f"from {server.url}, sha256 {SHA256}" in path.with_suffix(".md").read_text(encoding="utf-8")
    assert server.ranges == [None]


def test_without_url_the_published_one_is_asked(server, folder, monkeypatch):
    published = module._DOWNLOADS["googlenet"]
    monkeypatch.setitem(module._DOWNLOADS, "googlenet", published._replace(url=server.url))
    assert fetch("googlenet", progress=False).is_file()


def test_a_size_that_is_not_told(server, folder):
    server.sized = False
    get(server)
    assert files(folder) == CONVERTED


def test_progress_is_shown_on_standard_error_alone(server, folder, capsys):
    fetch("googlenet", url=server.url)
    assert capsys.readouterr().out == ""
    fetch("googlenet", url=server.url)
    assert "googlenet-1378be20.pth, MiB: 3/3 in" in capsys.readouterr().err
    get(server)
    assert capsys.readouterr() == ("", "")


def test_a_broken_download_is_continued_where_it_stopped(server, folder):
    server.most = 1_300_000
    with pytest.raises(
        OSError, match=r"cannot download http://.*; the part that arrived is kept, call again for the rest"
    ):
        get(server)
    assert files(folder) == [partial(folder).name]
    came = partial(folder).read_bytes()
    assert 0 < len(came) <= 1_300_000
    assert came == CONTENT[: len(came)]
    with pytest.raises(OSError, match="call again"):
        get(server)
    more = partial(folder).stat().st_size
    assert len(came) < more <= 2_600_000
    server.most = None
    get(server)
    assert server.ranges == [None, f"bytes={len(came)}-", f"bytes={more}-"]
    assert files(folder) == CONVERTED


def test_a_server_that_cannot_continue_starts_again(server, folder):
    server.most = 1_300_000
    with pytest.raises(OSError, match="call again"):
        get(server)
    server.most, server.resumes = None, False
    get(server)
    assert server.ranges[1] is not None
    assert files(folder) == CONVERTED


def test_a_download_that_was_complete_is_not_repeated(server, folder):
    partial(folder).parent.mkdir(parents=True)
    partial(folder).write_bytes(CONTENT)
    get(server)
    assert server.ranges == [f"bytes={len(CONTENT)}-"]
    assert files(folder) == CONVERTED


def test_another_file_is_removed_and_both_hashes_are_named(server, folder):
    server.content = b"other"
    found = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(
        ValueError, match=f"another file: its sha256 must begin with {SHA256[:8]}, got {found}; removed it"
    ):
        get(server)
    assert files(folder) == []
    server.content = CONTENT
    get(server)
    assert server.ranges == [None, None]


def test_the_continuation_of_another_file_is_removed(server, folder):
    partial(folder).parent.mkdir(parents=True)
    partial(folder).write_bytes(b"from another time")
    with pytest.raises(ValueError, match="another file"):
        get(server)
    assert files(folder) == []


TOO_LARGE = r"has another file: it must have at most 4,000,000 bytes, got "


def test_a_file_that_says_it_is_too_large_is_not_downloaded(server, folder):
    server.claimed = 2 * 10**9
    with pytest.raises(ValueError, match=TOO_LARGE + "2,000,000,000"):
        get(server)
    assert files(folder) == []


@pytest.mark.parametrize("claimed", [None, 1, "some"])
def test_a_file_that_grows_too_large_is_given_up(server, folder, claimed):
    """The server does not say how much will come, or says too little."""
    server.content, server.sized, server.claimed = bytes(40_000_000), claimed is not None, claimed
    with pytest.raises((ValueError, OSError), match=TOO_LARGE if claimed != 1 else "another file"):
        get(server)
    assert files(folder) == []


def test_a_continuation_that_grows_too_large_is_given_up(server, folder):
    partial(folder).parent.mkdir(parents=True)
    partial(folder).write_bytes(CONTENT[:2_000_000])
    server.content = CONTENT + bytes(2_000_000)
    with pytest.raises(ValueError, match=TOO_LARGE + "5,000,000"):
        get(server)
    assert files(folder) == []


def test_what_came_on_a_full_disk_is_kept_and_the_file_named(server, folder):
    with (
        full_disk(1_500_000),
        pytest.raises(OSError, match=r"cannot download .*part'; the part that"),
    ):
        get(server)
    assert files(folder) == [partial(folder).name]
    get(server)
    assert files(folder) == CONVERTED


@pytest.mark.parametrize("page", [b"<!DOCTYPE html><title>Log in</title>", b"\n<html>Not here</html>"])
def test_a_web_page_is_told_by_that_name(server, folder, page):
    server.content = page
    with pytest.raises(ValueError, match="it is a web page"):
        get(server)
    assert files(folder) == []


@pytest.mark.parametrize("status", [403, 404, 503])
def test_a_refusal_says_what_to_do_by_hand(server, folder, status):
    server.status = status
    with pytest.raises(OSError, match=f"cannot download {server.url}: {status}") as caught:
        get(server)
    assert "call again" not in str(caught.value)
    for words in (
        "download https://download.pytorch.org/models/googlenet-1378be20.pth",
        "run `jifv models convert googlenet --from googlenet-1378be20.pth`",
        f"which writes {folder / 'googlenet.safetensors'}",
    ):
        assert words in str(caught.value)
    assert files(folder) == []


def test_a_refused_connection_says_what_to_do_by_hand(server, folder):
    server.shutdown()
    server.server_close()
    with pytest.raises(OSError, match=r"cannot download http://.* run `jifv models convert googlenet --from"):
        get(server)
    assert files(folder) == []


def test_a_file_that_cannot_be_converted_is_removed(server, folder, monkeypatch):
    def convert(path):
        raise ValueError("no network known here")

    monkeypatch.setattr(module, "convert", convert)
    with pytest.raises(ValueError, match="no network known here"):
        get(server)
    assert files(folder) == []


def test_what_cannot_be_fetched():
    with pytest.raises(ValueError, match="name must be one of googlenet, got 'densenet'"):
        fetch("densenet")
