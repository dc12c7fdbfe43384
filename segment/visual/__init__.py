"""Pictures and surfaces of scans. Arrays in, arrays out."""
