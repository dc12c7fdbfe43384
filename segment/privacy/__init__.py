"""What the files of a data set tell about patients beside their voxels, and copies that do not tell it."""
