"""What every page of the site has around its content, and how data reach its scripts.

Results may be a stranger's. Their texts reach a page in two ways: escaped, in HTML that is written
here, or as JSON in a script of data, which pages put into the document as text only. The content
security policy runs the site's own files and nothing else, and loads nothing from anywhere.
"""

import json
import math
import re
from collections.abc import Sequence
from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

# File and name of the pages in the navigation.
PAGES = {
    "index.html": "Leaderboard",
    "curves.html": "Curves",
    "costs.html": "Costs",
    "compare.html": "Compare",
    "tables.html": "Paper tables",
}
SCRIPTS, STYLES, VENDOR = "scripts", "styles", "vendor"


def page(
    name: str,
    title: str,
    main: str,
    *,
    site: str,
    scripts: Sequence[str] = (),
    styles: Sequence[str] = (),
    pages: Sequence[str] = tuple(PAGES),
) -> str:
    """A whole page.

    Args:
        name: its path below the site's root; pages deeper down reach the rest through `../`.
        title: heading and title.
        main: HTML of what stands below the heading.
        site: title of the whole site.
        scripts: paths of scripts below the root, in the order in which they run.
        styles: paths of style sheets beside the one of all pages.
        pages: those of `PAGES` that the site has.
    """
    root = "../" * name.count("/")
    sheets = [*styles, f"{STYLES}/base.css"]
    return Template(source("pages/shell.html")).substitute(
        root=root,
        title=escape(title if title == site else f"{title} · {site}"),
        heading=escape(title),
        navigation="\n".join(_link(root, file, file == name) for file in pages),
        styles="\n".join(f'<link rel="stylesheet" href="{root}{path}">' for path in sheets),
        # The first one sets light or dark before anything is drawn; the others need the document.
        scripts="\n".join(
            [
                f'<script src="{root}{SCRIPTS}/base.js"></script>',
                *(f'<script src="{root}{path}" defer></script>' for path in scripts),
            ]
        ),
        main=main,
    )


def _link(root: str, file: str, here: bool) -> str:
    current = ' aria-current="page"' if here else ""
    return f'<a href="{root}{file}"{current}>{PAGES[file]}</a>'


@cache
def source(name: str) -> str:
    """The text of a file that lies beside this one."""
    return files("leaderboards.site").joinpath(name).read_text(encoding="utf-8")


def data_script(name: str, value: Any) -> str:
    """A script that puts `value` where pages find it under `name`."""
    return script_of(name, json.dumps(value, separators=(",", ":")))


def script_of(name: str, text: str) -> str:
    """The same from the value's JSON, in which the numbers that JSON does not know become null.

    JSON in a string, not a literal: a key `__proto__` stays a key, and large data parse faster.
    """
    if "NaN" in text or "Infinity" in text:
        text = json.dumps(_finite(json.loads(text)), separators=(",", ":"))
    for character, written in (("\\", "\\\\"), ("'", "\\'"), ("<", "\\x3c"), ("\n", "\\n")):
        text = text.replace(character, written)
    return f"sslbench.put({json.dumps(name)}, JSON.parse('{text}'));\n"


def _finite(value: Any) -> Any:
    """The value with null for the numbers that JSON does not know."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def prose(text: str) -> str:
    """A text, escaped, with what stands between backticks as code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))


def breakable(text: str) -> str:
    """A name or spec, escaped, that may wrap before a bracket and behind what joins its parts."""
    return re.sub(r"([,+_/:-]|&amp;)", r"\1<wbr>", escape(text)).replace("[", "<wbr>[")
