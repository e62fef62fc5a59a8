"""Pythae 0.1.2: its models and its trainer, as its documentation has them."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("WANDB_DISABLED", "true")

import torch
from pythae.data.datasets import BaseDataset, DatasetOutput
from pythae.models import VAE as PythaeVAE
from pythae.models import VQVAE, VAEConfig, VQVAEConfig
from pythae.models.nn.benchmarks.mnist import (
    Decoder_ResNet_AE_MNIST,
    Decoder_ResNet_VQVAE_MNIST,
    Encoder_ResNet_VAE_MNIST,
    Encoder_ResNet_VQVAE_MNIST,
)
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from torch import Tensor, nn

from reparam.data.stream import to_batch
from reparam.models.vae import VAE
from reparam.runtime import cores
from reparam.trainer.assembly import Assembly

from .networks import RECIPES, images_for
from .ours import measured, quickest, rate, split

logging.disable(logging.CRITICAL)


def model_of(name: str) -> nn.Module:
    """Of the network `name`; its MLP is the default one."""
    if name == "vq":
        config = VQVAEConfig(input_dim=(1, 28, 28), latent_dim=16, num_embeddings=512)
        return VQVAE(config, encoder=Encoder_ResNet_VQVAE_MNIST(config), decoder=Decoder_ResNet_VQVAE_MNIST(config))
    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=16, reconstruction_loss="bce")
    if name == "mlp":
        return PythaeVAE(config)
    return PythaeVAE(config, encoder=Encoder_ResNet_VAE_MNIST(config), decoder=Decoder_ResNet_AE_MNIST(config))


class DynamicallyBinarized(torch.utils.data.Dataset):
    """Black and white, drawn anew each time."""

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int):
        return DatasetOutput(data=torch.bernoulli(self.x[i]))


def _trainer(model: nn.Module, x: Tensor, folder: str, *, batch: int, lr: float, epochs: int, dynamic: bool, seed: int = 8
             ) -> BaseTrainer:
    data = DynamicallyBinarized(x) if dynamic else BaseDataset(x, torch.ones(len(x)))
    config = BaseTrainerConfig(output_dir=folder, num_epochs=epochs, learning_rate=lr, per_device_train_batch_size=batch,
                               steps_saving=None, no_cuda=True, optimizer_cls="Adam", seed=seed)
    return BaseTrainer(model=model, train_dataset=data, training_config=config)


def speed(name: str, data: str, batch: int) -> tuple[dict[str, Any], Callable[[], float]]:
    """Images a second of the trainer's own epoch over 2,048 or 16,384 images, without what comes before and after,
    with one thread or all, whichever is quicker."""
    n = 16_384 if name == "mlp" else 2_048
    model = model_of(name)
    folder = tempfile.mkdtemp()
    trainer = _trainer(model, to_batch(images_for(name, data)[:n]), folder, batch=batch, lr=1e-4, epochs=1, dynamic=False)
    trainer.prepare_training()

    def step() -> int:
        trainer.train_step(1)
        return n

    threads, = quickest({(threads,): step for threads in {1, cores()}})
    told = {"precision": "float32", "threads": threads, "parameters": sum(p.numel() for p in model.parameters())}
    return told, lambda: rate(step)


SETTINGS: dict[str, dict[str, Any]] = {"a": {"batch": 64, "lr": 1e-4, "dynamic": False},
                                       "b": {"batch": 128, "lr": 1e-3, "dynamic": True}}
"""(a) its defaults; (b) with a learning rate that is tuned, and binary images as the ELBO is measured on."""


def trained(recipe: str, data: str, held_out: int, epochs: int, seed: int) -> tuple[dict[str, Any], Callable[[], Any]]:
    """Its whole call of `train`, with as many threads as are quicker for it, and what the model reaches."""
    told, _ = speed("mlp", data, SETTINGS[recipe]["batch"])
    images, x = split(data, held_out)

    def run() -> dict[str, Any]:
        torch.manual_seed(seed)
        model = model_of("mlp")
        with tempfile.TemporaryDirectory() as folder:
            trainer = _trainer(model, to_batch(images), folder, epochs=epochs, seed=seed, **SETTINGS[recipe])
            began, computed = time.perf_counter(), time.process_time()
            trainer.train()
            seconds, processor_seconds = time.perf_counter() - began, time.process_time() - computed
        return {"seconds": round(seconds, 2), "processor_seconds": round(processor_seconds, 2), "epochs": epochs, "precision": "float32",
                "threads": told["threads"], **measured(as_ours(model), x)}

    return {}, run


PLACES = {"encoder.layers.0.0": "encoder.net.1", "encoder.embedding": "latent.posterior.loc.1",
          "encoder.log_var": "latent.posterior.log_var.1", "decoder.layers.0.0": "decoder.net.1",
          "decoder.layers.1.0": "decoder.net.3"}
"""Where each layer of its MLP stands in ours."""


def as_ours(model: nn.Module) -> VAE:
    """Its MLP's weights in our model of the same network, which has no bound on log σ²; to be measured by the same function."""
    ours = Assembly(RECIPES["mlp"], (1, 28, 28)).model
    ours.latent.posterior.bound = 1e6
    theirs = model.state_dict()
    ours.load_state_dict({f"{place}.{kind}": theirs[f"{name}.{kind}"] for name, place in PLACES.items()
                          for kind in ("weight", "bias")}, strict=False)
    return ours
