"""Re-export the data loaders: datasets, samplers and loaders live in `data`."""

from data.loaders import (
    Batch,
    DecodedImage,
    EvaluationBatch,
    EvaluationDataset,
    EvaluationLoader,
    TrainingDataset,
    TrainingLoader,
    TrainingSampler,
    collate,
    evaluation_loader,
    stream_images,
    training_loader,
)

__all__ = [
    "Batch",
    "DecodedImage",
    "EvaluationBatch",
    "EvaluationDataset",
    "EvaluationLoader",
    "TrainingDataset",
    "TrainingLoader",
    "TrainingSampler",
    "collate",
    "evaluation_loader",
    "stream_images",
    "training_loader",
]
