"""Planning for a data set, preprocessing of scans, and the cache of prepared scans."""
