"""NMS inside an ONNX file: the graph continues from decoded rows to detections.

The output `detections` is float32 [b, max_detections, 6]: x1, y1, x2, y2 in input pixels, score,
class, by falling score, and rows of zeros where an image has fewer; TensorRT plans its memory by
shapes. The thresholds and the limit are constants: ONNX Runtime warns about inputs with defaults
whenever a file is opened.

The graph does what `ops/nms.py` does (best class only): boxes of different classes are moved
apart by v7.0's offset, so one pass suppresses within each class and the limit counts all classes
together. A separate test of the objectness is not needed, for no score exceeds it. Only the limit
of 30000 candidates is missing; NMS never goes that far down before `max_detections` are found,
unless nearly all of them overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import onnx
import onnx.compose
import onnx.parser
import torch

from exporting.verify import Array, ParityError
from ops.nms import CLASS_OFFSET, NmsConfig, float32_below, non_max_suppression

ROWS = "output0"
DETECTIONS = "detections"
SCORE_THRESHOLD = "score_threshold"
IOU_THRESHOLD = "iou_threshold"
CHECKED_CANDIDATES = 200
"""Rows that enter NMS in the check: enough for many overlaps and a full output."""

Detect = Callable[[Array, Mapping[str, Array]], tuple[Array, Array]]
"""Images and thresholds by name to decoded rows and detections of one run."""

# Only operators and forms that stayed the same from operator set 11 on.
_GRAPH = """
<ir_version: {ir}, opset_import: ["" : {opset}]>
suppression (float[batch, rows, outputs] decoded) => (float[batch, {limit}, 6] {detections})
<float[1] {iou_name} = {{{iou}}}, float[1] {score_name} = {{{confidence}}}>
{{
  zero = Constant <value: tensor = float {{0}}> ()
  half = Constant <value: tensor = float {{0.5}}> ()
  offset_of_a_class = Constant <value: tensor = float {{{offset}}}> ()
  below_every_score = Constant <value: tensor = float {{-1}}> ()
  one = Constant <value: tensor = int64[1] {{1}}> ()
  most = Constant <value: tensor = int64[1] {{{limit}}}> ()
  last_axis = Constant <value: tensor = int64[1] {{2}}> ()
  column_0 = Constant <value: tensor = int64[1] {{0}}> ()
  column_2 = Constant <value: tensor = int64[1] {{2}}> ()
  column_4 = Constant <value: tensor = int64[1] {{4}}> ()
  column_5 = Constant <value: tensor = int64[1] {{5}}> ()
  column_end = Constant <value: tensor = int64[1] {{1000000}}> ()
  image_and_row = Constant <value: tensor = int64[2] {{0, 2}}> ()
  to_table = Constant <value: tensor = int64[2] {{0, -1}}> ()
  to_column = Constant <value: tensor = int64[3] {{0, -1, 1}}> ()
  six_times = Constant <value: tensor = int64[3] {{1, 1, 6}}> ()
  margin_of_scores = Constant <value: tensor = int64[4] {{0, 0, 0, {limit}}}> ()
  margin_of_rows = Constant <value: tensor = int64[6] {{0, 0, 0, 0, {limit}, 0}}> ()

  centre = Slice (decoded, column_0, column_2, last_axis)
  size = Slice (decoded, column_2, column_4, last_axis)
  objectness = Slice (decoded, column_4, column_5, last_axis)
  classes = Slice (decoded, column_5, column_end, last_axis)
  half_size = Mul (size, half)
  low = Sub (centre, half_size)
  high = Add (centre, half_size)
  corners = Concat <axis = 2> (low, high)
  scores = Mul (classes, objectness)
  score, label = TopK <axis = 2> (scores, one)
  label_number = Cast <to = 1> (label)

  shift = Mul (label_number, offset_of_a_class)
  apart = Add (corners, shift)
  candidates = Transpose <perm = [0, 2, 1]> (score)
  selected = NonMaxSuppression (apart, candidates, most, {iou_name}, {score_name})

  places = Gather <axis = 1> (selected, image_and_row)
  score_table = Reshape (score, to_table)
  table_shape = Shape (score_table)
  nothing = Expand (below_every_score, table_shape)
  chosen = GatherND (score_table, places)
  kept = ScatterND (nothing, places, chosen)
  kept_padded = Pad (kept, margin_of_scores, below_every_score)
  best, order = TopK <axis = 1> (kept_padded, most)

  table = Concat <axis = 2> (corners, score, label_number)
  table_padded = Pad (table, margin_of_rows, zero)
  order_column = Reshape (order, to_column)
  order_of_six = Tile (order_column, six_times)
  picked = GatherElements <axis = 1> (table_padded, order_of_six)
  is_kept = Greater (best, zero)
  is_kept_column = Reshape (is_kept, to_column)
  {detections} = Where (is_kept_column, picked, zero)
}}
"""


def append_nms(model: onnx.ModelProto, nms: NmsConfig) -> onnx.ModelProto:
    """Return a model whose output `output0` is replaced by `detections`; metadata is lost."""
    (opset,) = (entry.version for entry in model.opset_import if entry.domain == "")
    text = _GRAPH.format(
        ir=model.ir_version,
        opset=opset,
        iou_name=IOU_THRESHOLD,
        score_name=SCORE_THRESHOLD,
        iou=repr(float32_below(nms.iou)),
        confidence=repr(float(np.float32(nms.confidence))),
        limit=nms.max_detections,
        offset=0 if nms.class_agnostic else CLASS_OFFSET,
        detections=DETECTIONS,
    )
    tail = onnx.parser.parse_model(text)
    _prefix(tail.graph, "suppression/")
    joined: onnx.ModelProto = onnx.compose.merge_models(model, tail, io_map=[(ROWS, "decoded")])
    del joined.opset_import[:]
    joined.opset_import.extend(model.opset_import)
    # The name of the batch, or its number, as the network's own input has it.
    batch = model.graph.input[0].type.tensor_type.shape.dim[0]
    joined.graph.output[0].type.tensor_type.shape.dim[0].CopyFrom(batch)
    return joined


def _prefix(graph: onnx.GraphProto, prefix: str) -> None:
    """Prefix the names of nodes and of the values between them.

    `onnx.compose.add_prefix` also prefixes what it was asked to leave, before onnx 1.17.
    """
    ends = {value.name for value in graph.output}
    between = {name for node in graph.node for name in node.output} - ends
    for node in graph.node:
        node.name = prefix + (node.name or node.output[0])
        node.input[:] = [prefix + name if name in between else name for name in node.input]
        node.output[:] = [prefix + name if name in between else name for name in node.output]


def with_open_thresholds(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a twin of a model with NMS that also outputs its rows and takes thresholds."""
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    kind = onnx.TensorProto.FLOAT
    twin.graph.output.append(onnx.helper.make_tensor_value_info(ROWS, kind, ["b", "n", "o"]))
    for name in (SCORE_THRESHOLD, IOU_THRESHOLD):
        twin.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, [1]))
    return twin


