"""Secrets in addresses, and names that look like markup: neither goes further than it should."""

import base64
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsd_dask import evaluation, open_volume, save_volume, viewing, workflows
from lsd_dask.blockwise.runs import RunFailedError
from lsd_dask.storage.credentials import check_no_secrets, without_secrets
from lsd_dask.workflows.running.outputs import console

SECRET = "S3CRET"

ADDRESSES = (
    f"http://ann:{SECRET}@lab.org/em.zarr/raw",
    f"s3://KEY:{SECRET}@bucket/em.zarr",
    f"https://lab.org/em.zarr?token={SECRET}",
    f"https://lab.org/em.zarr?sv=2024&sig={SECRET}&sp=r",
    f"s3://bucket/em.zarr?X-Amz-Expires=60&X-Amz-Signature={SECRET}",
    f"precomputed://https://ann:{SECRET}@lab.org/em",
    f"simplecache::https://ann:{SECRET}@lab.org/em.zarr",
)


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_with_a_secret_is_refused_without_it(address: str, tmp_path: Path) -> None:
    voxels = np.zeros((4, 4, 4), np.uint8)
    for call in (
        lambda: open_volume(address),
        lambda: save_volume(voxels, address),
        lambda: evaluation.read_skeletons(address),
        lambda: workflows.extract_fragments(affs_file=address, fragments_file=f"{tmp_path}/a.zarr"),
        lambda: workflows.extract_fragments(affs_file="a.zarr", fragments_file=address),
        lambda: workflows.status(address),
        lambda: workflows.report(address),
    ):
        with pytest.raises(ValueError, match="found a password or token in the address") as refusal:
            call()
        assert SECRET not in str(refusal.value)


@given(
    user=st.text("abc-_.%20", min_size=1),
    password=st.text("abcXYZ019$!*+,;=~.-_%", min_size=8),
    around=st.sampled_from(["%s", "cannot open %s: 403", "url='%s'", 'see "%s", or ask']),
    rest=st.sampled_from(["", "/em.zarr/raw", "/a/b?version=3", "/a#b"]),
)
def test_no_text_passes_a_password_on(user: str, password: str, around: str, rest: str) -> None:
    address = f"https://{user}:{password}@lab.org{rest}"
    masked = without_secrets(around % address)
    assert masked == around % f"https://***@lab.org{rest}"
    with pytest.raises(ValueError, match="found a password"):
        check_no_secrets(address)


@pytest.mark.parametrize(
    "address",
    [
        "s3://bucket/em.zarr/volumes/raw",
        "gs://bucket/a:b@c/em.zarr",
        "ssh://ann@lab.org/em.zarr",
        "http://127.0.0.1:8080/em.zarr?version=3",
        "tcp://10.0.0.1:8786",
        "/data/ann:pony@home/em.zarr",
    ],
)
def test_an_address_without_one_is_left_alone(address: str) -> None:
    check_no_secrets(address)
    assert without_secrets(address) == address


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A web server for whoever knows the password; it tells everybody else more than it should."""
    expected = "Basic " + base64.b64encode(f"ann:{SECRET}".encode()).decode()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, directory=tmp_path, **options)

        def do_GET(self) -> None:
            if self.headers.get("Authorization") == expected:
                return super().do_GET()
            self.send_response(302)
            return self.send_header("Location", f"/login?token={SECRET}") or self.end_headers()

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_credentials_are_taken_from_where_the_store_keeps_them(server: str, tmp_path: Path) -> None:
    """As docs/security.md says it."""
    save_volume(np.ones((4, 4, 4), np.uint8), tmp_path / "em.zarr" / "raw")
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login ann password {SECRET}\n")
    netrc.chmod(0o600)
    program = (
        f"import lsd_dask; print(lsd_dask.open_volume({server + '/em.zarr/raw'!r}).sum().compute().item())"
    )
    told = {"FSSPEC_HTTP": '{"client_kwargs": {"trust_env": true}}', "NETRC": str(netrc)}
    ended = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | told, capture_output=True, text=True, timeout=120
    )
    assert ended.stdout == "64\n", ended.stderr
    assert SECRET not in ended.stdout + ended.stderr


def test_failures_of_blocks_are_noted_without_secrets() -> None:
    from lsd_dask.blockwise.runs import _explain

    said = _explain(RunFailedError(f"GET https://lab.org/c/0?X-Amz-Signature={SECRET}: 403"))
    assert said is not None and SECRET not in said and "https://lab.org/c/0" in said


NAMES = ("[red]em[/red]", "[/]", "a:smile:", "$x$", r"$\frac$", "<b>em</b>", "{{em}}")


@pytest.mark.parametrize("name", NAMES)
def test_names_are_printed_and_drawn_as_they_are(name: str, tmp_path: Path) -> None:
    with console.capture() as captured:
        console.print(f"segmentation: {name}")
    assert captured.get() == f"segmentation: {name}\n"
    volume = np.arange(64, dtype=np.uint32).reshape(1, 8, 8)
    assert viewing.section_panel({name: volume}, tmp_path / "panel.png", title=name).stat().st_size > 0
