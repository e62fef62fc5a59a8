"""Pure functions of arrays: distances, neighbours, diversity, similarity, disentanglement."""

