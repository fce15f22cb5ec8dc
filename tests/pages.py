"""A page of HTML as tests read it: its tables, headings and pictures, by the parser of the standard library."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

EMPTY = {"meta", "img", "br", "wbr", "hr", "input", "link", "line"}


@dataclass
class Tag:
    """An element: its name, attributes, text and children."""

    name: str
    attributes: dict[str, str | None]
    children: list[Tag] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All text in it, blanks as one."""
        return " ".join("".join(self.words).split())

    def all(self, *names: str) -> list[Tag]:
        """All elements below it with one of these names, in order."""
        found = []
        for child in self.children:
            if child.name in names:
                found.append(child)
            found += child.all(*names)
        return found


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Tag("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        made = Tag(tag, dict(attrs))
        self.open[-1].children.append(made)
        if tag not in EMPTY:
            self.open.append(made)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Tag(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].name == tag, f"</{tag}> closes <{self.open[-1].name}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        for tag in self.open:
            tag.words.append(data)


@dataclass(frozen=True)
class Page:
    """A page that was read; every element was closed where it must be."""

    root: Tag

    @classmethod
    def of(cls, path: Path) -> Page:
        """Read a file."""
        reader = _Reader()
        reader.feed(path.read_text("utf-8"))
        reader.close()
        assert reader.open == [reader.root], [tag.name for tag in reader.open]
        return cls(reader.root)

    @property
    def text(self) -> str:
        return self.root.text

    def tables(self) -> dict[str, list[dict[str, str]]]:
        """Rows of every table by its caption: the texts of cells by their headings."""
        found = {}
        for table in self.root.all("table"):
            headings = [cell.text for cell in table.all("th")]
            rows = [[cell.text for cell in row.all("td")] for row in table.all("tbody")[0].all("tr")]
            assert all(len(row) == len(headings) for row in rows)
            found[table.all("caption")[0].text] = [dict(zip(headings, row, strict=True)) for row in rows]
        return found

    def table(self, start: str) -> list[dict[str, str]]:
        """Rows of the table whose caption begins so."""
        return next(rows for caption, rows in self.tables().items() if caption.startswith(start))
