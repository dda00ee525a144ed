"""Networks that both serving and training use. Each loads from a folder of safetensors and JSON."""
