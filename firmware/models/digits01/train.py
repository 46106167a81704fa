"""Trains and quantizes digits01, and writes the held-out inputs that the lab measures with.

Run it outside of labd's own environment: TensorFlow is needed here and nowhere else.

    python3 -m venv /tmp/train && /tmp/train/bin/pip install tensorflow-cpu scikit-learn
    /tmp/train/bin/python firmware/models/digits01/train.py

All randomness is seeded and the network is trained on one thread, so the same versions of the packages give the same
bytes. Nothing of the held-out set is seen by training, by the choice of epochs or by the quantizer.
"""

from __future__ import annotations

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # its kernels choose the order of sums by the machine

from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf  # type: ignore[import-not-found]
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tensorflow.python.framework.convert_to_constants import (  # type: ignore[import-not-found]
    convert_variables_to_constants_v2,
)

SEED = 1797
HELD_OUT = 360
EPOCHS = 60
BATCH = 32
HERE = Path(__file__).resolve().parent
INPUTS = HERE.parents[2] / "labd" / "benchmarks" / "digits01" / "inputs.npz"

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]


def split() -> tuple[Images, Images, Labels, Labels]:
    """Images of shape (n, 8, 8, 1) in 0..1 and their classes: train, held out, train labels, held-out labels."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16.0).astype(np.float32).reshape(-1, 8, 8, 1)
    parts = train_test_split(
        images, labels.astype(np.uint8), test_size=HELD_OUT, random_state=SEED, stratify=labels, shuffle=True
    )
    return parts[0], parts[1], parts[2], parts[3]


def network() -> tf.keras.Model:
    """Two small convolutions, a maximum and an average pooling, one dense layer: 49 k multiply-adds."""
    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Conv2D(12, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(24, 3, padding="same", activation="relu"),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dense(10),
            layers.Softmax(),
        ]
    )


def shifted(images: Images, labels: Labels) -> tuple[Images, Labels]:
    """The images and their four neighbours, each moved by one pixel: the written digits are not well centred."""
    moves = [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)]
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    copies = [padded[:, 1 + dy : 9 + dy, 1 + dx : 9 + dx] for dy, dx in moves]
    return np.concatenate(copies), np.tile(labels, len(moves))


def quantize(model: tf.keras.Model, images: Images) -> bytes:
    """The model as int8 in, int8 out, with ranges taken from `images` and the batch fixed to one."""
    infer = tf.function(lambda x: model(x, training=False)).get_concrete_function(
        tf.TensorSpec((1, 8, 8, 1), tf.float32, name="image")
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([convert_variables_to_constants_v2(infer)])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None]] for image in images)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8
    return bytes(converter.convert())


def main() -> None:
    tf.keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)

    train, held_out, train_labels, held_out_labels = split()
    model = network()
    schedule = tf.keras.optimizers.schedules.CosineDecay(2e-3, EPOCHS * len(train) * 5 // BATCH)
    model.compile(tf.keras.optimizers.Adam(schedule), tf.keras.losses.SparseCategoricalCrossentropy())
    model.fit(*shifted(train, train_labels), batch_size=BATCH, epochs=EPOCHS, verbose=0)

    tflite = quantize(model, train)
    (HERE / "digits01.tflite").write_bytes(tflite)
    scale, zero = tf.lite.Interpreter(model_content=tflite).get_input_details()[0]["quantization"]
    pixels = np.clip(np.rint(held_out / scale) + zero, -128, 127).astype(np.int8).reshape(-1, 64)
    INPUTS.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(INPUTS, inputs=pixels, labels=held_out_labels)

    found = model.predict(held_out, verbose=0).argmax(axis=1)
    print(f"{len(tflite)} bytes; float top-1 on the {HELD_OUT} held-out images {np.mean(found == held_out_labels):.4f}")


if __name__ == "__main__":
    main()
