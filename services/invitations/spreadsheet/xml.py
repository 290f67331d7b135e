"""XML of unknown origin, parsed piece by piece in memory that does not grow with it.

The tree is built in C, and finished children are taken out of it between two pieces; one Python call per tag, as with
expat's own handlers, takes about twice as long [measured]. A DOCTYPE ends the reading: without one there is no entity.
"""

import re
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import NoReturn
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser
from xml.parsers import expat

from services.invitations.spreadsheet.errors import FileDamaged, FileRefused

DEEPEST = 64
MOST_BYTES_PER_CHILD = 4 * 1024 * 1024  # A row of 16,384 columns is half a megabyte.
MOST_PLAIN_BYTES_PER_CHILD = 256 * 1024
ATTRIBUTES = rb'(?: (?!xmlns)[\w:]++="[^"<&]*+")*+'
UTF_8_PROLOG = re.compile(
    rb"""(?:<\?xml version="1\.0"(?: encoding="[Uu][Tt][Ff]-8")?(?: standalone="(?:yes|no)")?\s*\?>\s*)?<(?![?!])"""
)


Groups = tuple[bytes, ...]  # of a match, the first being the whole child


@dataclass(frozen=True)
class Plain:
    """How nearly every program writes the children of one element: matched, they take a third of the parser's time.

    From the first child on that is written otherwise the real parser takes over, so a file is read the same either way.
    """

    parent: bytes
    child: re.Pattern[bytes]
    end: bytes

    def start(self, head: bytes) -> int:
        """Say where the children begin in the first bytes of a document; 0: nowhere that can be trusted."""
        opening = re.compile(b"<" + self.parent + ATTRIBUTES + b">").match(head, max(head.find(b"<" + self.parent), 0))
        return opening.end() if opening and UTF_8_PROLOG.match(head) else 0

    def take(self, waiting: bytes) -> tuple[list[Groups], int, bool]:
        """Match whole children; gives them, where they end, and whether what follows may be plain too."""
        last = waiting.rfind(self.end)
        end = last + len(self.end) if last >= 0 else 0
        found = self.child.findall(waiting, 0, end)
        if sum(len(whole) for whole, *_ in found) == end:  # There is nothing between them.
            return found, end, len(waiting) - end <= MOST_PLAIN_BYTES_PER_CHILD
        found, position = [], 0
        while match := self.child.match(waiting, position, end):
            found.append(match.groups(b""))
            position = match.end()
        return found, position, False


def parse(pieces: Iterable[bytes]) -> Element:
    """Parse a small document whole."""
    tree = _GrowingTree()
    for piece in pieces:
        tree.feed(piece)
    tree.close()
    return tree.root


def children(
    pieces: Iterable[bytes], find_parent: Callable[[Element], Element | None], plain: Plain
) -> Iterator[list[Element] | list[Groups]]:
    """Give the children of one element as they are finished, up to its end; `find_parent` is given the root."""
    tree = _GrowingTree()
    unparsed = yield from _plain_children(tree, iter(pieces), find_parent, plain)
    unfinished_bytes = 0
    for piece in unparsed:
        tree.feed(piece)
        unfinished_bytes += len(piece)
        parent = find_parent(tree.root) if tree.has_root else None
        if parent is not None:
            is_open = parent is tree.root or parent is tree.root[-1]
            finished = parent[:-1] if is_open else parent[:]
            if finished:
                del parent[: len(finished)]
                unfinished_bytes = 0
                yield finished
            if not is_open:
                return
        if unfinished_bytes > MOST_BYTES_PER_CHILD:
            raise FileRefused
    tree.close()
    parent = find_parent(tree.root)
    if parent is not None:
        yield parent[:]


def _plain_children(
    tree: "_GrowingTree", pieces: Iterator[bytes], find_parent: Callable[[Element], Element | None], plain: Plain
) -> Generator[list[Groups], None, Iterator[bytes]]:
    """Give the children that are plain; returns the rest of the document, for the parser that has seen its head."""
    head = next(pieces, b"")
    start = plain.start(head)
    tree.feed(head[:start])
    waiting = head[start:]
    goes_on = tree.has_root and find_parent(tree.root) is not None
    while goes_on:
        found, end, goes_on = plain.take(waiting)
        if found:
            yield found
        piece = next(pieces, b"") if goes_on else b""
        goes_on = goes_on and bool(piece)
        waiting = waiting[end:] + piece
    return chain([waiting], pieces)


def namespace(element: Element) -> str:
    """Give the prefix of the tags of this vocabulary: transitional and strict files differ in nothing else."""
    return element.tag[: element.tag.index("}") + 1] if element.tag.startswith("{") else ""


class _GrowingTree:
    def __init__(self) -> None:
        builder = TreeBuilder()
        # An element of our own above the root: the only way to reach the root before the document is complete.
        self._above = builder.start("above", {})
        self._parser = XMLParser(target=builder)  # noqa: S314 - no DOCTYPE comes through, and every size is counted
        self._prolog: expat.XMLParserType | None = _prolog_parser(self._end_prolog)

    @property
    def has_root(self) -> bool:
        return len(self._above) > 0

    @property
    def root(self) -> Element:
        return self._above[0]

    def feed(self, piece: bytes) -> None:
        if not piece:
            return
        try:
            if self._prolog is not None:
                self._prolog.Parse(piece)
            self._parser.feed(piece)
        except (ParseError, expat.ExpatError, ValueError, LookupError) as error:
            raise FileDamaged from error
        self._refuse_depth()

    def close(self) -> None:
        try:
            self._parser.close()
        except ParseError as error:
            raise FileDamaged from error

    def _end_prolog(self) -> None:
        self._prolog = None

    def _refuse_depth(self) -> None:
        deepest = self._above
        for _ in range(DEEPEST + 1):
            if not len(deepest):
                return
            deepest = deepest[-1]
        raise FileRefused


def _prolog_parser(end_prolog: Callable[[], None]) -> expat.XMLParserType:
    parser = expat.ParserCreate()

    def refuse(*_: object) -> NoReturn:
        raise FileRefused

    def first_element(*_: object) -> None:
        parser.StartElementHandler = None
        end_prolog()

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = first_element
    return parser
