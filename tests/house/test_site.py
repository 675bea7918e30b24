"""The documentation site: every page has a place, every public name is documented, and nothing leads nowhere."""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

import invdiff

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(not (ROOT / "mkdocs.yml").exists(), reason="not in a checkout")


def places(node):
    """Every page of a navigation."""
    if isinstance(node, str):
        return [node]
    return [page for one in (node.values() if isinstance(node, dict) else node) for page in places(one)]


def test_every_page_has_a_place():
    found = places(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    assert len(found) == len(set(found))
    assert {p.name for p in (ROOT / "docs").glob("*.md")} <= set(found)
    assert {f"examples/{p.stem}.md" for p in (ROOT / "examples").glob("*.ipynb")} <= set(found)
    assert {f"priors/{p.name}" for p in ROOT.glob("plugins/*/weights/*.md")} <= set(found)


def test_every_public_name_is_on_the_python_page():
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^::: invdiff\.(\w+)$", page, re.M)) == invdiff.__all__


@pytest.fixture
def site():
    pytest.importorskip("mkdocs", reason="the extra 'docs' is not installed")
    spec = importlib.util.spec_from_file_location("make_site", ROOT / "docs" / "make" / "site.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("text", "home", "here", "wanted"),
    [
        ("[a](cli.md#x)", "docs/app.md", "app.md", "[a](cli.md#x)"),
        ("[a\nb](../SECURITY.md)", "docs/app.md", "app.md", "[a\nb](security.md)"),
        ("[a](docs/cli.md)", "README.md", "index.md", "[a](cli.md)"),
        ("![a](docs/images/app.jpg)", "README.md", "index.md", "![a](images/app.jpg)"),
        ("[![a](images/app.jpg)](cli.md)", "docs/app.md", "app.md", "[![a](images/app.jpg)](cli.md)"),
        ("[a](../examples/first_photo.ipynb)", "docs/app.md", "app.md", "[a](examples/first_photo.md)"),
        ("[a](first_photo.ipynb)", "examples/first_photo.ipynb", "examples/first_photo.md", "a"),
        ("[a](../recipes)", "docs/app.md", "app.md", "a"),
        ("[a](https://x.example/) [b](#c)", "docs/app.md", "app.md", "[a](https://x.example/) [b](#c)"),
        ("`x[a](no.md)`\n```python\nx[a](no.md)\n```\n", "docs/app.md", "app.md", None),
    ],
)
def test_links_are_turned(site, text, home, here, wanted):
    assert site.turned(text, home, here, None) == (text if wanted is None else wanted)


def test_other_files_are_at_the_repository_if_it_has_an_address(site):
    turned = site.turned("[a](../recipes)", "docs/app.md", "app.md", "https://host.example/x")
    assert turned == "[a](https://host.example/x/blob/main/recipes)"


@pytest.mark.parametrize("target", ["missing.md", "../../beyond.md"])
def test_a_link_to_nothing_ends_the_build(site, target):
    with pytest.raises(site.PluginError, match=re.escape(f"docs/app.md: no file for the link to {target}")):
        site.turned(f"[a]({target})", "docs/app.md", "app.md", None)


class Read(HTMLParser):
    """A page's anchors, its links, and what a browser would fetch for it."""

    def __init__(self, path):
        super().__init__()
        self.anchors, self.links, self.fetched = set(), [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.anchors |= {named[key] for key in ("id", "name") if named.get(key)}
        if tag == "a" and named.get("href"):
            self.links.append(named["href"])
        if tag in ("script", "img", "iframe", "source") and named.get("src"):
            self.fetched.append(named["src"])
        if tag == "link" and named.get("rel") in ("stylesheet", "icon", "preload"):
            self.fetched.append(named["href"])


@pytest.mark.slow
def test_the_site(tmp_path):
    """Built strictly; then read without mkdocs: links, anchors, names, and where things come from."""
    for package in ("mkdocs", "material", "mkdocstrings_handlers.python"):
        pytest.importorskip(package, reason="the extra 'docs' is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "site"
    pages = {path: Read(path) for path in folder.rglob("*.html") if path.name != "404.html"}
    assert len(pages) == len(places(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    for path, page in pages.items():
        assert [url for url in page.fetched if urlsplit(url).netloc] == [], path
        for link in (*page.links, *page.fetched):
            url = urlsplit(link)
            if url.scheme or url.netloc:
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            target = target / "index.html" if target.is_dir() else target
            assert target.exists(), (path, link)
            assert not url.fragment or target not in pages or unquote(url.fragment) in pages[target].anchors, link
    for style in folder.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?https?:", style.read_text(encoding="utf-8")), style
    whole = (folder / "python" / "index.html").read_text(encoding="utf-8")
    text = " ".join(unescape(re.sub(r"<[^>]*>", "", whole)).split())
    for name in invdiff.__all__:
        assert f"invdiff.{name}" in pages[folder / "python" / "index.html"].anchors, name
        first = inspect.getdoc(getattr(invdiff, name)).split(".")[0].split(":")[0].split("`")[0]
        assert " ".join(first.split()) in text, name
    assert ":class:" not in whole
    assert "../glossary/" in whole
