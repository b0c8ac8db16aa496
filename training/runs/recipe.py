"""Everything that decides what training makes: parsed once at the command line, written to log and manifest."""

from enum import IntEnum
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from noisevote.noise_op.contract import NoiseKind


class Recipe(BaseModel):
    """How one variant is trained. The same recipe gives the same weights on the same machine and thread count."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    network: Annotated[str, Field(description="name of the network")] = "mnist-cnn"
    noise: Annotated[NoiseKind, Field(description="noise kind, multiplicative or additive")] = "multiplicative"
    sigma_train: Annotated[float, Field(ge=0, le=10, description="sigma of the noise that is injected")] = 0.8
    ramp_epochs: Annotated[float, Field(ge=0, description="epochs in which sigma grows linearly from 0")] = 1.0
    epochs: Annotated[int, Field(ge=1, description="passes over the training images")] = 15
    batch: Annotated[int, Field(ge=2, description="images per step")] = 128
    lr: Annotated[float, Field(gt=0, description="largest learning rate of the one-cycle schedule")] = 4e-3
    clip_norm: Annotated[float, Field(ge=0, description="largest norm of a step's gradient; 0: any")] = 0.0
    optimizer: Annotated[Literal["adamw", "sgd"], Field(description="adamw, or sgd with Nesterov momentum")] = "adamw"
    weight_decay: Annotated[float, Field(ge=0, description="weight decay of the products' weights")] = 0.01
    loss_power: Annotated[float, Field(ge=0, le=1, description="q of the loss (1 - p^q)/q; 0: cross entropy")] = 0.0
    label_smoothing: Annotated[
        float, Field(ge=0, lt=1, description="share of the target spread over classes, with cross entropy")
    ] = 0.0
    loss_votes: Annotated[int, Field(ge=1, description="votes whose mean probability the loss is of")] = 1
    output_votes: Annotated[
        int, Field(ge=1, description="draws of the last product's noise in each of them, averaged with them")
    ] = 1
    shift_pixels: Annotated[float, Field(ge=0, description="augmentation: shift up to this many pixels")] = 2.0
    rotate_degrees: Annotated[float, Field(ge=0, le=180, description="augmentation: rotation up to this")] = 10.0
    scale: Annotated[float, Field(ge=0, lt=1, description="augmentation: relative change of size up to this")] = 0.1
    crop_pixels: Annotated[int, Field(ge=0, description="augmentation: whole-pixel shift, edges mirrored")] = 0
    flip: Annotated[bool, Field(description="augmentation: mirror every other image, left to right")] = False
    average_decay: Annotated[
        float, Field(ge=0, lt=1, description="decay of the moving average of weights; 0: none")
    ] = 0.998
    norm_batches: Annotated[
        int, Field(ge=0, description="batches that re-estimate the batch norms under noise at the end; 0: none")
    ] = 200
    norm_sigma: Annotated[
        float | None, Field(ge=0, le=10, description="sigma that they are estimated under; none: sigma_train")
    ] = None
    precision: Annotated[Literal["float32", "bfloat16"], Field(description="of products and signals")] = "bfloat16"
    images: Annotated[int | None, Field(ge=2, description="train on the first so many images only")] = None
    holdout: Annotated[
        int, Field(ge=0, description="training images, the last ones, to look at instead of training on them")
    ] = 0
    init: Annotated[
        str | None, Field(description="finished run folder, or ONNX file, whose weights the training starts from")
    ] = None
    adversarial_share: Annotated[
        float, Field(ge=0, le=1, description="share of each batch that is made adversarial; 0: none")
    ] = 0.0
    adversarial_eps: Annotated[float, Field(gt=0, description="radius of the attack's maximum-norm ball")] = 0.3
    adversarial_step: Annotated[float, Field(gt=0, description="length of an attack's step")] = 0.075
    adversarial_iterations: Annotated[int, Field(ge=1, description="steps of an attack")] = 10
    adversarial_start: Annotated[bool, Field(description="attacks begin at a random point of the ball")] = True
    adversarial_ramp_epochs: Annotated[
        float, Field(ge=0, description="epochs in which the ball grows linearly from nothing")
    ] = 1.5
    consistency: Annotated[
        float, Field(ge=0, description="weight of the divergence between an input's votes (Jeong and Shin 2020)")
    ] = 0.0
    mix_weight: Annotated[float, Field(ge=0, description="weight of SmoothMix's loss (Jeong et al. 2021)")] = 0.0
    mix_iterations: Annotated[int, Field(ge=1, description="steps of SmoothMix's attack")] = 4
    mix_step: Annotated[float, Field(gt=0, description="Euclidean length of its steps")] = 1.0
    mix_one_step: Annotated[bool, Field(description="SmoothMix mixes from the attack's first step on")] = False
    seed: Annotated[int, Field(ge=0, lt=2**63, description="root of every random number")] = 1

    @property
    def variant(self) -> str:
        """Name of the variant that this recipe makes, e.g. `mul-0.8`, `add-0.6` or, calibrated, `mul-0.0-at-0.4`.

        Adversarial training makes `robust` or, of part of each batch, `mix`; with noise `robust-mul-0.3`.
        """
        calibrated = "" if self.norm_sigma is None else f"-at-{self.norm_sigma}"
        noise = f"{self.noise[:3]}-{self.sigma_train}{calibrated}"
        if self.adversarial_share == 0:
            return noise
        kind = "robust" if self.adversarial_share == 1 else "mix"
        return kind if self.sigma_train == 0 and not calibrated else f"{kind}-{noise}"

    @property
    def model(self) -> str:
        """Name of the model that the variant belongs to: that of the network, of adversarial training its `-robust`."""
        return self.network if self.adversarial_share == 0 else f"{self.network}-robust"


class Purpose(IntEnum):
    """Names the uses of random streams, so that no two share numbers. Every result depends on the values."""

    WEIGHTS = 0
    ORDER = 1
    AUGMENTATION = 2
    NOISE = 3
    NORM_NOISE = 4
    TEST_NOISE = 5
    ATTACK = 6


def derived_seed(seed: int, purpose: Purpose, index: int = 0) -> int:
    """A 63-bit seed that depends on the root seed, the purpose and an index (such as the epoch), and on nothing else.

    As every random number of a run is a function of (seed, purpose, epoch), a checkpoint needs no generator states.
    """
    (word,) = np.random.SeedSequence([seed, purpose, index]).generate_state(1, np.uint64)
    return int(word) >> 1
