"""What SelfGNN's released code asks of TensorFlow 1 and TensorFlow 2 no longer has, so that it runs unchanged."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any


def provide() -> None:
    """Makes `import tensorflow` give TensorFlow 1's names, with the five of `tf.contrib` that the code uses."""
    import tensorflow

    tf: Any = tensorflow.compat.v1
    tf.disable_v2_behavior()
    layers = ModuleType("tensorflow.contrib.layers")

    def layer_norm(inputs: Any) -> Any:
        """Over all axes but the first, with ε = 1e-12; gain and bias are of the last axis."""
        size = [inputs.shape[-1]]
        gain, bias = tf.Variable(tf.ones(size), name="gamma"), tf.Variable(tf.zeros(size), name="beta")
        mean, variance = tf.nn.moments(inputs, list(range(1, len(inputs.shape))), keepdims=True)
        return tf.nn.batch_normalization(inputs, mean, variance, bias, gain, 1e-12)

    def xavier_initializer(uniform: bool = True, seed: int | None = None, dtype: Any = tf.float32) -> Any:
        return tf.glorot_uniform_initializer(seed=seed, dtype=dtype)

    layers.layer_norm, layers.xavier_initializer = layer_norm, xavier_initializer  # type: ignore[attr-defined]
    cells = tf.nn.rnn_cell
    names = ("BasicLSTMCell", "DropoutWrapper", "MultiRNNCell")
    tf.contrib = SimpleNamespace(layers=layers, rnn=SimpleNamespace(**{name: getattr(cells, name) for name in names}))
    sys.modules |= {"tensorflow": tf, "tensorflow.contrib": ModuleType("contrib"), layers.__name__: layers}
