"""The Ray Serve deployments gateway, generation, reward, feedback, operations and web, and the system around them."""
