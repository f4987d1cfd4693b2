"""A trained network without what trained it: its files, and what it says of pictures.

The names are in `__init__.pyi`. Each is imported when it is first used, since commands that list runs need no PyTorch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
