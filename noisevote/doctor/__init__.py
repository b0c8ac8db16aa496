"""What `noisevote doctor` looks at: whether a server can run here, and as fast as this machine allows."""