def check_nms(detect: Detect, images: Array, nms: NmsConfig) -> Array:
    """Compare `detections` with `ops/nms.py` on the rows of the same run; return the decoded rows.

    `images` is [b, 3, h, w]. Checked at the file's own thresholds, and at a confidence so low that
    some rows pass whatever the network detects. Raises `ParityError`.
    """
    rows, found = detect(images, {})
    _compare(found, rows, nms)
    # About `CHECKED_CANDIDATES` rows per image exceed it.
    scores = np.sort((rows[..., 5:] * rows[..., 4:5]).max(axis=-1).ravel())
    wanted = min(CHECKED_CANDIDATES * len(rows), len(scores))
    lower = replace(nms, confidence=float(np.clip(scores[-wanted], 0, 1)))
    again, found = detect(images, {SCORE_THRESHOLD: np.array([lower.confidence], np.float32)})
    _compare(found, again, lower)
    return rows


def _compare(found: Array, rows: Array, nms: NmsConfig) -> None:
    as_stored = replace(nms, confidence=float(np.float32(nms.confidence)))
    expected = non_max_suppression(torch.from_numpy(rows), as_stored)
    for image, kept in zip(found, expected, strict=True):
        padded = np.zeros((nms.max_detections, 6), np.float32)
        padded[: len(kept.rows)] = kept.rows.numpy()
        if image.shape != padded.shape or not np.allclose(image, padded, rtol=1e-6, atol=1e-4):
            raise ParityError("its NMS keeps other detections than ops/nms.py")
