"""Re-export the data loaders: datasets, samplers and loaders live in `data`."""

from data.datasets import Batch, EvaluationBatch, TrainingDataset, collate
from data.loaders import (
    EvaluationDataset,
    EvaluationLoader,
    LoaderConfig,
    TrainingLoader,
    evaluation_loader,
    training_loader,
)
from data.samplers import TrainingSampler
from data.stream import DecodedImage, stream_images

__all__ = [
    "Batch",
    "DecodedImage",
    "EvaluationBatch",
    "EvaluationDataset",
    "EvaluationLoader",
    "LoaderConfig",
    "TrainingDataset",
    "TrainingLoader",
    "TrainingSampler",
    "collate",
    "evaluation_loader",
    "stream_images",
    "training_loader",
]
