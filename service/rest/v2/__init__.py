"""The protocol of /v2: the Open Inference Protocol, with the extensions that Triton's clients use."""
