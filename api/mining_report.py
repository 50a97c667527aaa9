"""The report of a mining by hand: what passes is counted, the page is written at the end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from inference.journal import Record
from inference.predictions import Prediction, TileMerger
from mining.ranking import Ranking
from mining.scores import Scored
from ops.nms import NmsConfig
from reporting.candidate_report import About, CandidateReport
from utils.logs import duration


class MiningReport:
    """Record of the detections and score breakdowns of all images of a mining."""

    def __init__(self, class_names: Sequence[str], nms: NmsConfig, about: About) -> None:
        self._report = CandidateReport(class_names, mining=True, upright=True)
        self._about, self._began = about, time.monotonic()
        self._merger = TileMerger(nms)
        self._records: dict[int, Record] = {}

    def predictions(self, stream: Iterable[Prediction]) -> Iterator[Prediction]:
        """Pass predictions of images and tiles on, and count the images."""
        for tile in stream:
            whole = self._merger.add(tile)
            if whole is not None:
                self._report.add(whole)
                at, rows = whole.position, whole.detections
                self._records[at] = Record(at, whole.path, whole.size, rows, whole.error, at)
            yield tile

    def scores(self, stream: Iterable[Scored]) -> Iterator[Scored]:
        """Pass scores on before they are ranked, and keep their breakdowns."""
        for scored in stream:
            record = self._records[scored.position]
            self._records[scored.position] = replace(record, scored=scored.to_plain())
            yield scored

    def write(self, folder: Path, ranking: Ranking) -> None:
        """Write `report.html` and sheets of both ends of the ranking; a failure is a warning."""
        seconds = time.monotonic() - self._began
        rows = [*self._about.rows, ("time", duration(seconds))]
        self._report.write(
            folder,
            lambda position: ranking.explained(self._records.get(position)),
            ranking=ranking,
            about=replace(self._about, rows=rows),
            sheets=folder,
            tensorboard=False,
        )
