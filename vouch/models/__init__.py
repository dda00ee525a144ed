"""Generators and networks: how a model folder is read, loaded, compiled and asked for one denoising step."""
