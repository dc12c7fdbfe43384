"""Tables, statistics, pictures and pages of finished runs, made from the files of their folders."""
