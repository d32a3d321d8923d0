"""The documentation as a site builds without a warning; its pages load nothing from elsewhere."""

import html.parser

import pytest

from tests.mutate import ROOT

pytest.importorskip("mkdocs", reason="needs the extra docs")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    directory = tmp_path_factory.mktemp("site")
    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(directory))
    assert config.strict
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_MKDOCS_2_WARNING", "1")
        config.plugins.on_startup(command="build", dirty=False)
        build(config)
    return directory


class _Loaded(html.parser.HTMLParser):
    """What a browser fetches to show a page."""

    def __init__(self):
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attributes):
        if tag == "a":
            return
        self.addresses += [v for name, v in attributes if name in ("src", "href", "srcset") and v]


def test_every_document_is_a_page(site):
    documents = [path.relative_to(ROOT) for path in (ROOT / "docs").rglob("*.md")]
    assert documents
    for path in documents:
        assert (site / path.relative_to("docs").with_suffix(".html")).exists(), path


def test_pages_load_nothing_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    for page in pages:
        loaded = _Loaded()
        loaded.feed(page.read_text())
        assert loaded.addresses, page
        for address in loaded.addresses:
            assert "//" not in address, f"{page.name}: {address}"
            target = (site if address.startswith("/") else page.parent) / address.lstrip("/")
            assert target.exists() or "?" in address, f"{page.name}: {address}"
