"""A browser without a window, that looks at the viewer where nobody does."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

#: Programs that can be such a browser, as they are called on Linux and macOS.
PROGRAMS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)

#: WebGL without a graphics card, and nothing that calls home.
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-device-scale-factor=1",
)


def find_browser() -> str | None:
    """Path of a Chromium or Chrome; None where there is none."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


@contextmanager
def headless(url: str, size: Sequence[int]) -> Iterator[None]:
    """Look at a page with a browser without a window.

    Parameters
    ----------
    url : str
        Of the page.
    size : (width, height)
        Of the window that is not there, in pixels.

    Raises
    ------
    FileNotFoundError
        If no browser is found.
    """
    program = find_browser()
    if program is None:
        raise FileNotFoundError(
            "a screenshot needs Chromium or Chrome, and there is none of these programs: "
            + ", ".join(PROGRAMS[:-1])
            + " (on Debian and Ubuntu: apt-get install chromium)"
        )
    with tempfile.TemporaryDirectory(prefix="lsd-dask-browser-", ignore_cleanup_errors=True) as profile:
        command = [
            program,
            *FLAGS,
            f"--user-data-dir={Path(profile)}",
            f"--window-size={size[0]},{size[1]}",
            url,
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
