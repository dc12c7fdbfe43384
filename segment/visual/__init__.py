"""Pictures and surface meshes of scans, from arrays to arrays."""
