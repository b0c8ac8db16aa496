"""Ways to run the service on more than one process: files for other programs, and `ray_serve.py`."""
