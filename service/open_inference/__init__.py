"""The Open Inference Protocol, whatever it comes by: HTTP in `rest/v2/`, or gRPC."""
