"""The process that runs Ray. `services.system` starts it, watches it, and ends whatever it leaves behind."""
