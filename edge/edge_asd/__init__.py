"""edge-asd on the device: from samples to a verdict with NumPy and a TFLite interpreter.

    waveform --front_end--> log-mel --windows--> windows --model--> embeddings --mean--> clip embedding
             --bank--> anomaly score --threshold--> verdict --> event

The modules carry those names, in that order.
"""

from importlib.metadata import version

__version__ = version("edge-asd")
