"""A hook of MkDocs: pages and files from outside docs/ become part of the site.

README.md is its first page. Other documents from outside are in `project/`, and other files that a
page links to, such as an example or a table of results, in `files/`. Links between them work in the
repository as written; here they get the addresses of the site. With `--strict` a link that leads
nowhere is an error.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"(\]\()([^)\s]+)(\))")
_CODE = re.compile(r"(^ *```.*?^ *```|`[^`\n]+`)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the documents at the top, and the files that documents link to."""
    own = [page for page in files if page.is_documentation_page()]
    sources = {f"docs/{page.src_uri}": Path(page.abs_src_path or "") for page in own}
    sources |= {path.name: path for path in sorted(_ROOT.glob("*.md"))}
    linked = {target for name, path in sources.items() for target in _targets(name, path)}
    for name in sorted(linked | {path.name for path in _ROOT.glob("*.md")}):
        path = _ROOT / name
        if path.is_file() and not name.startswith("docs/"):
            files.append(File.generated(config, _place(name), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Gives the links of a page the addresses of the site."""
    here = _source(page.file)

    def rewritten(match: re.Match[str]) -> str:
        link, mark, anchor = match[2].partition("#")
        if not link or re.match(r"\w+:", link):
            return match[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(here), link))
        if (_ROOT / target).is_dir():
            return f"{match[1]}{posixpath.relpath(_FOLDERS, _folder(page))}{match[3]}"
        address = posixpath.relpath(_place(target), _folder(page))
        return f"{match[1]}{address}{mark}{anchor}{match[3]}"

    parts = _CODE.split(markdown)
    # Every second part is code.
    parts[::2] = [_LINK.sub(rewritten, part) for part in parts[::2]]
    return "".join(parts)


_FOLDERS = "project/WORKSPACE.md"
"""Where a link to a folder leads: the page that lists folders."""


def _folder(page: Page) -> str:
    return posixpath.dirname(page.file.src_uri) or "."


def _source(file: File) -> str:
    """Where a page is in the repository."""
    path = Path(file.abs_src_path or "")
    return path.relative_to(_ROOT).as_posix()


def _place(name: str) -> str:
    """Where a file of the repository is in the site."""
    if name == "README.md":
        return "index.md"
    if name.startswith("docs/"):
        return name.removeprefix("docs/")
    return f"{'project' if name.endswith('.md') else 'files'}/{name}"


def _targets(name: str, path: Path) -> set[str]:
    """The files of the repository that a document links to."""
    text = "".join(_CODE.split(path.read_text())[::2])
    links = [match[2].partition("#")[0] for match in _LINK.finditer(text)]
    inside = [link for link in links if link and not re.match(r"\w+:", link)]
    return {posixpath.normpath(posixpath.join(posixpath.dirname(name), link)) for link in inside}
