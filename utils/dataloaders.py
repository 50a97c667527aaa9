"""Re-export the data loaders: datasets, samplers and loaders live in `data`."""

from data.datasets import Batch as Batch
from data.datasets import EvaluationBatch as EvaluationBatch
from data.datasets import TrainingDataset as TrainingDataset
from data.datasets import collate as collate
from data.loaders import EvaluationDataset as EvaluationDataset
from data.loaders import EvaluationLoader as EvaluationLoader
from data.loaders import LoaderConfig as LoaderConfig
from data.loaders import TrainingLoader as TrainingLoader
from data.loaders import evaluation_loader as evaluation_loader
from data.loaders import training_loader as training_loader
from data.samplers import TrainingSampler as TrainingSampler
from data.stream import DecodedImage as DecodedImage
from data.stream import stream_images as stream_images
