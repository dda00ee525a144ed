"""A miniature Stable Diffusion from nothing but a labelled image set."""
