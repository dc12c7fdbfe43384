"""Engines: programs that compute a network in torch's place, and the files they read, which nobody needs to trust."""
