"""A page of HTML that needs no other file: headings, tables, pictures, and data that can be unfolded."""

import base64
import html
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from lsd_dask.storage.own_files import GENERATOR


class Page:
    """A page that is written from top to bottom. All text is escaped.

    Parameters
    ----------
    title
        Of the page.
    subtitle
        Below it.

    Examples
    --------
    >>> page = Page("cells.zarr", "today")
    >>> page.text("5 < 6")
    >>> "5 &lt; 6" in page.html()
    True
    """

    def __init__(self, title: str, subtitle: str) -> None:
        self._title = html.escape(title)
        #: Names of the runs that the page is about, by their ledgers.
        self.runs: dict[str, str] = {}
        self._parts = [f"<h1>{self._title}</h1>", f"<p>{html.escape(subtitle)}</p>"]

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._parts.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self._parts.append(f"<p>{html.escape(text)}</p>")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Add a table."""
        head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
        body = "".join(
            f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>\n" for row in rows
        )
        self._parts.append(f"<div><table><tr>{head}</tr>\n{body}</table></div>")

    def picture(self, content: bytes | None, caption: str) -> None:
        """Add a PNG picture; nothing for None."""
        if content is None:
            return
        data = base64.b64encode(content).decode()
        caption = html.escape(caption)
        self._parts.append(
            f'<figure><img alt="{caption}" src="data:image/png;base64,{data}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )

    def row(self, pictures: Mapping[str, bytes]) -> None:
        """Add PNG pictures side by side, by their captions."""
        self._parts.append('<div class="row">')
        for caption, content in pictures.items():
            self.picture(content, caption)
        self._parts.append("</div>")

    def data(self, data: Mapping[str, Any], summary: str | None = None) -> None:
        """Add plain data as YAML, folded up if it has a summary; nothing where there is none."""
        if not data:
            return
        text = html.escape(yaml.safe_dump(_plain(data), sort_keys=True, allow_unicode=True))
        block = f"<pre>{text}</pre>"
        if summary is not None:
            block = f"<details><summary>{html.escape(summary)}</summary>{block}</details>"
        self._parts.append(block)

    def html(self) -> str:
        """The whole page."""
        runs = html.escape(json.dumps(self.runs, sort_keys=True))
        return _FRAME.format(title=self._title, generator=GENERATOR, runs=runs, body="\n".join(self._parts))


_FRAME = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="generator" content="{generator}">
<meta name="lsd-dask-runs" content="{runs}">
<title>{title}</title>
<style>
body {{ max-width: 1150px; margin: 2em auto; padding: 0 1em; font: 15px/1.5 system-ui, sans-serif; }}
h1 {{ font-size: 1.4em; overflow-wrap: anywhere; }}
h2 {{ margin-top: 2em; font-size: 1.15em; border-bottom: 1px solid #ddd; }}
div {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: 0.9em; }}
th, td {{ text-align: left; vertical-align: top; padding: 0.25em 0.8em 0.25em 0; }}
td {{ border-bottom: 1px solid #eee; }}
figure {{ margin: 1em 0; }}
.row {{ display: flex; flex-wrap: wrap; gap: 0 2em; }}
.row figure {{ flex: 1 1 300px; }}
figcaption {{ color: #777; font-size: 0.85em; }}
img {{ max-width: 100%; height: auto; }}
pre {{ background: #f6f6f6; padding: 0.8em; overflow-x: auto; font-size: 0.85em; }}
summary {{ cursor: pointer; color: #555; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def runs_of(page: str) -> dict[str, str]:
    """Names of the runs that a page is about, by their ledgers; none for another page."""
    found = re.search(r'<meta name="lsd-dask-runs" content="([^"]*)">', page)
    return dict(json.loads(html.unescape(found[1]))) if found else {}


def _plain(value: Any) -> Any:
    """Tuples as lists, which YAML has."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value


def duration(seconds: float) -> str:
    """Say how long something took.

    >>> duration(12.34), duration(754), duration(36000)
    ('12.3 s', '12 min 34 s', '10 h 0 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def to_the_second(time: str) -> str:
    """Shorten a time for people.

    >>> to_the_second("2026-11-24T16:15:16.987+00:00")
    '2026-11-24 16:15:16'
    """
    return time[:19].replace("T", " ")
