"""What a data set asks for, how scans are prepared for it, and where prepared scans are kept."""
