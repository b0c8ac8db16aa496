"""A model measured on data: votes become accuracies over sigma and votes. Needs no torch."""
