"""HTTP connections: who may open them, what they may send and how long they may take."""
