"""One request, whatever protocol it came by: read, checked, queued, answered, accounted for."""
