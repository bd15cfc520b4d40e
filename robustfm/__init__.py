__version__ = "0.1.0"

from robustfm._compat import watch_torchvision
watch_torchvision()
