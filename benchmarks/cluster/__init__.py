"""What a cluster has to hold: publishing races, the catalog at scale, manifests, alerts and capacity."""
