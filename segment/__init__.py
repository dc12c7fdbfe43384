"""segment: medical image segmentation experiments that can be compared and reproduced."""

__version__ = "0.1.0"
