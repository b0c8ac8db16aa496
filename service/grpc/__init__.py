"""The Open Inference Protocol by gRPC, on a port of its own; needs the extra `grpc`."""
