"""Affines of slightly rotated scans, stored in any order of axes."""

import nibabel as nib
import numpy as np
from scipy.spatial.transform import Rotation

SHAPE = (4, 5, 6)


def affine_of(codes, spacing=(1.5, 2.0, 3.0), tilt=(0.05, -0.08, 0.06)):
    turn = np.zeros((3, 3))
    for axis, (world, sign) in enumerate(nib.orientations.axcodes2ornt(codes).astype(int)):
        turn[world, axis] = sign
    matrix = Rotation.from_rotvec(tilt).as_matrix() @ turn * spacing
    return nib.affines.from_matvec(matrix, [7.0, -11.0, 13.0])
