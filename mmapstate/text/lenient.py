"""What repair reads of YAML that only other programs would have written, and that `reader` refuses."""

from __future__ import annotations

from typing import Any

from mmapstate.text.reader import Reader
from mmapstate.text.source import Leniency, Source
from mmapstate.values import Plain

_MOST_COPIES = 100_000  # of values, for aliases: their number can double with each line


def parse_leniently(text: bytes, told: list[Leniency], file: str = "") -> dict[Any, Plain]:
    """Return the data of a document that `reader.parse` refuses though its YAML is whole; `told` gets what was unusual.

    An alias or a merge key becomes a copy, the last of equal keys counts, a tag that is not known here is left out, a
    date that is none (or a number) is text. Raises `StateFileError` for anything else.
    """
    return _LenientReader(Source(text, file), told).mapping()


class _MergeKey:
    """Stands for a plain ``<<``."""

    def __init__(self, event: Any) -> None:
        self.event = event


class _LenientReader(Reader):
    def __init__(self, source: Source, told: list[Leniency]) -> None:
        super().__init__(source)
        self.told = told
        self.anchors: dict[str, Any] = {}
        self.open: dict[int, str | None] = {}  # the anchors of containers that are not whole yet, by identity
        self.copied = 0

    def _tell(self, event: Any, what: str, *, loses: bool = True) -> None:
        self.told.append(Leniency(event.start_mark.line + 1, what, loses))

    # --- Aliases ----------------------------------------------------------------------------------------------------

    def _scalar(self, event: Any) -> Plain:
        value = super()._scalar(event)
        if event.anchor is not None:
            self.anchors[event.anchor] = value
        return value

    def _opened(self, event: Any, level: int) -> dict[Any, Any] | list[Any]:
        container = super()._opened(event, level)
        self.open[id(container)] = event.anchor
        return container

    def _closed(self, container: Any) -> None:
        if isinstance(container, dict):
            self._merge(container)
        for value in container.values() if isinstance(container, dict) else container:
            if isinstance(value, _MergeKey):
                super()._merge_key(value.event)
        anchor = self.open.pop(id(container))
        if anchor is not None:
            self.anchors[anchor] = container

    def _alias(self, event: Any, level: int) -> Any:
        if event.anchor not in self.anchors:
            raise self._refusal(f"the alias *{event.anchor} is of nothing that is whole", event)
        self._tell(event, f"the alias *{event.anchor} is now a copy of what it stands for", loses=False)
        return self._copy(self.anchors[event.anchor], event, level)

    def _copy(self, value: Any, event: Any, level: int) -> Any:
        self.copied += 1
        if self.copied > _MOST_COPIES:
            raise self._refusal("aliases of aliases without end", event)
        if not isinstance(value, dict | list):
            return value
        self._check_level(level, event)  # what stands for itself is not too deep, its copy may be
        if isinstance(value, dict):
            return {key: self._copy(item, event, level + 1) for key, item in value.items()}
        return [self._copy(item, event, level + 1) for item in value]

    # --- Merge keys -------------------------------------------------------------------------------------------------

    def _merge_key(self, event: Any) -> Any:
        return _MergeKey(event)

    def _merge(self, container: dict[Any, Any]) -> None:
        """Put into a mapping what its merge keys stand for, below its own entries."""
        for merge in [key for key in container if isinstance(key, _MergeKey)]:
            value = container.pop(merge)
            for source in value if isinstance(value, list) else [value]:
                if not isinstance(source, dict):
                    raise self._refusal("a merge key (<<) of what is no mapping", merge.event)
                container.update({key: item for key, item in source.items() if key not in container})

    # --- The rest ---------------------------------------------------------------------------------------------------

    def _check_key(self, key: Any, container: dict[Any, Any], event: Any) -> None:
        if isinstance(key, _MergeKey):
            self._tell(event, "what the merge key (<<) stands for is now written out", loses=False)
            return
        if isinstance(key, dict | list):  # by an alias
            raise self._refusal("a mapping or sequence cannot be a key", event)
        if key in container:
            self._tell(event, f"the key {key!r} stands twice in one mapping, the last of them counts")
            del container[key]
        super()._check_key(key, container, event)

    def _unknown_tag(self, event: Any, kept: str) -> None:
        self._tell(event, f"the tag {event.tag} is left out, {kept} is kept")

    def _misread(self, error: Exception, event: Any) -> Plain:
        self._tell(event, f"{event.value[:40]!r} cannot be read ({error}): it is text now")
        return str(event.value)
