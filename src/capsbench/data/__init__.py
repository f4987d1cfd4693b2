"""Data sets as LightningDataModules: images in memory as bytes, batches made at once, computed randomness.

The names are in `__init__.pyi`. Each is imported when it is first used, since many commands need no PyTorch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
