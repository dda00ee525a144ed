"""Ray Serve deployments: gateway, generation, reward, feedback, rollout, jobs and the web page."""
