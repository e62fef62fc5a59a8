"""What is fitted to a model and kept beside it: written, read back, refused when damaged or of another model or kind."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import pytest
import torch

from reparam.downstream.saved import read_fitted, save_fitted
from reparam.errors import ModelFileError
from reparam.models.sampler import Sampler
from reparam.parts.recipe import Recipe
from reparam.pretrained.config import Config
from reparam.pretrained.image_model import ImageModel


class Facts(TypedDict):
    classes: list[str]


@pytest.fixture
def model(small):
    return ImageModel(Sampler(small((1, 4, 4)).eval()), Config(Recipe(latent="flat(4)"), (1, 4, 4)))


def test_arrays_and_facts_come_back(model, tmp_path):
    path, arrays = tmp_path / "classifier.safetensors", {"weight": np.eye(3), "k": np.array(5)}
    save_fitted(path, "a classifier", model, arrays, {"classes": ["a", "\udce9"]})
    found, facts = read_fitted(path, "a classifier", model, Facts, again="reparam classify")
    assert found.keys() == arrays.keys() and all(np.array_equal(found[k], v) for k, v in arrays.items())
    assert facts == {"classes": ["a", "\udce9"]}


def test_files_that_are_not_of_this_model_are_refused(model, tmp_path):
    path = tmp_path / "classifier.safetensors"
    with pytest.raises(FileNotFoundError):
        read_fitted(path, "a classifier", model, Facts, again="reparam classify")
    save_fitted(path, "a classifier", model, {"w": np.eye(2)}, {"classes": []})
    with pytest.raises(ModelFileError, match=r"does not hold an index\. Write it again with: reparam index"):
        read_fitted(path, "an index", model, Facts, again="reparam index RUN")
    with pytest.raises(ModelFileError, match="classes is missing"):
        save_fitted(path, "a classifier", model, {"w": np.eye(2)}, {})
        read_fitted(path, "a classifier", model, Facts, again="reparam classify")
    with pytest.raises(ModelFileError, match="not finite, in w"):
        save_fitted(path, "a classifier", model, {"w": np.array([np.nan])}, {"classes": []})
        read_fitted(path, "a classifier", model, Facts, again="reparam classify")
    save_fitted(path, "a classifier", model, {"w": np.eye(2)}, {"classes": []})
    with torch.no_grad():
        next(model.network.parameters()).add_(1)
    with pytest.raises(ModelFileError, match="as it was before"):
        read_fitted(path, "a classifier", model, Facts, again="reparam classify")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ModelFileError, match="cannot be read"):
        read_fitted(path, "a classifier", model, Facts, again="reparam classify")
