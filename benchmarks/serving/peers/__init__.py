"""Other servers around one diffusers pipeline, each a program: python -m benchmarks.serving.peers.NAME

They may live in another environment: nothing here imports vouch, nor what only vouch's environment has.
"""
