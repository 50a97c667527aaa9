"""The objects of a Pascal VOC document, taken while it is read: no tree of elements is built."""

from __future__ import annotations

from typing import NamedTuple
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import XMLParser

from data.formats.coco import AnnotationError

SIDES = ("xmin", "ymin", "xmax", "ymax")
ANGLE = "rotate_angle"
_OF_A_BOX = frozenset((*SIDES, ANGLE))


class VocObject(NamedTuple):
    """The texts of one object as written; `box` by element, None where there is no `bndbox`."""

    name: str
    box: dict[str, str] | None


def voc_objects(content: bytes, path: str, *, most: int) -> list[VocObject]:
    """The `object` elements right below the root of a document, in order.

    Of repeated elements the first counts, and of an element the text before its own elements.
    Raises AnnotationError for what is no XML, for entities and references to other files, and for
    more than `most` objects.
    """
    texts: list[str] = []
    collector = _Collector(texts, most)
    parser = XMLParser(
        target=_Texts(texts), forbid_dtd=False, forbid_entities=True, forbid_external=True
    )
    # The guards of defusedxml hang on this parser; only what elements come to is taken over.
    parser.parser.StartElementHandler = collector.start
    parser.parser.EndElementHandler = collector.end
    try:
        parser.feed(content)
        parser.close()
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise AnnotationError(f"{path}: not a readable XML document ({error})") from None
    if collector.count > most:
        raise AnnotationError(f"{path}: more than {most} objects in one image")
    return collector.found


class _Texts:
    """A target that gets the text between tags; its presence also makes unknown entities errors."""

    def __init__(self, texts: list[str]) -> None:
        self.data = texts.append


class _Collector:
    """Follows the depth in a document: 1 the root, 2 objects, 3 name and bndbox, 4 the sides."""

    def __init__(self, texts: list[str], most: int) -> None:
        self.found: list[VocObject] = []
        self.count = 0
        self._texts, self._most = texts, most
        self._depth = 0
        self._in_object = self._in_box = False
        self._name: str | None = None
        self._box: dict[str, str] | None = None
        self._awaited = ""
        """The element whose text is being gathered, if any."""

    def start(self, tag: str, _attributes: object) -> None:
        """An element begins."""
        self._depth = depth = self._depth + 1
        if self._awaited:
            self._take()
        if depth == 4:
            box = self._box
            if self._in_box and tag in _OF_A_BOX and box is not None and tag not in box:
                self._awaited = tag
                self._texts.clear()
        elif depth == 3 and self._in_object:
            if tag == "name" and self._name is None:
                self._awaited = tag
                self._texts.clear()
            elif tag == "bndbox" and self._box is None:
                self._box, self._in_box = {}, True
        elif depth == 2 and tag == "object":
            self._in_object, self._name, self._box = True, None, None

    def end(self, _tag: str) -> None:
        """An element ends."""
        if self._awaited:
            self._take()
        self._depth = depth = self._depth - 1
        if depth == 2:
            self._in_box = False
        elif depth == 1 and self._in_object:
            self._in_object = False
            self.count += 1
            if self.count <= self._most:
                self.found.append(VocObject(self._name or "", self._box))
            self._texts.clear()

    def _take(self) -> None:
        """Keep the text of the awaited element."""
        text = "".join(self._texts)
        if self._awaited == "name":
            self._name = text
        elif self._box is not None:
            self._box[self._awaited] = text
        self._awaited = ""
