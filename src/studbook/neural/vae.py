"""Variational autoencoders: the network, its bound and decoding."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from studbook.neural.convolutional import Growing, Shrinking
from studbook.neural.device import precision
from studbook.neural.images import Pictures
from studbook.neural.options import Training

MIN_LOG_SCALE = -5.0
"""Of a normal pixel: a collapsed training set would drive its scale, and with it the likelihood, without bound."""


@dataclass(frozen=True, slots=True)
class Design:
    """How the network is built.

    Attributes:
        channels: 1 for grey pictures.
        height: In pixels.
        width: In pixels.
        latents: Dimensions of the latent space.
        network: Fully connected layers, or convolutions.
        hidden: Units of a fully connected layer (``mlp``), or channels at full size (``conv``).
        likelihood: Of a pixel: Bernoulli, with the pixel as its probability, or normal with one scale for all pixels.
    """

    channels: int
    height: int
    width: int
    latents: int
    network: Literal["mlp", "conv"]
    hidden: int
    likelihood: Literal["bernoulli", "gaussian"]

    @property
    def n_pixels(self) -> int:
        """Numbers in a picture."""
        return self.channels * self.height * self.width


class VaeNetwork(nn.Module):
    """Encoder and decoder. Pictures are ``(n, c, h, w)`` in [-1, 1], latents ``(n, latents)``."""

    def __init__(self, design: Design) -> None:
        super().__init__()
        self.design = design
        shape = (design.channels, design.height, design.width)
        if design.network == "mlp":
            self.encoder: nn.Module = nn.Sequential(nn.Flatten(), nn.Linear(design.n_pixels, design.hidden), nn.SiLU())
            features = design.hidden
            self.decoder: nn.Module = nn.Sequential(
                nn.Linear(design.latents, design.hidden),
                nn.SiLU(),
                nn.Linear(design.hidden, design.n_pixels),
                nn.Unflatten(1, shape),
            )
        else:
            shrinking = Shrinking(*shape, design.hidden)
            self.encoder, features = shrinking, shrinking.features
            self.decoder = Growing(design.latents, *shape, design.hidden)
        self.posterior = nn.Linear(features, 2 * design.latents)
        if design.likelihood == "gaussian":
            self.log_scale = nn.Parameter(torch.zeros(()))

    def encode(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Means and log variances of the latents, ``(n, latents)`` each."""
        mean, log_variance = self.posterior(self.encoder(pictures)).float().chunk(2, dim=1)
        return mean, log_variance

    def surprise(self, pictures: Tensor, latents: Tensor) -> Tensor:
        """Minus the log likelihood of each picture, in nats: ``(n,)``; pixels count from 0 to 1 (Bernoulli), or from -1 to 1."""
        decoded: Tensor = self.decoder(latents).float()
        if self.design.likelihood == "bernoulli":
            misses = functional.binary_cross_entropy_with_logits(decoded, 0.5 * (pictures + 1.0), reduction="none")
            return misses.flatten(1).sum(1)
        scale = self.bounded_log_scale()
        squares = ((pictures - decoded) * torch.exp(-scale)).square().flatten(1).sum(1)
        return 0.5 * squares + self.design.n_pixels * (scale + 0.5 * math.log(2.0 * math.pi))

    def bounded_log_scale(self) -> Tensor:
        """Log standard deviation of a normal pixel."""
        return self.log_scale.clamp(min=MIN_LOG_SCALE)

    def negative_elbo(self, pictures: Tensor, beta: float) -> Tensor:
        """Minus the evidence bound of each picture, in nats, by one draw of its latents: ``(n,)``; the divergence counts ``beta`` times.

        Kingma and Welling 2014, equations 8 and 10, appendix B; Higgins et al. 2017 for ``beta``.
        """
        mean, log_variance = self.encode(pictures)
        latents = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(1)
        return self.surprise(pictures, latents) + beta * divergence

    def decode(self, latents: Tensor, *, draw: bool) -> Tensor:
        """Pictures in [-1, 1] (normal pixels may lie outside): the decoder's means, or drawn from its likelihood."""
        decoded: Tensor = self.decoder(latents).float()
        if self.design.likelihood == "bernoulli":
            probabilities = torch.sigmoid(decoded)
            return 2.0 * (torch.bernoulli(probabilities) if draw else probabilities) - 1.0
        noise = torch.randn_like(decoded) * torch.exp(self.bounded_log_scale()) if draw else 0.0
        return decoded + noise


def mean_bound(network: VaeNetwork, pictures: Pictures, beta: float, rows: Tensor) -> Tensor:
    """Minus the mean bound of the pictures at ``rows``, weighted by record, in nats a pixel; a scalar."""
    # A pixel's share, so that the gradient's norm, which is clipped, doesn't grow with the pictures.
    bounds = network.negative_elbo(pictures.pixels[rows], beta) / network.design.n_pixels
    return (bounds * pictures.weights[rows]).mean()


@torch.no_grad()
def sample(network: VaeNetwork, n: int, options: Training, *, draw: bool, device: torch.device) -> Tensor:
    """``n`` pictures from latents of the prior, on the CPU."""
    parts = [torch.empty(0, network.design.channels, network.design.height, network.design.width)]
    for start in range(0, n, options.batch):
        latents = torch.randn(min(options.batch, n - start), network.design.latents).to(device)
        with precision(options, device):
            parts.append(network.decode(latents, draw=draw).float().cpu())
    return torch.cat(parts)


@torch.no_grad()
def encode(network: VaeNetwork, pixels: Tensor, options: Training) -> Tensor:
    """Means of the latents ``(n, latents)``, on the CPU; always in full precision, since it is a measuring rod."""
    parts = [torch.empty(0, network.design.latents)]
    parts += [network.encode(chunk)[0].cpu() for chunk in torch.split(pixels, options.batch) if len(chunk)]
    return torch.cat(parts)


@torch.no_grad()
def elbo(network: VaeNetwork, pixels: Tensor, options: Training, *, draws: int) -> Tensor:
    """The evidence bound of each picture, averaged over ``draws`` of its latents: ``(n,)`` nats, on the CPU."""
    parts = [torch.empty(0)]
    for chunk in torch.split(pixels, options.batch):
        if len(chunk):
            bounds = [-network.negative_elbo(chunk, 1.0) for _ in range(draws)]
            parts.append(torch.stack(bounds).mean(0).cpu())
    return torch.cat(parts)
