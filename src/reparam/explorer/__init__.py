"""A page in the browser on which a model's latent space is looked at and walked in: `reparam explore`."""
