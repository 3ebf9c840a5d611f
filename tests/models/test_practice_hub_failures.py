"""What goes wrong between a Hub and a cache: each ends in a sentence or in success, never in half a model."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants

from tests.helpers import hub_repos
from tests.helpers.hub_cache import CLIP, SAM, blobs, cached, go_offline
from zsas import models
from zsas.errors import ZsasError
from zsas.models import download, hub, repository

pytest.importorskip("open_clip")  # whose vocabulary the repositories need

SAM_FILES = hub.FILES["sam"]


def weights_request(name: str = "model.safetensors") -> str:
    return f"/cdn/*/{name}"


@pytest.mark.slow
def test_a_cut_connection_goes_on_where_it_stopped(base, tmp_path):
    data = hub_repos.sam_repo()["model.safetensors"]
    base.fail(weights_request(), "cut", at=60_000, times=3)
    folder = hub.folder_of(SAM, SAM_FILES, "base")
    assert (folder / "model.safetensors").read_bytes() == data
    ranges = [one.headers.get("Range") for one in base.requests if one.path.startswith("/cdn/")]
    assert ranges == [None, "bytes=60000-", "bytes=120000-", "bytes=180000-"]


@pytest.mark.slow
def test_another_run_goes_on_where_the_first_stopped(base, tmp_path):
    fault = base.fail(weights_request(), "cut", at=0)
    first = base.fail(weights_request(), "cut", at=70_000, times=1)
    base.faults.reverse()
    with pytest.raises(ZsasError, match=f"download of {SAM}: model.safetensors broke off"):
        hub.folder_of(SAM, SAM_FILES, "base")
    assert first.times == 0
    assert not hub.is_here(models.PRESETS["base"])
    assert any(file.name.endswith(".zsas.incomplete") for file in blobs(tmp_path))
    fault.times = 0
    base.requests.clear()
    folder = hub.folder_of(SAM, SAM_FILES, "base")
    assert (folder / "model.safetensors").read_bytes() == hub_repos.sam_repo()["model.safetensors"]
    sent = [one.headers.get("Range") for one in base.requests if one.path.startswith("/cdn/")]
    assert sent == ["bytes=70000-"]
    assert not any("incomplete" in file.name for file in blobs(tmp_path))


@pytest.mark.slow
def test_a_server_that_knows_no_ranges_starts_anew(base):
    base.fail(weights_request(), "cut", at=50_000, times=1)
    base.fail(weights_request(), "ignore-range")
    folder = hub.folder_of(SAM, SAM_FILES, "base")
    assert (folder / "model.safetensors").read_bytes() == hub_repos.sam_repo()["model.safetensors"]


@pytest.mark.slow
def test_a_file_of_another_size_is_refused(base, tmp_path):
    base.fail(weights_request(), "short", at=50_000)
    with pytest.raises(ZsasError, match="has 50000 bytes on the server, but"):
        hub.folder_of(SAM, SAM_FILES, "base")
    assert not any("model.safetensors" in name for name in cached(tmp_path))
    assert not any("incomplete" in file.name for file in blobs(tmp_path))


@pytest.mark.slow
def test_a_file_with_another_hash_is_fetched_once_more_and_then_refused(base, tmp_path):
    fault = base.fail(weights_request(), "corrupt", times=1)
    assert hub.folder_of(SAM, SAM_FILES, "base").is_dir()
    fault.times = 10
    fault.path = weights_request("pytorch_model.bin")
    with pytest.raises(ZsasError, match="arrived damaged twice"):
        hub.folder_of(CLIP, hub.FILES["clip"], "base")
    assert base.count(weights_request("pytorch_model.bin")) == 2
    assert not any("incomplete" in file.name for file in blobs(tmp_path))


@pytest.mark.slow
def test_a_small_file_is_checked_by_gits_hash(base):
    base.fail("/api/resolve-cache/*/config.json", "corrupt")
    with pytest.raises(ZsasError, match=r"config\.json arrived damaged twice"):
        hub.folder_of(SAM, SAM_FILES, "base")


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"private": True}, "wants to know who asks"),
        ({"gated": True}, "accept its terms"),
        (None, "wants to know who asks"),  # what does not exist, a stranger is not told
    ],
)
def test_a_refusal_is_one_sentence_and_no_retry(server, facts, words):
    if facts is not None:
        server.add("me/model", hub_repos.sam_repo(), **facts)
    with pytest.raises(ZsasError, match=words) as caught:
        hub.folder_of("me/model", SAM_FILES, "base")
    assert "\n" not in str(caught.value)
    assert "connect once" not in str(caught.value)  # it has answered
    assert len(server.requests) <= 4


@pytest.mark.slow
def test_who_is_signed_in_gets_what_is_private_and_gated(server, monkeypatch):
    server.add("me/model", hub_repos.sam_repo(), private=True, gated=True)
    monkeypatch.setenv("HF_TOKEN", server.token)
    assert hub.folder_of("me/model", SAM_FILES, "base").is_dir()
    seen = [one for one in server.requests if one.path.startswith("/cdn/")]
    assert seen
    assert not any("authorization" in {name.lower() for name in one.headers} for one in seen), (
        "the token stays with the Hub"
    )
    with pytest.raises(ZsasError, match="no such file or repository"):
        hub.folder_of("me/none", SAM_FILES, "base")


def test_a_wrong_token_is_one_sentence(server, monkeypatch):
    server.add("me/model", hub_repos.sam_repo())
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(ZsasError, match="sign in with `hf auth login`"):
        hub.folder_of("me/model", SAM_FILES, "base")


@pytest.mark.slow
@pytest.mark.parametrize("where", ["/cdn/*", "/api/models/*", "/facebook/*/resolve/*"])
def test_a_busy_server_is_asked_again_after_its_time(base, where, monkeypatch):
    slept = []
    for module in (download, repository):
        monkeypatch.setattr(module.time, "sleep", slept.append)
    base.fail(where, "status", method="", status=429, headers={"Retry-After": "7"}, times=2)
    assert hub.folder_of(SAM, SAM_FILES, "base").is_dir()
    assert slept.count(7.0) >= (1 if "resolve" in where else 2)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["/cdn/*", "/api/models/*"])
def test_a_server_that_wants_an_hour_is_one_sentence(base, where):
    base.fail(where, "status", method="", status=429, headers={"Retry-After": "3600"})
    with pytest.raises(ZsasError, match="asks to wait 60 minutes"):
        hub.folder_of(SAM, SAM_FILES, "base")


def test_retry_after_may_be_a_date():
    assert download.retry_after("12") == 12
    assert download.retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert download.retry_after("soon") is None


@pytest.mark.slow
def test_errors_now_and_then_do_not_matter(base):
    base.fail("/cdn/*", "status", status=503, times=2)
    base.fail("/api/*", "status", method="", status=500, times=2)
    base.fail("/facebook/*", "status", method="HEAD", status=502, times=2)
    assert hub.folder_of(SAM, SAM_FILES, "base").is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("where", ["/cdn/*", "/api/models/*"])
def test_a_server_that_stays_broken_is_one_sentence(base, where):
    base.fail(where, "status", method="", status=500)
    with pytest.raises(ZsasError, match="status 500") as caught:
        hub.folder_of(SAM, SAM_FILES, "base")
    assert "\n" not in str(caught.value)
    assert base.count(where) == download.TRIES


@pytest.mark.slow
def test_a_byte_a_second_is_given_up_and_kept(base, monkeypatch, tmp_path):
    monkeypatch.setattr(download, "SLOW_SECONDS", 0.3)
    fault = base.fail("/cdn/*", "trickle", pause=0.05)
    with pytest.raises(ZsasError, match=r"comes too slowly .* it goes on where it stopped"):
        hub.folder_of(SAM, SAM_FILES, "base")
    fault.times = 0
    base.requests.clear()
    assert hub.folder_of(SAM, SAM_FILES, "base").is_dir()
    (sent,) = [one.headers.get("Range") for one in base.requests if one.path.startswith("/cdn/")]
    assert sent is not None


@pytest.mark.slow
def test_a_listing_that_trickles_is_given_up(base, monkeypatch):
    monkeypatch.setattr(repository, "ASK_SECONDS", 0.2)
    monkeypatch.setattr(download, "TRIES", 2)
    base.fail("/api/models/*", "trickle", pause=0.05)
    with pytest.raises(ZsasError, match="no whole answer in time"):
        hub.folder_of(SAM, SAM_FILES, "base")


@pytest.mark.slow
def test_a_server_that_falls_silent_is_one_sentence(base, monkeypatch):
    monkeypatch.setattr(download, "SILENT_SECONDS", 0.1)
    monkeypatch.setattr(download, "TRIES", 2)
    base.fail("/cdn/*", "silent")
    with pytest.raises(ZsasError, match="the server fell silent"):
        hub.folder_of(SAM, SAM_FILES, "base")


def test_a_disk_without_room_is_said_before_anything_comes(base, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(ZsasError, match=r"where 0\.00 GB are free; make room"):
        hub.folder_of(SAM, SAM_FILES, "base")
    assert not base.count("/cdn/*")


@pytest.mark.slow
def test_a_disk_that_fills_up_is_one_sentence(base, monkeypatch, tmp_path):
    """A real limit of the kernel: no file of this process grows beyond 100,000 bytes."""
    import resource
    import signal

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(ZsasError, match=r"cannot be kept in .* make room"):
            hub.folder_of(SAM, SAM_FILES, "base")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert not any("incomplete" in file.name for file in blobs(tmp_path))
    assert hub.folder_of(SAM, SAM_FILES, "base").is_dir()


def test_a_cache_that_cannot_be_written_is_one_sentence(base, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    with pytest.raises(ZsasError, match=r"cannot be kept in .* set HF_HOME to another folder"):
        hub.folder_of(SAM, SAM_FILES, "base")


@pytest.mark.slow
def test_a_cache_without_links_has_copies(base, monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    folder = hub.folder_of(SAM, SAM_FILES, "base")
    assert not (folder / "model.safetensors").is_symlink()
    assert models.Models(models.ModelChoice("base", device="cpu")).sam.network.input.side == 256


def test_a_cache_of_an_older_client_is_used_as_it_is(base, monkeypatch, tmp_path):
    """No listing of the tree, no tags; files in place of links, as on Windows; a part of a broken download."""
    storage = tmp_path / "hub" / "models--facebook--sam-vit-base"
    folder = storage / "snapshots" / ("a" * 40)
    folder.mkdir(parents=True)
    (storage / "refs").mkdir()
    (storage / "refs" / "main").write_text("a" * 40)
    (storage / "blobs").mkdir()
    (storage / "blobs" / ("b" * 64 + ".incomplete")).write_bytes(b"half")
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes(hub_repos.sam_repo()[name])
    go_offline(monkeypatch)
    assert hub.folder_of(SAM, SAM_FILES, "base") == folder


@pytest.mark.slow
def test_a_half_cache_is_completed(base, tmp_path):
    storage = tmp_path / "hub" / "models--facebook--sam-vit-base"
    folder = storage / "snapshots" / ("a" * 40)
    folder.mkdir(parents=True)
    (storage / "refs").mkdir()
    (storage / "refs" / "main").write_text("a" * 40)  # a commit that the Hub no longer calls main
    (folder / "config.json").write_bytes(hub_repos.sam_repo()["config.json"])
    found = hub.folder_of(SAM, SAM_FILES, "base")
    assert found.name == base.repos["model", SAM].commit
    assert hub.in_cache(SAM, SAM_FILES) == found


@pytest.mark.slow
def test_two_threads_at_once_fetch_each_file_once(base, monkeypatch):
    base.fail("/cdn/*", "slowly", at=50_000, pause=0.02)
    found: list[Path | ZsasError] = []

    def fetch() -> None:
        try:
            found.append(hub.folder_of(SAM, SAM_FILES, "base"))
        except ZsasError as error:
            found.append(error)

    threads = [threading.Thread(target=fetch) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert base.count("/cdn/*") == 1


@pytest.mark.slow
def test_a_proxy_carries_everything(base, monkeypatch):
    """An HTTP proxy sees full addresses; the practice Hub plays it for an address that does not exist."""
    proxied = "http://hub.example"
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("HTTP_PROXY", base.endpoint)
    monkeypatch.setattr(constants, "ENDPOINT", proxied)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        proxied + "/{repo_id}/resolve/{revision}/{filename}",
    )
    from huggingface_hub import close_session

    close_session()
    try:
        assert hub.folder_of(SAM, SAM_FILES, "base").is_dir()
    finally:
        close_session()


def test_a_dead_proxy_is_one_sentence_in_seconds(base, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with pytest.raises(ZsasError, match="cannot be reached"):
        hub.folder_of(SAM, SAM_FILES, "base")


def test_the_page_of_a_captive_network_is_no_file_of_weights(server, tmp_path):
    path = "ByChelsea/VAND-APRIL-GAN/main/exps/pretrained/visa_pretrained.pth"
    server.raw[path] = hub_repos.april_gan_file()
    fault = server.fail("/raw/*", "page")
    with pytest.raises(ZsasError, match=r"arrived damaged twice.* name its path"):
        models.weights_file("april-gan:visa")
    assert [one for one in (tmp_path / "assets").rglob("*") if one.suffix == ".pth"] == []
    fault.times = 0
    assert models.weights_file("april-gan:visa").is_file()


@pytest.mark.slow
def test_a_raw_file_goes_on_too_and_has_its_limits(server, monkeypatch):
    path = "ByChelsea/VAND-APRIL-GAN/main/exps/pretrained/visa_pretrained.pth"
    server.raw[path] = hub_repos.april_gan_file()
    server.fail("/raw/*", "cut", at=5_000, times=2)
    assert models.weights_file("april-gan:visa").read_bytes() == server.raw[path]
    other = path.replace("visa_", "mvtec_")
    server.raw[other] = bytes(21_000_000)
    with pytest.raises(ZsasError, match="larger than the 20000000 bytes expected"):
        models.weights_file("april-gan:mvtec")
    del server.raw[other]
    with pytest.raises(ZsasError, match="no such file or repository"):
        models.weights_file("april-gan:mvtec")


def test_another_file_under_that_name_is_refused_and_not_kept(server, tmp_path):
    path = "zqhang/AnomalyCLIP/main/checkpoints/9_12_4_multiscale_visa/epoch_15.pth"
    server.raw[path] = hub_repos.april_gan_file()
    with pytest.raises(ZsasError, match="is not what its makers published"):
        models.weights_file("anomalyclip:mvtec")
    assert not [
        one for one in (tmp_path / "assets").rglob("*") if one.suffix in (".pth", ".safetensors")
    ]


@pytest.mark.slow
def test_a_hub_that_offers_xet_and_cannot_keep_to_it_says_the_way_out(base, monkeypatch):
    base.fail(f"/{SAM}/resolve/*/model.safetensors", "xet", method="")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    with pytest.raises(ZsasError, match="HF_HUB_DISABLE_XET=1") as caught:
        hub.folder_of(SAM, SAM_FILES, "base")
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    assert hub.folder_of(SAM, SAM_FILES, "base").is_dir()


@pytest.mark.slow
def test_a_file_name_that_leaves_the_folder_is_refused(server):
    index = b'{"weight_map": {"a": "../../../../evil.safetensors"}}'
    server.add("me/evil", {"config.json": b"{}", "model.safetensors.index.json": index})
    with pytest.raises(ZsasError, match="names files outside its own folder"):
        hub.folder_of("me/evil", SAM_FILES, "base")


def test_an_address_that_is_no_hub_is_one_sentence(base, monkeypatch):
    """Some proxies drop headers that they do not know."""
    head = SimpleNamespace(etag=None, commit_hash=None, size=1)
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", lambda *_, **__: head)
    with pytest.raises(ZsasError, match="does not answer as the Hugging Face Hub does"):
        hub.folder_of(SAM, SAM_FILES, "base")


@pytest.mark.slow
def test_the_page_can_say_what_is_being_fetched(base):
    base.fail("/cdn/*", "slowly", at=30_000, pause=0.05)
    seen: set[str] = set()
    thread = threading.Thread(target=lambda: hub.folder_of(SAM, SAM_FILES, "base"))
    thread.start()
    while thread.is_alive():
        seen.add(models.fetching())
        thread.join(0.02)
    sentences = [one for one in seen if "model.safetensors" in one]
    assert sentences
    assert re.fullmatch(
        rf"Fetching {SAM}: model.safetensors: [\d.]+ of [\d.]+ MB, [\d.]+ MB/s\.", sentences[0]
    )
    assert models.fetching() == ""


@pytest.mark.slow
def test_who_waits_for_another_process_is_told(base, monkeypatch, capsys):
    monkeypatch.setattr(download, "WAIT_SILENTLY", 0.05)
    base.fail("/cdn/*", "slowly", at=60_000, pause=0.1)
    threads = [
        threading.Thread(target=hub.folder_of, args=(SAM, SAM_FILES, "base")) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = f"Another process is fetching {SAM}: model.safetensors; waiting for it."
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "unheard-of://127.0.0.1:9"])
def test_a_proxy_that_cannot_be_used_is_one_sentence(monkeypatch, tmp_path, proxy):
    def no_package(*_, **__):
        raise ImportError("Using SOCKS proxy, but the 'socksio' package is not installed.")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://203.0.113.1:9")
    monkeypatch.setenv("ALL_PROXY", proxy)
    monkeypatch.setenv("NO_PROXY", "")
    if proxy.startswith("socks"):  # also where the package is installed
        monkeypatch.setattr("httpx.head", no_package)
        monkeypatch.setattr("httpx.stream", no_package)
    assert "proxy" in repository.unreachable("some/model").lower()
    with pytest.raises(ZsasError, match=r"(?i)proxy"):
        download.download(
            download.Wanted("http://203.0.113.1:9/x.pth", "x.pth"), tmp_path / "x.pth"
        )
    assert not (tmp_path / "x.pth").exists()
