"""Networks as a list of layers, in Keras' words: every layer's backward pass is written beside its forward pass.

    from scratchnmt.sequential import Dense, LSTM, RepeatVector, Sequential, TimeDistributed
"""

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .callbacks import (
        Callback,
        CSVLogger,
        EarlyStopping,
        History,
        LambdaCallback,
        LearningRateScheduler,
        ModelCheckpoint,
        ReduceLROnPlateau,
    )
    from .core import Activation, Dense, Dropout, Embedding, Input, Masking, RepeatVector
    from .layer import Layer
    from .model import Sequential
    from .optimizers import SGD, Adam, RMSprop
    from .recurrent import LSTM, Bidirectional, TimeDistributed
    from .saving import load_model

__all__ = ["CSVLogger", "LSTM", "SGD", "Activation", "Adam", "Bidirectional", "Callback", "Dense", "Dropout",
           "EarlyStopping", "Embedding", "History", "Input", "LambdaCallback", "Layer", "LearningRateScheduler",
           "Masking", "ModelCheckpoint", "RMSprop", "ReduceLROnPlateau", "RepeatVector", "Sequential",
           "TimeDistributed", "load_model"]
__getattr__, __dir__ = lazy_names(__name__, {
    "callbacks": "CSVLogger Callback EarlyStopping History LambdaCallback LearningRateScheduler ModelCheckpoint "
                 "ReduceLROnPlateau",
    "core": "Activation Dense Dropout Embedding Input Masking RepeatVector",
    "layer": "Layer",
    "model": "Sequential",
    "optimizers": "Adam RMSprop SGD",
    "recurrent": "Bidirectional LSTM TimeDistributed",
    "saving": "load_model",
})
