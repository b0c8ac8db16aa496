"""HTTP: what every protocol shares. Each protocol has a folder of its own."""
