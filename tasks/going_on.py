"""Scores that stream to disk, those that an earlier run of the task has left there first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from inference.journal import Entry, Journal
from inference.predictions import Prediction
from mining.scores import Scored

OnImage = Callable[[Prediction], object]
"""Told of each image, once all of it has been looked at."""


class Writing:
    """Images of a task as they are seen and scored: told to watchers, and written down by `add`.

    Predictions are held, without pixels, from when they are seen until they are scored. Images of
    a section of `section` candidates are seen together.
    """

    def __init__(
        self, add: Callable[[Entry], object], watchers: Sequence[OnImage], *, section: int
    ) -> None:
        self._add = add
        self._watchers = watchers
        self._waiting: dict[int, Entry] = {}
        self._section = section
        self._number, self._seen = 0, 0

    def watch(self, whole: Prediction) -> None:
        """Take note of an image that has been seen whole."""
        bare = replace(whole, view=None)
        number = bare.position // self._section
        if number != self._number:
            self._number, self._seen = number, number * self._section
        for told in self._watchers:
            told(bare)
        self._waiting[bare.position] = Entry(
            bare.position, bare.path, bare.size, bare.detections, bare.error, self._seen
        )
        self._seen += 1

    def scored(self, scores: Iterable[Scored]) -> Iterator[Scored]:
        """The same scores, written down; `watch` has been called for the image of each."""
        for scored in scores:
            entry = self._waiting.pop(scored.position)
            self._add(replace(entry, scored=_plain(scored)))
            yield scored._replace(breakdown=None)  # it is on disk

    def unscored(self, images: Iterable[Prediction]) -> Iterator[int]:
        """The positions of images without scores, watched and written down."""
        for whole in images:
            self.watch(whole)
            self._add(self._waiting.pop(whole.position))
            yield whole.position


class Stream(Writing):
    """All images of a task: those that a log has of an earlier run, then the rest."""

    def __init__(self, log: Journal, watchers: Sequence[OnImage]) -> None:
        super().__init__(log.add, watchers, section=log.section)
        self._log = log

    def scores(self, rest: Callable[[int], Iterator[Scored]]) -> Iterator[Scored]:
        """One `Scored` an image: from disk, then those of `rest(first)`, which calls `watch` for
        every image from the position `first` on before it yields its score.
        """
        for section in self._log.kept():
            self._watch_again(section)
            for entry in section:
                yield _scored_of(entry)
        yield from self.scored(rest(self._log.done))

    def seen(self, rest: Callable[[int], Iterator[Prediction]]) -> Iterator[int]:
        """Images of a task without scores, counted: from disk, then those of `rest(first)`."""
        for section in self._log.kept():
            self._watch_again(section)
            yield from (entry.position for entry in section)
        yield from self.unscored(rest(self._log.done))

    def _watch_again(self, section: Sequence[Entry]) -> None:
        for entry in sorted(section, key=lambda one: one.seen):
            for told in self._watchers:
                told(entry.prediction())


def _plain(scored: Scored) -> dict[str, object]:
    """Plain values that bring back a score bit by bit; of the class vector what is not 0."""
    values: dict[str, object] = {"score": scored.score}
    if scored.empty:
        values["empty"] = True
    if scored.breakdown is not None:
        values["breakdown"] = scored.breakdown
    if scored.class_vector is not None:
        vector = scored.class_vector
        shown = {str(c): float(vector[c]) for c in np.flatnonzero(vector).tolist()}
        values["classes"] = [len(vector), str(vector.dtype), shown]
    if scored.feature is not None:
        values["feature"] = scored.feature.astype(int).tolist()
    return values


def _scored_of(entry: Entry) -> Scored:
    values = entry.scored or {}
    score, feature = values.get("score"), values.get("feature")
    return Scored(
        entry.position,
        entry.path,
        None if score is None else float(str(score)),
        empty=bool(values.get("empty")),
        class_vector=_vector_of(values),
        feature=None if feature is None else np.array(feature, np.float32),
    )


def _vector_of(values: Mapping[str, object]) -> np.ndarray | None:
    stored = values.get("classes")
    if not isinstance(stored, list):
        return None
    count, kind, shown = stored
    vector = np.zeros(count, np.dtype(kind))
    for of_class, value in shown.items():
        vector[int(of_class)] = value
    return vector
