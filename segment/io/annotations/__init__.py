"""Annotations of drawing tools: LabelImg (Pascal VOC XML, YOLO), LabelMe, COCO and CVAT, and masks drawn from them.

Coordinates are continuous pixels: x to the right, y down, (0, 0) the upper left corner of the image, so that the centre
of its first pixel is (0.5, 0.5). A pixel belongs to a shape if its centre lies inside or on its border.
"""

from segment.io.annotations.shapes import Annotated, Annotations, Box, Shape

__all__ = ["Annotated", "Annotations", "Box", "Shape"]
