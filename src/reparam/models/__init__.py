"""What a model is: latents, posteriors, priors, likelihoods, and how it is built from a recipe."""

