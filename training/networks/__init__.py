"""Networks with one noise operator after every matrix-vector product; `registry` knows them by name."""
