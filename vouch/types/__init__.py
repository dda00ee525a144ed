"""The values that pass between the parts of vouch: frozen, typed, and free of any heavy import."""
