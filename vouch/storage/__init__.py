"""Where things lie: catalog, blobs, model versions, files that appear whole, and the state folder that holds them."""
