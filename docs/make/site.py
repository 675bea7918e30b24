"""What the documentation site needs beyond docs/: a hook of mkdocs, named in mkdocs.yml.

    pip install -e '.[docs]' && mkdocs build --strict

The pages are written for the repository: they link to model cards, notebooks and SECURITY.md where those lie. Here
such files become pages of the site too, and every link is turned to where its target stands there. What is no page
goes to the repository's address, which CITATION.cff has, or stays text where it has none. A target that does not exist
ends the build.
"""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any

import yaml
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
# By path in the repository, the page of the site.
BESIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    **{p.relative_to(ROOT).as_posix(): f"priors/{p.name}" for p in sorted(ROOT.glob("plugins/*/weights/*.md"))},
    **{f"examples/{p.name}": f"examples/{p.stem}.md" for p in sorted(ROOT.glob("examples/*.ipynb"))},
}
HOMES = {page: home for home, page in BESIDE.items()}
CODE = r"^ *```.*?^ *```|``.*?``|`[^`]*`"
LINK = r"\[(?P<text>(?:[^\[\]]|\[[^\[\]]*\])*)\]\((?P<target>[^()\s]+)\)"


def on_files(files: Files, config: Any) -> Files:
    for home, page in BESIDE.items():
        text = (ROOT / home).read_text(encoding="utf-8")
        content = notebook(text, home) if home.endswith(".ipynb") else text
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    here = page.file.src_uri
    return turned(markdown, HOMES.get(here, f"docs/{here}"), here, address())


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Docstrings are reStructuredText in two small ways: roles, and ``::`` before code."""
    html = re.sub(r":(?:class|func|meth|data|mod):<code>~?", "<code>", html)
    return re.sub(r":: *</p>", ":</p>", html).replace("<p>:</p>", "")


def address() -> str | None:
    """Where the repository is to be seen, if anywhere."""
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8")).get("repository-code")
    return str(found).rstrip("/") if found else None


def notebook(text: str, home: str) -> str:
    """A notebook's cells as Markdown: it is kept without outputs."""
    name = posixpath.basename(home)
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
    parts.insert(1, f"*The notebook [{name}]({name}) of the checkout; run it to see its pictures.*")
    return "\n\n".join(parts) + "\n"


def turned(markdown: str, home: str, here: str, repository: str | None) -> str:
    """``markdown`` with links for the site.

    ``home`` is the file's path in the repository, ``here`` its page's, ``repository`` the address or None. Code is left
    alone. Raises ``PluginError`` for a target that is not in the repository.
    """

    def one(match: re.Match[str]) -> str:
        target = match["target"]
        if match["text"] is None or re.match(r"[a-z]+:|#", target):  # code, or not a file
            return match[0]
        path, _, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(home), path))
        if path.startswith("../") or not (ROOT / path).exists():
            raise PluginError(f"{home}: no file for the link to {target}")
        # Pictures lie in links' texts: [![...](...)](...).
        text = re.sub(LINK, one, match["text"])
        anchor = f"#{anchor}" if anchor else ""
        page = BESIDE.get(path) or (path[len("docs/") :] if path.startswith("docs/") else None)
        if page == here and path.endswith(".ipynb"):
            page = None  # a page of a notebook means the file itself
        if page:
            return f"[{text}]({posixpath.relpath(page, posixpath.dirname(here) or '.')}{anchor})"
        return f"[{text}]({repository}/blob/main/{path}{anchor})" if repository else text

    return re.sub(f"{CODE}|{LINK}", one, markdown, flags=re.M | re.S)
