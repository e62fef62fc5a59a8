"""How a model is learned: the loop, its state, and what is trained after it."""

